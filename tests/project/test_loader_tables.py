"""The figures in docs/loader_speed.md are those of the committed raw results."""

import re

import pytest

from benchmarks import loader_tables
from benchmarks.bench_loader import Task, opened
from benchmarks.loader_peers.peers import MODULES, NAMES
from pipeline.errors import DataError


def test_the_page_has_every_table_and_no_other():
    text = loader_tables.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(loader_tables.tables(loader_tables.read()))


def test_the_page_is_made_from_the_committed_results():
    text = loader_tables.PAGE.read_text(encoding="utf-8")
    assert loader_tables.page(text, loader_tables.read()) == text


def test_the_committed_results_have_every_peer_or_why_not():
    peers = {run["peer"] for run in loader_tables.read()["runs"]}
    assert peers == set(NAMES)


@pytest.mark.parametrize("module", MODULES)
def test_every_peer_is_where_it_is_looked_for(module):
    if module == "spdl_threads":
        pytest.importorskip("spdl")
    found = pytest.importorskip(f"benchmarks.loader_peers.{module}")
    assert tuple(found.PEERS) == MODULES[module]


def run(peer="timm, uint8", **changes):
    measured = {"images": 100, "cpu_s": 0.5, "wall_s": 1.0}
    return {"kind": "speed", "peer": peer, "threads": 2, "round": 0, **measured, **changes}


def test_a_rate_is_the_median_of_the_rounds():
    runs = [run(cpu_s=seconds, round=number) for number, seconds in enumerate((0.5, 1.0, 4.0))]
    assert loader_tables.rate({"runs": runs}, "timm, uint8") == 100


def test_costs_are_differences_of_times():
    with_it, without = "timm, uint8, RandAugment", "timm, uint8"
    runs = [run(with_it, cpu_s=0.25), run(without, cpu_s=0.2)]
    line = "RandAugment and erasing, timm | 500 |"
    assert line in loader_tables.costs({"runs": runs})


def test_only_what_is_not_measured_is_measured_when_a_bench_goes_on():
    done = run(round=1)
    assert Task("speed", "timm, uint8", 2, 1).is_done([done])
    for other in (("speed", "timm, uint8", 2, 2), ("scaling", "timm, uint8", 2, 1)):
        assert not Task(*other).is_done([done])
    assert not Task("speed", "timm, uint8", 2, 1).is_done([{**done, "unavailable": "why"}])


def test_a_bench_goes_on_with_the_same_photographs_only(tmp_path):
    path = tmp_path / "results.json"
    assert opened(path, {"photographs": 3}) == {"about": {"photographs": 3}, "runs": []}
    path.write_text('{"about": {"photographs": 3, "load": 1}, "runs": [7]}')
    assert opened(path, {"photographs": 3, "load": 2})["runs"] == [7]
    with pytest.raises(DataError, match="photographs 3, and this is 4"):
        opened(path, {"photographs": 4})
