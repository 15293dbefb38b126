"""`bad_samples.jsonl`: what gray images stood in for, each once, whatever ends the run."""

import json

from pipeline.batch import BadSample
from trainer.record.bad_samples import BadSampleList, listed

BAD = BadSample(sample=7, key="n01/a", file="/data/0.tar: n01/a", reason="cut off", epoch=2)


def test_a_line_says_what_and_why(tmp_path):
    BadSampleList(tmp_path / "run", rank=0).add("train", BAD)
    (line,) = (tmp_path / "run" / "bad_samples.jsonl").read_text().splitlines()
    assert json.loads(line) == {"split": "train", **BAD._asdict()}


def test_an_epoch_that_is_done_again_lists_nothing_twice(tmp_path):
    for rank in (0, 1, 0):  # processes one after the other, also with another number of ranks
        bad = BadSampleList(tmp_path, rank=rank)
        bad.add("train", BAD)
        bad.add("train", BAD)
    assert len(listed(tmp_path)) == 1
    bad.add("train", BAD._replace(epoch=3))
    bad.add("val", BAD)
    assert len(listed(tmp_path)) == 3


def test_ranks_write_files_of_their_own(tmp_path):
    for rank in (0, 3):
        BadSampleList(tmp_path, rank=rank).add("train", BAD._replace(sample=rank))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bad_samples.jsonl", "bad_samples.3.jsonl"}


def test_a_line_that_a_kill_has_torn_spoils_no_other(tmp_path):
    (tmp_path / "bad_samples.jsonl").write_text('{"split": "train", "sam')
    BadSampleList(tmp_path, rank=0).add("train", BAD)
    assert [line["sample"] for line in listed(tmp_path)] == [7]
