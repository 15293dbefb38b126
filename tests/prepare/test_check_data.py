"""check_data: finds each damage, names it, and repairs just that."""

import json
import shutil
import tarfile

import pytest

from pipeline.formats.open import open_source
from pipeline.formats.shard_folder import INDEX_NAME
from tests.support.damage import break_tables, digests, flip, run_check
from tests.support.storage_servers import http_server
from tools.cli import exits
from tools.make_shards import main as make_shards


@pytest.fixture(scope="module", params=["checksums", "no checksums", "re-encoded"])
def made(request, image_folder, tmp_path_factory):
    """Shards of ten images. Read-only."""
    options = {
        "checksums": [],
        "no checksums": ["--no-checksums"],
        "re-encoded": ["--resize", "60", "--metadata"],
    }[request.param]
    output = tmp_path_factory.mktemp("made") / "shards"
    common = [str(image_folder), "--output", str(output), "--shard-samples", "10"]
    assert make_shards([*common, *options]) == 0
    return output


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


@pytest.fixture
def has_checksums(made):
    return json.loads((made / "train/manifest.json").read_bytes())["options"]["checksums"]


def _place(folder, number):
    """Return path, key and offset of a sample."""
    path, _, rest = open_source(folder).describe(number).partition(": ")
    key, _, offset = rest.rpartition(" at byte ")
    return folder / path.rpartition("/")[2], key, int(offset)


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_sound_shards_are_sound(made, capsys, deep):
    before = digests(made)
    assert run_check(capsys, made, *deep)[:2] == (0, [])
    assert digests(made) == before


def test_flipped_bit_is_found_and_the_image_is_named(shards, has_checksums, capsys):
    path, key, offset = _place(shards / "train", 7)
    flip(path, offset + 300)
    code, problems, _ = run_check(capsys, shards)
    if has_checksums:
        assert code == exits.BAD_INPUT
        assert [p["where"] for p in problems] == [f"{path.name}:{key}"]
    else:
        assert code == 0  # what was given up with --no-checksums


@pytest.mark.parametrize("extension", ["cls", "i4"])
def test_wrong_label_is_found_and_the_sample_is_named(shards, capsys, extension):
    path = shards / "val" / "val-000000.tar"
    with tarfile.open(path) as tar:
        member = next(m for m in tar if m.name.endswith(extension))
    flip(path, member.offset_data)
    code, [problem], _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert problem["where"] == f"val-000000.tar:{member.name.rpartition('.')[0]}"
    assert f"label member .{extension}" in problem["detail"]


def test_truncated_shard_names_the_images_behind_its_end(shards, capsys):
    path = shards / "train" / "train-000001.tar"
    _, key, offset = max(
        place for place in (_place(shards / "train", i) for i in range(62)) if place[0] == path
    )
    with path.open("r+b") as file:
        file.truncate(offset + 10)
    code, problems, _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    found = {(p["where"], p["kind"]) for p in problems}
    assert ("train-000001.tar", "shard of another size") in found
    assert (f"train-000001.tar:{key}", "damaged sample") in found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train-000002.tar", "missing shard"),
        ("train-000002.idx", "damaged DALI index"),
        (INDEX_NAME, "missing index"),
    ],
)
def test_missing_file_is_named(shards, capsys, name, kind):
    (shards / "train" / name).unlink()
    code, [problem], _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert (problem["where"], problem["kind"]) == (name, kind)


