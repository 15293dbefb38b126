"""The manifest covers itself, the counts and the report: whatever is changed is found."""

import json
import shutil

import pytest

from pipeline.errors import DataError
from pipeline.prepare.conversion.manifest import checksum, read_manifest, write_manifest
from tests.support.damage import run_check
from tools.cli import exits
from tools.make_shards import main as make_shards


@pytest.fixture(scope="module")
def made(image_folder, tmp_path_factory):
    """Shards of val with a report, for one image is left out. Read-only."""
    output = tmp_path_factory.mktemp("made")
    source = shutil.copytree(image_folder, output / "source")
    next((source / "val").glob("*/*")).write_bytes(b"no image")
    options = ["--split", "val", "--on-error", "skip"]
    assert make_shards([str(source), "--output", str(output / "shards"), *options]) == 0
    return output / "shards" / "val"


@pytest.fixture
def shards(made, tmp_path):
    return shutil.copytree(made, tmp_path / "val")


def _manifest(shards):
    return json.loads((shards / "manifest.json").read_bytes())


def _first_class(manifest):
    return next(iter(manifest["class_counts"]))


def _change(path, value):
    def change(manifest):
        *path_above, last = [_first_class(manifest) if key == "CLASS" else key for key in path]
        for key in path_above:
            manifest = manifest[key]
        manifest[last] = value

    return change


COUNTS = [
    (("class_counts", "CLASS"), 99),
    (("samples",), 777),
    (("bytes",), 1),
    (("index", "samples"), 3),
    (("shards", 0, "samples"), 3),
]


@pytest.mark.parametrize(
    ("path", "value"), [*COUNTS, (("software",), "other"), (("left_out",), [])]
)
def test_a_changed_manifest_is_no_sound_one(shards, capsys, path, value):
    manifest = _manifest(shards)
    _change(path, value)(manifest)
    (shards / "manifest.json").write_text(json.dumps(manifest))
    code, _, report = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert "manifest.json: damaged: its checksum, sha256, does not hold" in report["error"]
    assert "restore it from a copy; if there is none, remove the folder" in report["error"]


@pytest.mark.parametrize(("path", "value"), COUNTS)
def test_counts_that_the_index_denies_are_found_though_the_checksum_holds(
    shards, capsys, path, value
):
    manifest = _manifest(shards)
    _change(path, value)(manifest)
    manifest["sha256"] = checksum(manifest)
    write_manifest(shards, manifest)
    code, problems, _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert {(p["where"], p["kind"]) for p in problems} == {("manifest.json", "wrong manifest")}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"version": 1}', "damaged: format is missing"),
        ("[]", "not a readable manifest"),
        ("[" * 100_000, "not a readable manifest"),
        ('{"version": 1, "format": 3}', "damaged: format: expected str, got 3"),
    ],
)
def test_what_has_not_the_form_of_a_manifest_is_refused_by_both_tools(
    shards, image_folder, capsys, content, fault
):
    (shards / "manifest.json").write_text(content)
    code, _, report = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert f"manifest.json: {fault}" in report["error"]
    output = str(shards.parent)
    arguments = [str(image_folder), "--output", output, "--split", "val"]
    assert make_shards(arguments) == exits.BAD_INPUT
    assert f"manifest.json: {fault}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("samples",), True, "samples: expected int, got True"),
        (("class_counts", "CLASS"), "9", "class_counts['n01440764']: expected int, got '9'"),
        (("shards",), {}, "shards: expected a list, got {}"),
        (("shards",), [], "shards has none"),
        (("shards", 0), 3, "shards[0]: expected an object, got 3"),
        (("shards", 0), {"name": "a"}, "shards[0].samples is missing"),
        (("shards", 0, "name"), "../a.tar", "the shard '../a.tar' is not a file in the same"),
        (("options", "codec"), None, "options['codec']: expected str or int or float or bool"),
    ],
)
def test_the_key_that_has_not_the_right_form_is_named(shards, path, value, fault):
    manifest = _manifest(shards)
    _change(path, value)(manifest)
    manifest["sha256"] = checksum(manifest)
    write_manifest(shards, manifest)
    with pytest.raises(DataError) as refused:
        read_manifest(shards)
    assert f"manifest.json: damaged: {fault}" in str(refused.value)


def test_shards_that_lost_their_manifest_are_refused_with_a_way_out(shards, image_folder, capsys):
    (shards / "manifest.json").unlink()
    arguments = [str(image_folder), "--output", str(shards.parent), "--split", "val"]
    assert make_shards(arguments) == exits.OUTPUT
    said = capsys.readouterr().err
    assert "holds shards without their manifest.json, restore that from a copy, or remove" in said


def _delete(path):
    path.unlink()


def _append(path):
    path.write_bytes(path.read_bytes() + b"left out\n")


@pytest.mark.parametrize(("damage", "kind"), [(_delete, "missing"), (_append, "damaged")])
def test_a_report_that_is_not_the_one_that_was_written_is_found(shards, capsys, damage, kind):
    damage(shards / "report.tsv")
    code, problems, _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert [(p["where"], p["kind"]) for p in problems] == [("report.tsv", f"{kind} report")]


def test_a_report_of_which_the_manifest_knows_nothing_is_found(shards, capsys):
    manifest = _manifest(shards)
    manifest["report_sha256"] = ""
    manifest["sha256"] = checksum(manifest)
    write_manifest(shards, manifest)
    code, [problem], _ = run_check(capsys, shards)
    assert code == exits.BAD_INPUT
    assert problem["detail"] == "the manifest knows of none; remove it"
