"""The figures in docs/engine_speed.md are those of the committed raw results."""

import re

import pytest

from benchmarks.engine import tables
from benchmarks.engine.bench_engine import START_UPS, STEPS


def test_the_page_has_every_table_and_no_other():
    text = tables.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(tables.tables(tables.read()))


def test_the_page_is_made_from_the_committed_results():
    text = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page(text, tables.read()) == text


@pytest.mark.skipif(tables.read() is None, reason="nothing has been measured yet")
def test_the_committed_results_are_complete():
    report = tables.read()
    assert report is not None
    assert [(run["case"], run["ranks"]) for run in report["steps"]] == [task[:2] for task in STEPS]
    assert [run["compile"] for run in report["start_up"]] == list(START_UPS)


def run(plain, ours):
    wall = {"plain": plain, **dict.fromkeys(tables.STAGES, ours)}
    return {
        "case": "a",
        "ranks": 1,
        "images_per_rank": 8,
        "tensors": 494,
        "seconds": {"wall": wall, "cpu": wall},
    }


def test_a_ratio_is_taken_within_a_round():
    # A neighbour doubles the second round and the third: all ratios are 1.1.
    assert tables.ratio(run([1.0, 2.0, 4.0], [1.1, 2.2, 4.4]), "stage 0") == pytest.approx(1.1)


def test_host_work_is_the_difference_within_a_round():
    assert tables.host_ms(run([1.0, 2.0, 3.0], [1.002, 2.004, 3.003]), "stage 1") == pytest.approx(
        3
    )


def test_the_narrow_model_is_of_the_host_table_alone():
    narrow = {**run([0.04], [0.042]), "case": tables.NARROW}
    report = {"steps": [run([0.1], [0.12]), narrow]}
    assert "| a | 1 | 8 | 100 | 1.20 |" in tables.steps(report)
    assert tables.NARROW not in tables.steps(report)
    assert "ms a step, 494 tensors | 2.0 |" in tables.host(report)