def test_image_that_was_bad_from_the_start_is_found_by_decoding(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    damaged = next((source / "val").glob("*/*"))
    break_tables(damaged)
    output = tmp_path / "out"
    assert make_shards([str(source), "--output", str(output)]) == 0
    assert run_check(capsys, output)[0] == 0
    code, [problem], _ = run_check(capsys, output, "--deep")
    assert code == exits.BAD_INPUT
    assert problem["where"] == f"val-000000.tar:{damaged.parent.name}/{damaged.stem}"


def test_repair_makes_just_the_damaged_shards_again(shards, made, image_folder, capsys):
    whole = digests(made)
    (shards / "train" / "train-000004.tar").unlink()
    (shards / "train" / "train-000002.idx").write_text("v1.2 0\n")
    (shards / "val" / "val-000001.tar").write_bytes(b"")
    (shards / "val" / INDEX_NAME).write_bytes(b"nonsense")
    untouched = {p: p.stat().st_mtime_ns for p in (shards / "train").glob("*[013567].tar")}
    code, problems, report = run_check(capsys, shards, "--repair", image_folder)
    assert code == 0
    assert problems
    repaired = [sorted(folder["repaired"]) for folder in report["folders"]]
    assert repaired == [
        ["train-000002.tar", "train-000004.tar"],
        [INDEX_NAME, "val-000001.tar"],
    ]
    assert digests(shards) == whole
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    assert run_check(capsys, shards, "--deep")[0] == 0


def test_lost_index_is_made_from_the_shards_alone(shards, made, tmp_path, capsys):
    (shards / "train" / INDEX_NAME).unlink()
    assert run_check(capsys, shards, "--repair", tmp_path)[0] == 0
    assert digests(shards) == digests(made)


def test_folder_of_images_is_decoded(image_folder, tmp_path, capsys):
    assert run_check(capsys, image_folder)[:2] == (0, [])
    source = shutil.copytree(image_folder, tmp_path / "source")
    image = next((source / "train").glob("*/*"))
    image.write_bytes(image.read_bytes()[:-40])
    (source / "val" / "n99").mkdir()
    code, problems, _ = run_check(capsys, source)
    assert code == exits.BAD_INPUT
    assert [(p["where"], p["kind"]) for p in problems] == [
        (f"{image.parent.name}/{image.name}", "damaged"),
        ("n99", "empty class"),
    ]


def test_without_its_manifest_nothing_is_sound_and_a_way_out_is_named(shards, capsys):
    (shards / "train" / "manifest.json").unlink()
    code, _, report = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert "train: manifest.json is missing" in report["error"]
    assert "remove the folder and run tools/make_shards.py again" in report["error"]


@pytest.mark.parametrize("target", ["shards", "ffcv"])
def test_unfinished_conversion_is_told_from_damage(image_folder, tmp_path, capsys, target):
    source = shutil.copytree(image_folder, tmp_path / "source")
    next((source / "train").glob("*/*")).write_bytes(b"no image")
    command = [str(source), "--output", str(tmp_path / "out"), "--split", "train"]
    assert make_shards([*command, "--format", target]) != 0
    code, _, report = run_check(capsys, tmp_path / "out")
    assert code == exits.BAD_INPUT
    assert "its conversion is not finished; run tools/make_shards.py again" in report["error"]


def test_what_is_no_data_set_of_its_own_is_told_what_to_name(image_folder, tmp_path, capsys):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "imagenet").symlink_to(image_folder)
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / "hub" / "data" / "train-00000-of-00001.parquet").touch()
    for place, words in (
        ("sets", f"one is checked at a time: tools/check_data.py {tmp_path}/sets/imagenet"),
        ("hub", "holds train-00000-of-00001.parquet, and check_data reads shards of make_shards"),
    ):
        code, problems, report = run_check(capsys, tmp_path / place)
        assert (code, problems) == (exits.BAD_INPUT, [])
        assert report["error"].startswith(f"{tmp_path / place}: ")
        assert words in report["error"]


def test_url_is_refused_as_what_it_is(capsys):
    code, _, report = run_check(capsys, "s3://bucket/shards")
    assert code == exits.BAD_INPUT
    assert report["error"].startswith("s3://bucket/shards: check_data reads local folders")


@pytest.fixture
def odd_shards(image_folder, tmp_path):
    """Shards of images whose names have blanks and line ends of Unicode in them."""
    picture = next((image_folder / "train").glob("*/*"))
    for number, blank in enumerate("\u3000\u00a0\u2028\u0085\u2003"):
        for split in ("train", "val"):
            folder = tmp_path / "source" / split / f"class{number}"
            folder.mkdir(parents=True)
            shutil.copy(picture, folder / f"a{blank}b{blank}.jpg")
    assert make_shards([str(tmp_path / "source"), "--output", str(tmp_path / "odd")]) == 0
    return tmp_path / "odd"


def test_names_with_blanks_of_unicode_are_no_damage(odd_shards, capsys):
    assert run_check(capsys, odd_shards)[:2] == (0, [])


def test_names_with_blanks_of_unicode_are_read_from_a_server(odd_shards, tmp_path):
    with http_server(odd_shards) as (url, _):
        assert make_shards([url, "--output", str(tmp_path / "copy")]) == 0
    assert digests(tmp_path / "copy").keys() == digests(odd_shards).keys()


@pytest.mark.parametrize("old", [" cls ", " i4 ", "v1.2 10"])
def test_damage_anywhere_in_the_index_of_dali_is_found(shards, capsys, old):
    path = shards / "train" / "train-000002.idx"
    path.write_text(path.read_text().replace(old, old.replace(old[-2], "9"), 1))
    code, problems, _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert [(p["where"], p["kind"]) for p in problems] == [(path.name, "damaged DALI index")]


def test_workers_find_what_one_process_finds(shards, capsys):
    (shards / "train" / "train-000002.tar").write_bytes(b"")
    (shards / "train" / "train-000005.tar").unlink()
    results = [run_check(capsys, shards / "train", "--workers", n)[1] for n in (1, 2)]
    assert results[0] == results[1]
    assert results[0]
