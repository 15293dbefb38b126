"""The zoo's models, timed side by side."""

import json

import pytest
import torch

from benchmarks import model_zoo
from benchmarks.machine import machine
from benchmarks.zoo_throughput import COMPARED, section


def test_what_is_compared_by_default_is_in_the_zoo():
    assert set(COMPARED) <= set(model_zoo.zoo())


def test_speeds_say_what_they_depend_on(tmp_path):
    results = tmp_path / "results.json"
    names = ["splitmixer_ii_256_8", "dynamixer_nano"]
    options = ["--throughput", str(results), "--batch-sizes", "2", "3"]
    assert model_zoo.main([*names, *options]) == 0
    report = json.loads(results.read_text(encoding="utf-8"))
    assert [(r["batch_size"], r["model"]) for r in report["results"]] == [
        *((size, name) for size in (2, 3) for name in names)
    ]
    for result in report["results"]:
        assert len(result["seconds"]) == len(result["cpu_seconds"]) == 3
        assert min(*result["seconds"], *result["cpu_seconds"]) > 0
    assert not report["left_out"]
    text = section(report)
    threads = f"{torch.get_num_threads()} thread(s) on {machine()['cpu']}"
    for condition in ("batches of 2 and 3", "float32", threads, f"torch {torch.__version__}"):
        assert condition in text
    speed = 3 / sorted(report["results"][-1]["seconds"])[1]
    assert f"| {speed:.2f} |" in text


def test_an_interrupted_run_measures_what_is_missing_and_nothing_else(tmp_path, capsys):
    results = tmp_path / "results.json"
    options = ["--throughput", str(results), "--batch-sizes", "2"]
    names = ["splitmixer_ii_256_8", "dynamixer_nano"]
    assert model_zoo.main([*names, *options]) == 0
    whole = results.read_bytes()
    report = json.loads(whole)
    kept = report["results"][1]["seconds"] = report["results"][1]["seconds"][:1]
    del report["results"][1]["cpu_seconds"][1:]
    results.write_text(json.dumps(report), encoding="utf-8")
    assert model_zoo.main([*names, *options]) == 0
    again = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert again[0] == report["results"][0]
    assert again[1]["seconds"][:1] == kept
    assert len(again[1]["seconds"]) == len(again[1]["cpu_seconds"]) == 3
    complete = results.read_bytes()
    assert model_zoo.main([*names, *options]) == 0
    assert results.read_bytes() == complete
    with pytest.raises(SystemExit, match="2"):
        model_zoo.main([*names, *options, "3"])
    assert "has results with batch_sizes [2], and this is [2, 3]; delete" in capsys.readouterr().err


def test_what_does_not_fit_in_the_time_is_named(tmp_path):
    results = tmp_path / "results.json"
    options = ["--throughput", str(results), "--batch-sizes", "2", "--seconds", "0"]
    assert model_zoo.main(["splitmixer_ii_256_8", *options]) == 0
    report = json.loads(results.read_text(encoding="utf-8"))
    assert not report["results"]
    (left_out,) = report["left_out"]
    assert left_out["would_take_s"] > 0
    assert "Not in the 0 seconds given: splitmixer_ii_256_8 at 2." in section(report)
