"""check_data: finds each damage, names it, and repairs just that."""

import hashlib
import json
import shutil
import tarfile

import pytest

from pipeline.formats import open_source
from pipeline.formats.index import INDEX_NAME
from tools.check_data import EXIT_DAMAGED, main
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


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _check(capsys, *arguments):
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code
    return code, [p for folder in report["folders"] for p in folder["problems"]], report


def _flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def _place(folder, number):
    """Return path, key and offset of a sample."""
    path, _, rest = open_source(folder).describe(number).partition(": ")
    key, _, offset = rest.rpartition(" at byte ")
    return folder / path.rpartition("/")[2], key, int(offset)


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_sound_shards_are_sound(made, capsys, deep):
    before = _digests(made)
    assert _check(capsys, made, *deep)[:2] == (0, [])
    assert _digests(made) == before


def test_flipped_bit_is_found_and_the_image_is_named(shards, has_checksums, capsys):
    path, key, offset = _place(shards / "train", 7)
    _flip(path, offset + 300)
    code, problems, _ = _check(capsys, shards)
    if has_checksums:
        assert code == EXIT_DAMAGED
        assert [p["where"] for p in problems] == [f"{path.name}:{key}"]
    else:
        assert code == 0  # what was given up with --no-checksums


@pytest.mark.parametrize("extension", ["cls", "i4"])
def test_wrong_label_is_found_and_the_sample_is_named(shards, capsys, extension):
    path = shards / "val" / "val-000000.tar"
    with tarfile.open(path) as tar:
        member = next(m for m in tar if m.name.endswith(extension))
    _flip(path, member.offset_data)
    code, [problem], _ = _check(capsys, shards)
    assert code == EXIT_DAMAGED
    assert problem["where"] == f"val-000000.tar:{member.name.rpartition('.')[0]}"
    assert f"label member .{extension}" in problem["detail"]


def test_truncated_shard_names_the_images_behind_its_end(shards, capsys):
    path = shards / "train" / "train-000001.tar"
    _, key, offset = max(
        place for place in (_place(shards / "train", i) for i in range(62)) if place[0] == path
    )
    with path.open("r+b") as file:
        file.truncate(offset + 10)
    code, problems, _ = _check(capsys, shards)
    assert code == EXIT_DAMAGED
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
    code, [problem], _ = _check(capsys, shards)
    assert code == EXIT_DAMAGED
    assert (problem["where"], problem["kind"]) == (name, kind)


def test_image_that_was_bad_from_the_start_is_found_by_decoding(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    damaged = next((source / "val").glob("*/*"))
    data = bytearray(damaged.read_bytes())
    tables = data.index(b"\xff\xc4")
    data[tables + 5 : tables + 21] = b"\xff" * 16
    damaged.write_bytes(data)
    output = tmp_path / "out"
    assert make_shards([str(source), "--output", str(output)]) == 0
    assert _check(capsys, output)[0] == 0
    code, [problem], _ = _check(capsys, output, "--deep")
    assert code == EXIT_DAMAGED
    assert problem["where"] == f"val-000000.tar:{damaged.parent.name}/{damaged.stem}"


def test_repair_makes_just_the_damaged_shards_again(shards, made, image_folder, capsys):
    whole = _digests(made)
    (shards / "train" / "train-000004.tar").unlink()
    (shards / "train" / "train-000002.idx").write_text("v1.2 0\n")
    (shards / "val" / "val-000001.tar").write_bytes(b"")
    (shards / "val" / INDEX_NAME).write_bytes(b"nonsense")
    untouched = {p: p.stat().st_mtime_ns for p in (shards / "train").glob("*[013567].tar")}
    code, problems, report = _check(capsys, shards, "--repair", image_folder)
    assert code == 0
    assert problems
    repaired = [sorted(folder["repaired"]) for folder in report["folders"]]
    assert repaired == [
        ["train-000002.tar", "train-000004.tar"],
        [INDEX_NAME, "val-000001.tar"],
    ]
    assert _digests(shards) == whole
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    assert _check(capsys, shards, "--deep")[0] == 0


def test_lost_index_is_made_from_the_shards_alone(shards, made, tmp_path, capsys):
    (shards / "train" / INDEX_NAME).unlink()
    assert _check(capsys, shards, "--repair", tmp_path)[0] == 0
    assert _digests(shards) == _digests(made)


def test_repair_from_another_source_is_refused(shards, image_folder, tmp_path, capsys):
    other = shutil.copytree(image_folder, tmp_path / "other")
    next((other / "train").glob("*/*")).unlink()
    (shards / "train" / "train-000000.tar").unlink()
    code, _, report = _check(capsys, shards, "--repair", other)
    assert code == EXIT_DAMAGED
    assert "the source is not the one" in report["folders"][0]["error"]


def test_repair_names_the_image_that_has_changed_in_the_source(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    output = tmp_path / "shards"
    assert make_shards([str(source), "--output", str(output)]) == 0
    image = next((source / "val").glob("*/*"))
    _flip(image, image.stat().st_size // 2)
    shard = output / "val" / "val-000000.tar"
    _flip(shard, 100_000)
    before = shard.read_bytes()
    code, _, report = _check(capsys, output, "--repair", source)
    assert code == EXIT_DAMAGED
    assert f"{image.parent.name}/{image.stem}" in report["folders"][1]["error"]
    assert shard.read_bytes() == before


def test_folder_of_images_is_decoded(image_folder, tmp_path, capsys):
    assert _check(capsys, image_folder)[:2] == (0, [])
    source = shutil.copytree(image_folder, tmp_path / "source")
    image = next((source / "train").glob("*/*"))
    image.write_bytes(image.read_bytes()[:-40])
    (source / "val" / "n99").mkdir()
    code, problems, _ = _check(capsys, source)
    assert code == EXIT_DAMAGED
    assert [(p["where"], p["kind"]) for p in problems] == [
        (f"{image.parent.name}/{image.name}", "cut off"),
        ("n99", "empty class"),
    ]


def test_unfinished_conversion_is_no_sound_data(shards, capsys):
    (shards / "train" / "manifest.json").unlink()
    code, _, report = _check(capsys, shards)
    assert code == EXIT_DAMAGED
    assert "holds shards but no manifest" in report["error"]


def test_workers_find_what_one_process_finds(shards, capsys):
    (shards / "train" / "train-000002.tar").write_bytes(b"")
    (shards / "train" / "train-000005.tar").unlink()
    results = [_check(capsys, shards / "train", "--workers", n)[1] for n in (1, 2)]
    assert results[0] == results[1]
    assert results[0]
