"""`tools/report_run.py`: of runs that are complete, under way, just begun, and not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import report_run

ROOT = Path(__file__).parents[2]

STEP = {"event": "step", "epoch": 1, "lr": 0.1, "images_per_s": 50.0, "data_wait_s": 0.0}
SUMMARY = {
    "top1": 98.5,
    "top5": 100.0,
    "count": 360,
    "images_per_s": 450.0,
    "data_wait_fraction": 0.021,
    "steps": 100,
    "epochs": 5,
    "wall_s": 83.0,
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("model: {name: dynamixer_nano}\n")
    return folder


def report(capsys, *arguments, code=0):
    assert report_run.main([*map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_a_complete_run_tells_its_result_and_the_next_commands(run, capsys):
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    told = report(capsys, run)
    assert "mine: complete" in told
    assert "98.50 % of 360 images" in told
    assert f"python tools/validate.py {run}" in told
    assert f"python tools/export_weights.py {run} --format hub" in told


@pytest.mark.parametrize(
    ("fraction", "sentences"),
    [
        (0.02, ("waited for data 2.0 % of the time: it is the bottleneck itself",)),
        (0.2, ("20.0 % of the time", "1.25 times as fast", "data.threads", "bench_loader.py")),
    ],
)
def test_a_complete_run_says_whether_data_held_it_up(run, capsys, fraction, sentences):
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "data_wait_fraction": fraction}))
    told = report(capsys, run)
    for sentence in sentences:
        assert sentence in told


def test_an_unfinished_run_tells_how_far_it_is_and_how_it_goes_on(run, capsys):
    rows = [
        {**STEP, "step": 10, "loss": 2.5, "grad_norm": 1.0},
        {"event": "eval", "step": 10, "epoch": 0, "top1": 40.0, "top5": 80.0, "count": 7}
        | {"ema": False},
        {"event": "save", "step": 10, "epoch": 1, "path": "x"},
        {**STEP, "step": 12, "loss": 1.25, "grad_norm": 1.0},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(lines + '{"event": "step", "st')
    told = report(capsys, run)
    assert "mine: not complete" in told
    for text in ("12 steps", "1.2500", "40.00 % of 7 images", "of step 10"):
        assert text in told
    assert f"deepspeed launch.py --config {run / 'recipe.yaml'}" in told
    state = json.loads(report(capsys, run, "--json"))
    assert (state["steps"], state["saved_step"], state["top1"]) == (12, 10, 40.0)


def test_the_page_lies_in_the_run_and_that_of_several_beside_them(run, capsys):
    told = report(capsys, run)
    assert f"report: {run / 'report.html'}" in told
    assert "<title>mine</title>" in (run / "report.html").read_text()
    other = run.parent / "other"
    other.mkdir()
    (other / "recipe.yaml").write_text("model: {name: dynamixer_nano}\n")
    told = report(capsys, run, other)
    assert f"report: {run.parent / 'report.html'}" in told
    assert "<title>mine, other</title>" in (run.parent / "report.html").read_text()
    report(capsys, run, "--output", run.parent / "page.html")
    assert (run.parent / "page.html").exists()
    assert "exists" in report(capsys, run, "--output", run.parent / "page.html", code=73)
    log = run / "metrics.jsonl"
    assert "suffix" in report(capsys, run, "--output", log, "--force", code=2)


def test_runs_of_one_name_are_called_by_their_paths(run, capsys):
    other = run.parents[1] / "elsewhere" / "mine"
    other.mkdir(parents=True)
    (other / "recipe.yaml").write_text("model: {name: dynamixer_nano}\n")
    report(capsys, run, other)
    assert f"<title>{run}, {other}</title>" in (run.parent / "report.html").read_text()


def test_scripts_get_the_state_of_each_run_and_no_page(run, capsys):
    told = report(capsys, run, run, "--json")
    assert [json.loads(line)["state"] for line in told.splitlines()] == ["not complete"] * 2
    assert not list(run.rglob("*.html"))


def test_a_damaged_file_of_a_run_is_named(run, capsys):
    (run / "metrics.jsonl").write_text('{"event": "note", "step": 1, "text": ""}\n{]}\n')
    assert "metrics.jsonl:2: not JSON" in report(capsys, run, code=2)


def test_an_event_of_something_else_is_named(run, capsys):
    (run / "metrics.jsonl").write_text('{"event": "note", "step": 1, "text": ""}\n{}\n')
    assert "metrics.jsonl:2: not an event of a run" in report(capsys, run, code=2)


def test_the_page_is_written_where_nobody_reads_the_words(run):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "tools.report_run", str(run)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert (run / "report.html").exists()


def test_a_run_that_has_just_begun_is_told_as_such(run, capsys):
    assert "nothing is logged yet" in report(capsys, run)


def test_a_run_that_is_not_there_is_told_with_those_that_are(run, capsys):
    error = report(capsys, run.parent / "yours", code=2)
    assert "there is no such run" in error
    assert "has mine" in error


def test_a_folder_of_something_else_is_no_run(tmp_path, capsys):
    assert "no recipe.yaml" in report(capsys, tmp_path, code=2)
