"""check_data --repair: what is called mended is whole, and what cannot be mended is named."""

import shutil

import pytest

from pipeline.formats.shard_folder import INDEX_NAME
from tests.support.damage import break_tables, digests, flip, run_check
from tools.cli import exits
from tools.make_shards import main as make_shards


@pytest.fixture(scope="module")
def made(image_folder, tmp_path_factory):
    """Shards of ten images of val. Read-only."""
    return _convert(image_folder, tmp_path_factory.mktemp("made") / "shards")


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


@pytest.fixture
def source(image_folder, tmp_path):
    return shutil.copytree(image_folder, tmp_path / "source")


def _convert(source, output, *options):
    arguments = [str(source), "--output", str(output), "--split", "val", *options]
    assert make_shards([*arguments, "--shard-samples", "10"]) == 0
    return output / "val"


def _key(image):
    return f"{image.parent.name}/{image.stem}"


def _errors(report):
    return "\n".join(error for folder in report["folders"] for error in folder["errors"])


def test_image_that_came_damaged_is_not_called_mended(source, tmp_path, capsys):
    image = next((source / "val").glob("*/*"))
    break_tables(image)
    shards = _convert(source, tmp_path / "shards")
    before = digests(shards)
    code, problems, report = run_check(capsys, shards, "--deep", "--repair", source)
    assert code == exits.BAD_INPUT
    [folder] = report["folders"]
    assert (folder["repaired"], folder["came_damaged"]) == ([], 1)
    assert folder["remaining"] == problems
    assert digests(shards) == before


def test_damage_since_is_mended_beside_an_image_that_came_damaged(source, tmp_path, capsys):
    images = sorted((source / "val").glob("*/*"))
    break_tables(images[0])
    shards = _convert(source, tmp_path / "shards")
    before = digests(shards)
    for tar in shards.glob("*.tar"):
        flip(tar, 2000)
    code, _, report = run_check(capsys, shards, "--deep", "--repair", source)
    [folder] = report["folders"]
    assert code == exits.BAD_INPUT
    assert len(folder["repaired"]) == 3
    assert [problem["where"].partition(":")[2] for problem in folder["remaining"]] == [
        _key(images[0])
    ]
    assert digests(shards) == before


def test_lost_index_does_not_hide_a_damaged_index_of_dali(shards, made, image_folder, capsys):
    (shards / INDEX_NAME).unlink()
    (shards / "val-000001.idx").write_text("v1.2 0\n")
    code, problems, report = run_check(capsys, shards, "--repair", image_folder)
    assert code == 0
    assert [p["kind"] for p in problems] == ["missing index", "damaged DALI index"]
    assert sorted(report["folders"][0]["repaired"]) == [INDEX_NAME, "val-000001.tar"]
    assert digests(shards) == digests(made)


def test_without_the_index_nothing_is_claimed_about_samples(shards, made, image_folder, capsys):
    (shards / INDEX_NAME).unlink()
    flip(shards / "val-000001.tar", 2000)
    code, problems, _ = run_check(capsys, shards, "--deep")
    assert code == exits.BAD_INPUT
    assert [(p["where"], p["kind"]) for p in problems] == [
        (INDEX_NAME, "missing index"),
        ("val-000001.tar", "damaged shard"),
    ]
    assert "which samples are damaged cannot be said without the index" in problems[1]["detail"]
    assert run_check(capsys, shards, "--repair", image_folder)[0] == 0
    assert digests(shards) == digests(made)


def test_index_of_other_shards_is_not_believed(shards, made, source, tmp_path, capsys):
    next((source / "val").glob("*/*")).unlink()
    other = _convert(source, tmp_path / "other")
    shutil.copy(other / INDEX_NAME, shards / INDEX_NAME)
    code, problems, _ = run_check(capsys, shards, "--deep")
    assert code == exits.BAD_INPUT
    assert [(p["where"], p["kind"]) for p in problems] == [(INDEX_NAME, "damaged index")]
    assert run_check(capsys, shards, "--repair", tmp_path)[0] == 0
    assert digests(shards) == digests(made)


def test_lost_index_and_damage_that_cannot_be_mended_are_both_told(shards, tmp_path, capsys):
    (shards / INDEX_NAME).unlink()
    (shards / "val-000001.tar").write_bytes(b"no tar")
    code, _, report = run_check(capsys, shards, "--repair", tmp_path / "nowhere")
    assert code == exits.BAD_INPUT
    assert "nowhere: no such folder" in _errors(report)
    assert len(report["folders"][0]["remaining"]) == 2


