"""The least time of a model, and the bytes of an eager one, against sums done by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.model_cost import Peak, least_bytes, least_s, products, step_flops
from benchmarks.model_limits import measured_peaks, model_bytes
from benchmarks.model_limits.measured_peaks import measured_peak
from benchmarks.model_limits.model_bytes import ByteCounter
from benchmarks.model_timing import input_size, make_ours
from models.device_peaks import PEAKS, peaks_of


class Mixing(nn.Module):
    """Four tokens of six channels, mixed by a matrix that they generate."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Linear(6, 6)
        self.generate = nn.Linear(24, 16)
        self.out = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, 0]  # (B, 4, 6)
        values = self.values(x)
        matrix = self.generate(x.flatten(1)).view(-1, 4, 4).softmax(-1)
        return self.out(F.gelu(matrix @ values + x)).mean(1)


# For two images: operands and result of each product, in numbers; the matrix is in neither.
VALUES = 48 + 36 + 6 + 48
GENERATE = 48 + 384 + 16
MIX = 48 + 48
OUT = 48 + 18 + 3 + 24
FLOPS = (2 * 8 * 6 * 6, 2 * 2 * 24 * 16, 2 * 2 * 4 * 4 * 6, 2 * 8 * 6 * 3)


def counted(dtype: torch.dtype = torch.float32):
    return products(Mixing, input_size=(1, 4, 6), batch_size=2, dtype=dtype)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_generated_matrix_is_never_in_memory(dtype, size):
    assert [p.bytes for p in counted(dtype)] == [size * n for n in (VALUES, GENERATE, MIX, OUT)]
    assert tuple(p.flops for p in counted(dtype)) == FLOPS


def test_a_training_step_costs_three_passes_and_two_where_images_enter():
    passes = (2, 2, 3, 3)
    moved = [n * k for n, k in zip((VALUES, GENERATE, MIX, OUT), passes, strict=True)]
    assert least_bytes(counted(), training=True) == 4 * sum(moved)
    flops = [n * k for n, k in zip(FLOPS, passes, strict=True)]
    assert step_flops(counted(), training=True) == sum(flops)


def test_the_roofline_is_the_longer_of_arithmetic_and_memory_for_each_product():
    # At 2 operations a byte: the products of `values` and `out` are bound by arithmetic, the others
    # by memory.
    peak = Peak(matmul_flops_per_s=20, fma_flops_per_s=1, bytes_per_s=20, source="")
    by_hand = [
        max(f / 20, 4 * b / 20) for f, b in zip(FLOPS, (VALUES, GENERATE, MIX, OUT), strict=True)
    ]
    assert [f > 4 * b for f, b in zip(FLOPS, (VALUES, GENERATE, MIX, OUT), strict=True)] == [
        *(True, False, False, False)
    ]
    assert least_s(counted(), peak, training=False) == pytest.approx(sum(by_hand))


class Convolution(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(8, 8, 3, padding=1, groups=8)


def test_depthwise_convolutions_do_not_run_on_matrix_units():
    (product,) = products(Convolution, input_size=(8, 4, 4))
    assert product.is_depthwise
    peak = Peak(matmul_flops_per_s=1e9, fma_flops_per_s=10, bytes_per_s=1e9, source="")
    assert product.least_s(peak, training=False) == product.flops / 10


@pytest.mark.parametrize("name", ["dynamixer_nano", "lvvit_t"])
def test_operations_of_a_training_step_are_those_that_torch_counts(name):
    with torch.device("meta"):
        model = make_ours(name)
        images = torch.empty(1, *input_size(name))
    counter = FlopCounterMode(display=False)
    with counter:
        model(images).sum().backward()
    ours = products(lambda: make_ours(name), input_size=input_size(name))
    assert step_flops(ours, training=True) == counter.get_total_flops()


def test_eager_code_reads_and_writes_at_each_operation_that_is_no_view():
    with torch.device("meta"):
        model, images = Mixing(), torch.empty(2, 1, 4, 6)
    counter = ByteCounter()
    with torch.no_grad(), counter:
        model(images)
    matrix = 32
    by_hand = {
        "products": VALUES + GENERATE + matrix + MIX + matrix + OUT,
        "softmax": 2 * matrix,
        "elementwise": 3 * 48,
        "activations": 2 * 48,
        "sums": 24 + 6,
    }
    assert counter.bytes == {kind: 4 * n for kind, n in by_hand.items()}


def test_committed_bytes_are_those_of_the_models():
    report = json.loads(model_bytes.OUTPUT.read_text(encoding="utf-8"))
    assert [result["model"] for result in report["results"]] == list(model_bytes.MODELS)
    by_name = {result["model"]: result for result in report["results"]}
    name = "convmixer_256_8_ks7_p7"
    assert model_bytes.count(name) == by_name[name]


def test_no_model_moves_less_than_the_least():
    report = json.loads(model_bytes.OUTPUT.read_text(encoding="utf-8"))
    for result in report["results"]:
        for mode in ("inference", "training"):
            for variant in ("plain", "ours"):
                assert sum(result[mode][variant].values()) > result[mode]["least"]


def test_a_processors_peaks_are_measured(monkeypatch):
    monkeypatch.setattr(measured_peaks, "SIDE", 256)
    monkeypatch.setattr(measured_peaks, "COPIED_BYTES", 1 << 22)
    peak = measured_peak(torch.float32)
    assert peak.matmul_flops_per_s == peak.fma_flops_per_s
    assert 1e8 < peak.matmul_flops_per_s < 1e14
    assert 1e7 < peak.bytes_per_s < 1e14
    assert peak.source == "measured: a product of 256 x 256 matrices, a copy of 4 MiB"


@pytest.mark.parametrize(
    ("name", "gigabytes_per_s"),
    [
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100-SXM4-40GB", 1555),
        ("NVIDIA A100-PCIE-40GB", 1555),
        ("NVIDIA A100 80GB PCIe", 1935),
        ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA H200", 4800),
        ("NVIDIA L40S", 864),
        ("NVIDIA GeForce RTX 4090", 1008),
        ("NVIDIA GeForce RTX 5090", 1792),
    ],
)
def test_the_memory_of_each_device_is_known(name, gigabytes_per_s):
    peaks = peaks_of(name)
    assert peaks is not None
    assert peaks.bytes_per_s == gigabytes_per_s * 1e9


def test_every_peak_has_a_source():
    assert all(peaks.source.startswith("NVIDIA") for peaks in PEAKS.values())
