"""Every experiment on a GPU runs on a CPU, at tiny sizes; its raw results make the tables."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

import models
from benchmarks import bench_model
from benchmarks.gpu import (
    decode_parity,
    model_runs,
    pipeline_speed,
    stream_stress,
    table,
    train_step,
)
from benchmarks.gpu.frame import experiment
from benchmarks.gpu.frame.experiment import UnavailableError
from benchmarks.gpu.measured_tables import NOTHING
from pipeline.batch import Batch

ROOT = Path(__file__).parents[2]
CPU = ("--device", "cpu", "--output")


def start(module: str, folder: Path) -> "subprocess.Popen[str]":
    """Start an experiment in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", f"benchmarks.gpu.{module}"),
            *(*CPU, str(folder / f"{module}.json")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> None:
    said, _ = process.communicate()
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The raw results of all experiments that take seconds."""
    folder = tmp_path_factory.mktemp("results")
    others = [start(module, folder) for module in ("kernel_speed", "train_step")]
    try:
        for module in (decode_parity, stream_stress, pipeline_speed):
            output = folder / f"{module.__name__.rpartition('.')[2]}.json"
            assert experiment.main(module.__doc__, module.cases, [*CPU, str(output)]) == 0
    finally:
        for process in others:
            end(process)
    return folder


@pytest.fixture
def cases(results):
    def of(module):
        return json.loads((results / f"{module}.json").read_text("utf-8"))["cases"]

    return of


@pytest.mark.parametrize("kind", decode_parity.KINDS)
@pytest.mark.parametrize("split", decode_parity.SPLITS)
def test_decoders_on_the_cpu_are_near_pil(cases, kind, split):
    found = cases("decode_parity")[f"{kind}, {split}"]["decoders"]
    assert set(found) == {"DALI, CPU", "host"}
    for decoder in found.values():
        assert decoder["mean"] < 0.6


def test_a_file_without_pixels_is_refused_by_all(cases):
    said = cases("decode_parity")["ends after its header"]["refusals"]
    assert set(said) == {"PIL", "DALI, CPU", "host"}
    assert all("cannot be decoded" in text for text in said.values())


def test_batches_that_nobody_waits_for_are_the_same(cases):
    found = cases("stream_stress")
    assert set(found) == set(stream_stress.LOADERS)
    for case in found.values():
        assert case["batches"] == 3
        assert case["mismatches"] == []


def test_a_checksum_sees_two_pixels_that_change_places():
    images = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)
    swapped = images.flip(3)
    sums = [
        stream_stress.checksum(Batch(pixels, torch.zeros(1), torch.zeros(1))).tolist()
        for pixels in (images, swapped)
    ]
    assert stream_stress.mismatches(sums[:1], sums[:1]) == []
    assert stream_stress.mismatches(sums[:1], sums[1:]) == [0]


def test_kernels_are_held_to_float32(cases):
    found = cases("kernel_speed")
    assert len(found) == 4
    for case in found.values():
        assert max(case["largest_relative_differences"]["kernel"]) < 1e-5
        assert set(case["step_ms"]) == {"plain", "compiled", "kernel"}


def test_a_step_is_beside_plain_pytorch_and_with_single_settings(cases):
    found = cases("train_step")
    assert set(found["dynamixer_s, eager"]["step_ms"]) == {"plain PyTorch", "stage 0", "stage 1"}
    settings = found[train_step.SETTINGS]
    assert set(train_step.DEEPSPEED_SETTINGS) < set(settings["step_ms"])
    for case in (found["dynamixer_s, eager"], settings):
        assert all(profile["operations"] for profile in case["profiles"].values())


def test_waits_are_counted_within_steps_alone():
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(2):
            with record_function("one step"), record_function("cudaStreamSynchronize"):
                torch.ones(1)
        with record_function("cudaDeviceSynchronize"):
            torch.ones(1)
    assert train_step.waits(list(profiler.events())) == 2


def event(name, start, end, device_type=DeviceType.CPU):
    return FunctionEvent(
        id=0, name=name, thread=0, start_us=start, end_us=end, device_type=device_type
    )


def test_what_a_gpu_says_of_a_step_is_no_span_of_the_host():
    events = [
        event("one step", 0, 10),
        event("cudaStreamSynchronize", 5, 6),
        event("one step", 4, 40, DeviceType.CUDA),  # its own work of that step, later
        event("cudaDeviceSynchronize", 12, 40),
    ]
    assert train_step.waits(events) == 1


def test_the_pipeline_counts_images(cases):
    for case in cases("pipeline_speed").values():
        assert case["images_per_s"] > 1
        assert case["jpeg_engine_percent"] is None


def test_batches_flow_while_the_driver_is_asked(tmp_path, monkeypatch):
    driver, answer = tmp_path / "nvidia-smi", tmp_path / "answer"
    driver.write_text(f"#!/bin/sh\nuntil [ -e {answer} ]; do sleep 0.01; done\necho 37\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def batches():
        for _ in range(50):
            time.sleep(0.01)
            yield None
        answer.touch()  # told only when so many have been taken
        while True:
            time.sleep(0.01)
            yield None

    assert pipeline_speed._engine_use(batches()) == "37"


def test_the_tables_show_what_is_there_and_name_what_is_not(results, tmp_path):
    page = tmp_path / "gpu_speed.md"
    assert table.main(["--results", str(results), "--page", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "decode_parity, kernel_speed, pipeline_speed, stream_stress, train_step: a CPU" in text
    assert "| decoded on the device | 3 | 4 | 0 |" in text
    (row,) = (x for x in text.splitlines() if x.startswith("| mixing C192 L32 |"))
    assert NOTHING not in row
    assert "<!-- cifar -->\n\nNot measured yet.\n" in text


def test_results_of_others_do_not_come_into_the_page(results, capsys):
    assert table.main(["--results", str(results)]) == 2
    assert "name another --page" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["first_contact", "end_to_end", "engine_state", "model_speed", "cifar"]
)
def test_experiments_that_start_programs_run_too(module, tmp_path):
    end(start(module, tmp_path))
    (case,) = json.loads((tmp_path / f"{module}.json").read_text("utf-8"))["cases"].values()
    page = tmp_path / "gpu_speed.md"
    assert table.main(["--results", str(tmp_path), "--page", str(page)]) == 0
    assert f"{module}: a CPU" in page.read_text("utf-8")
    assert case["took_s"] > 0


def test_bench_model_takes_what_it_is_told():
    parser = bench_model._parser()
    for run in model_runs.RUNS.values():
        found = parser.parse_args([run.model, "--modes", run.mode, *run.options])
        assert set(found.names) <= set(models.names())


class Counted:
    """Cases that count how often they are measured."""

    def __init__(self, **outcomes):
        self.calls = dict.fromkeys(outcomes, 0)
        self.outcomes = outcomes

    def __call__(self, arguments):
        return {name: lambda name=name: self.measure(name) for name in self.outcomes}

    def measure(self, name):
        self.calls[name] += 1
        outcome = self.outcomes[name]
        if isinstance(outcome, BaseException):
            raise outcome
        return {"value": outcome}


def test_a_case_that_fails_is_written_and_tried_again_and_the_others_are_kept(tmp_path):
    output = tmp_path / "raw.json"
    cases = Counted(first=1, broken=RuntimeError("no"), absent=UnavailableError("here"), last=2)
    assert experiment.main("", cases, [*CPU, str(output)]) == 1
    written = json.loads(output.read_text("utf-8"))["cases"]
    assert written["broken"]["failed"] == "RuntimeError: no"
    assert written["absent"]["unavailable"] == "here"
    assert written["last"]["value"] == 2
    cases.outcomes["broken"] = 3
    assert experiment.main("", cases, [*CPU, str(output)]) == 0
    assert cases.calls == {"first": 1, "broken": 2, "absent": 1, "last": 1}


def test_an_interruption_keeps_what_is_measured(tmp_path):
    output = tmp_path / "raw.json"
    cases = Counted(first=1, second=KeyboardInterrupt(), third=3)
    assert experiment.main("", cases, [*CPU, str(output)]) == 75
    assert list(json.loads(output.read_text("utf-8"))["cases"]) == ["first"]
    cases.outcomes["second"] = 2
    assert experiment.main("", cases, [*CPU, str(output)]) == 0
    assert cases.calls == {"first": 1, "second": 2, "third": 1}


def test_results_of_other_versions_are_not_mixed(tmp_path, capsys):
    output = tmp_path / "raw.json"
    assert experiment.main("", Counted(first=1), [*CPU, str(output)]) == 0
    report = json.loads(output.read_text("utf-8"))
    report["about"]["torch"] = "1.0"
    output.write_text(json.dumps(report))
    assert experiment.main("", Counted(first=1, second=2), [*CPU, str(output)]) == 2
    assert "has results with torch '1.0'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_remedy_is_named(tmp_path, capsys):
    assert experiment.main("", Counted(first=1), ["--output", str(tmp_path / "raw.json")]) == 2
    assert "--device cpu tries a script out" in capsys.readouterr().err
