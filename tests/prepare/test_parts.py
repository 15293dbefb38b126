"""Shards written in parts are those of one run; parts refuse what would mix two conversions."""

import hashlib
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import OutputError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.parts import WHOLE, Part, claimed, parse_part
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.run import convert, merge
from pipeline.storage import locks
from tools.cli import exits
from tools.make_shards import main

LAYOUT = PlanConfig(shard_bytes=0, shard_samples=9)


def _silent(images, size_bytes):
    pass


def _settled():
    pass


def _conversion(source, output, layout=LAYOUT):
    return Conversion(
        scan=scan_class_folders(source), folder=output, split="train", plan_config=layout
    )


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def single_run(image_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("single") / "train"
    convert(_conversion(image_folder / "train", output), _silent)
    return output


@given(shards=st.integers(0, 200), count=st.integers(1, 20))
def test_every_shard_belongs_to_one_part(shards, count):
    parts = [list(Part(number, count).shards(shards)) for number in range(count)]
    assert sorted(chain(*parts)) == list(range(shards))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3/3", "x/3", "1", "-1/2", "1/0", "0/-2", "1/2/3", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match="a part is i/n"):
        parse_part(text)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_parts_and_merge_give_the_bytes_of_one_run(image_folder, single_run, tmp_path, count):
    conversion = _conversion(image_folder / "train", tmp_path / "train")
    for number in reversed(range(count)):
        assert convert(conversion, _silent, Part(number, count)) is None
    merge(conversion)
    assert _digests(tmp_path / "train") == _digests(single_run)


def test_merge_names_the_parts_that_are_missing(image_folder, tmp_path):
    conversion = _conversion(image_folder / "train", tmp_path / "train")
    convert(conversion, _silent, Part(1, 4))
    with pytest.raises(
        OutputError, match=r"5 of 7 shards are missing, such as train-000000.tar; .*: 0/4, 2/4, 3/4"
    ):
        merge(conversion)


def test_merge_of_a_finished_folder_changes_nothing(image_folder, single_run, tmp_path):
    conversion = _conversion(image_folder / "train", single_run)
    before = _digests(single_run)
    assert merge(conversion)["samples"] == 62
    assert _digests(single_run) == before


def test_run_without_parts_completes_what_parts_began(image_folder, single_run, tmp_path):
    conversion = _conversion(image_folder / "train", tmp_path / "train")
    convert(conversion, _silent, Part(0, 2))
    convert(conversion, _silent)
    assert _digests(tmp_path / "train") == _digests(single_run)


def test_parts_of_other_options_are_refused(image_folder, tmp_path):
    output = tmp_path / "train"
    convert(_conversion(image_folder / "train", output), _silent, Part(0, 2))
    other = _conversion(image_folder / "train", output, PlanConfig(order="kept"))
    with pytest.raises(OutputError, match="beginning of another conversion"):
        convert(other, _silent, Part(1, 2))


@pytest.mark.parametrize(
    ("held", "wanted", "refusal"),
    [
        (WHOLE, WHOLE, "another process is writing shards here"),
        (WHOLE, Part(0, 2), "another process is writing all shards here"),
        (Part(0, 2), WHOLE, "another process is writing shards here"),
        (Part(1, 2), Part(1, 2), "another process is writing part 1/2"),
        (Part(1, 2), Part(0, 3), "is being written in 2 parts, not 3"),
    ],
)
def test_writers_that_would_meet_refuse_each_other(tmp_path, monkeypatch, held, wanted, refusal):
    monkeypatch.setattr(locks, "PATIENCE_S", 0)
    with (
        claimed(tmp_path, held, _settled),
        pytest.raises(OutputError, match=refusal),
        claimed(tmp_path, wanted, _settled),
    ):
        pass


def test_different_parts_are_written_at_the_same_time(tmp_path):
    with claimed(tmp_path, Part(0, 3), _settled), claimed(tmp_path, Part(2, 3), _settled):
        pass
    with claimed(tmp_path, Part(0, 5), _settled):  # nobody is left: another division may begin
        pass


def test_command_line_writes_parts_and_merges_them(image_folder, single_run, tmp_path, capsys):
    def make_shards(*arguments):
        return main([str(image_folder), "--output", str(tmp_path / "out"), *arguments])

    assert make_shards("--part", "1/2") == 0
    assert make_shards("--merge") == exits.OUTPUT
    assert "run these parts (again): 0/2" in capsys.readouterr().err
    assert make_shards("--part", "0/2") == 0
    assert make_shards("--merge") == 0
    assert {"index.arrow", "manifest.json"} <= {p.name for p in (tmp_path / "out/val").iterdir()}
    with pytest.raises(SystemExit):
        make_shards("--part", "2/2")
    assert "a part is i/n with 0 <= i < n (parts are counted from 0), got 2/2" in (
        capsys.readouterr().err
    )
