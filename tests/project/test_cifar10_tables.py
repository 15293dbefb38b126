"""The figures of docs/recipes.md and the README are those of the committed raw run."""

import json
import shutil

import pytest

from benchmarks.cifar10 import record, tables


def test_the_pages_are_made_from_the_committed_results():
    report = tables.read()
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text, report) == text
    assert tables.top1_table(report) in text
    assert tables.row(report) in tables.README.read_text(encoding="utf-8")


def test_the_committed_run_is_complete_and_the_authors_recipe_but_for_its_length():
    report = tables.read()
    schedule = report["recipe"]["schedule"]
    evaluations = [event for event in report["events"] if event["event"] == "eval"]
    assert [event["epoch"] for event in evaluations] == list(range(schedule["epochs"]))
    assert report["summary"]["top1"] == evaluations[-1]["top1"]
    assert report["summary"]["count"] == 10_000
    assert report["recipe"]["batch"]["global_size"] == 512
    assert (report["recipe"]["optim"]["lr"], schedule["shape"]) == (0.05, "onecycle")


def test_a_run_without_an_end_is_not_kept(tmp_path, capsys):
    shutil.copy(tables.RESULTS / "recipe.yaml", tmp_path)
    with pytest.raises(SystemExit):
        record.main([str(tmp_path)])
    assert "has no metrics.jsonl, summary.json" in capsys.readouterr().err


def test_stops_are_counted():
    report = tables.read()
    again = {**report, "events": [*report["events"], json.loads('{"event": "start"}')]}
    assert "gone on with" in tables.run_sentence(again)