def _zeros(image):
    image.write_bytes(bytes(image.stat().st_size))


def _one_bit(image):
    flip(image, image.stat().st_size // 2)


@pytest.mark.parametrize("change", [_one_bit, _zeros])
def test_image_that_changed_in_the_source_is_named_and_the_shard_kept(
    shards, source, capsys, change
):
    for image in (source / "val").glob("*/*"):
        change(image)
    flip(shards / "val-000001.tar", 2000)
    before = digests(shards)
    code, problems, report = run_check(capsys, shards, "--repair", source)
    assert code == exits.BAD_INPUT
    assert "images that have changed in the source: n0" in _errors(report)
    assert "and 5 more" in _errors(report)
    assert report["folders"][0]["remaining"] == problems
    assert digests(shards) == before


def test_one_changed_image_does_not_keep_other_shards_from_being_mended(
    shards, made, source, capsys
):
    _zeros(next((source / "val").glob("*/*")))
    for tar in shards.glob("*.tar"):
        tar.write_bytes(b"")
    code, _, report = run_check(capsys, shards, "--repair", source)
    assert code == exits.BAD_INPUT
    [folder] = report["folders"]
    assert len(folder["repaired"]) == 2
    assert len(folder["errors"]) == 1
    same = digests(made).items() & digests(shards).items()
    assert len(same) == len(digests(made)) - 1


def _longer(image):
    image.write_bytes(image.read_bytes() + b" ")
    return f"{_key(image)}: {image.stat().st_size} bytes instead of {image.stat().st_size - 1}"


def _gone(image):
    image.unlink()
    return f"{_key(image)}: missing"


def _beside(image):
    shutil.copy(image, image.with_name("more.jpg"))
    return f"{image.parent.name}/more: new"


@pytest.mark.parametrize("change", [_longer, _gone, _beside])
def test_what_makes_it_another_source_is_named(shards, source, capsys, change):
    said = change(next((source / "val").glob("*/*")))
    (shards / "val-000000.tar").unlink()
    before = digests(shards)
    code, _, report = run_check(capsys, shards, "--repair", source)
    assert code == exits.BAD_INPUT
    assert f"the source is not the one that {shards} was made from" in _errors(report)
    assert f"; {said}" in _errors(report)
    assert digests(shards) == before


def test_image_that_was_left_out_is_no_change_of_the_source(source, tmp_path, capsys):
    images = sorted((source / "val").glob("*/*"))
    images[0].write_bytes(b"no image")
    shards = _convert(source, tmp_path / "shards", "--on-error", "skip")
    (shards / "val-000000.tar").unlink()
    images[1].unlink()
    _, _, report = run_check(capsys, shards, "--repair", source)
    assert _errors(report).endswith(f"; {_key(images[1])}: missing")


def test_lost_index_of_an_ffcv_file_is_not_made_from_it(image_folder, tmp_path, capsys):
    arguments = [str(image_folder), "--output", str(tmp_path), "--split", "val"]
    assert make_shards([*arguments, "--format", "ffcv"]) == 0
    (tmp_path / "val" / INDEX_NAME).unlink()
    code, _, report = run_check(capsys, tmp_path / "val", "--repair", image_folder)
    assert code == exits.BAD_INPUT
    assert "an FFCV file is made again as a whole, with its index: remove" in _errors(report)


def _listed(image_folder, tmp_path):
    paths = [path.relative_to(image_folder) for path in sorted(image_folder.glob("val/*/*"))]
    names = sorted({path.parts[1] for path in paths})
    lines = [f"{path},{names.index(path.parts[1])}" for path in paths]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label", *lines, ""]))
    (tmp_path / "names.txt").write_text("".join(f"the {name}\n" for name in names))
    return ["--list", f"val={tmp_path / 'mine.csv'}", "--classes", str(tmp_path / "names.txt")]


def test_shards_of_a_list_are_mended_with_the_list(image_folder, tmp_path, capsys):
    options = _listed(image_folder, tmp_path)
    shards = _convert(image_folder, tmp_path / "shards", *options)
    before = digests(shards)
    (shards / "val-000001.tar").unlink()
    assert run_check(capsys, shards, "--repair", image_folder)[0] == exits.BAD_INPUT
    assert run_check(capsys, shards, "--repair", image_folder, *options)[0] == 0
    assert digests(shards) == before


def test_list_without_repair_is_refused(image_folder, shards, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_check(capsys, shards, *_listed(image_folder, tmp_path))
    assert "no effect without --repair" in capsys.readouterr().err
