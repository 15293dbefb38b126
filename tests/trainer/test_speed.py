"""What a run says of the hardware: peaks, utilization, memory, and a trace of some steps."""

import json

import pytest
import torch

from models.device_peaks import PEAKS, peaks_of
from trainer.process.speed import Utilization
from trainer.process.step_profile import StepProfile


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 5090", 209.5),
    ],
)
def test_devices_are_known_by_the_name_that_torch_gives_them(name, tflops):
    peaks = peaks_of(name)
    assert peaks is not None
    assert peaks.flops_per_s("bf16") == peaks.flops_per_s("fp16") == tflops * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA A1000",
        "Tesla K80",
    ],
)
def test_a_device_that_is_not_listed_is_unknown(name):
    assert peaks_of(name) is None


def test_more_bits_are_never_faster():
    for peaks in PEAKS.values():
        assert peaks.half > peaks.tf32 >= peaks.fp32
        assert peaks.flops_per_s("fp32", allow_tf32=True) == peaks.tf32
        assert peaks.flops_per_s("fp32") == peaks.fp32


@pytest.fixture
def on_a_100(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100-SXM4-80GB")
    return torch.device("cuda", 0)


def test_utilization_is_of_six_operations_a_multiply_add(on_a_100):
    # 312e12 / (6 * 1e9) images a second would be all of it.
    used = Utilization(on_a_100, macs=10**9, dtype="bf16", tf32=False)
    assert used.mfu(52_000) == pytest.approx(1.0)
    assert used.mfu(5_200) == pytest.approx(0.1)


def test_utilization_is_unknown_on_a_cpu_and_for_a_model_without_a_count(on_a_100):
    assert Utilization(torch.device("cpu"), macs=10**9, dtype="fp32", tf32=False).mfu(1) is None
    assert Utilization(on_a_100, macs=None, dtype="bf16", tf32=False).mfu(1) is None


@pytest.mark.parametrize(("ends_after", "traced"), [(9, 2), (6, 1)])
def test_a_trace_has_the_steps_that_were_asked_for(tmp_path, ends_after, traced):
    said = []
    trace = StepProfile(2, tmp_path, said.append)
    for step in range(1, ends_after + 1):
        with torch.profiler.record_function(f"our step {step}"):
            torch.ones(8).sum()
        trace.stepped(step)
    trace.close()
    (path,) = tmp_path.glob("profile_*.json")
    assert len(said) == 1
    assert str(path) in said[0]
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["name"] for event in events if event["name"].startswith("our step")}
    assert names == {f"our step {6 + number}" for number in range(traced)}


def test_a_run_that_is_too_short_to_be_traced_says_so(tmp_path):
    said = []
    trace = StepProfile(2, tmp_path, said.append)
    trace.stepped(1)
    trace.close()
    trace.close()
    assert said == ["run.profile: no trace, since this process did not get past step 5"]
    assert not list(tmp_path.iterdir())


def test_without_steps_to_trace_nothing_is_written(tmp_path):
    trace = StepProfile(0, tmp_path, pytest.fail)
    trace.stepped(1)
    trace.close()
    assert not list(tmp_path.iterdir())
