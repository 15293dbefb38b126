"""The rule by which weights that are indexed by positions go to another grid."""

from pathlib import Path

import pytest
import timm
import torch

from models.layers.adaptive_mixing import AdaptiveMixing
from models.layers.mixing_matrices import make_op
from models.layers.resampling import resample
from models.vip import PermuteLinear
from models.weights.checkpoint_files import Stored, WeightsError
from models.weights.checkpoints import convert
from tests.support.small_models import randomise


@pytest.mark.parametrize("size", [3, 7, 8, 9, 20])
def test_a_constant_stays_constant(size):
    weight = torch.full((8, 5), 2.5, dtype=torch.float64)
    expected = torch.full((size, 5), 2.5, dtype=torch.float64)
    torch.testing.assert_close(resample(weight, (0,), size), expected)


def test_the_same_size_changes_nothing():
    weight = torch.randn(6, 6)
    assert torch.equal(resample(weight, (0, 1), 6), weight)


@pytest.mark.parametrize("size", [16, 5])
def test_a_ramp_stays_a_ramp_over_the_same_interval(size):
    centres = (torch.arange(10, dtype=torch.float64) + 0.5) / 10
    expected = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    inner = slice(2, size - 2)  # beyond the outermost centres there is nothing to interpolate
    torch.testing.assert_close(resample(centres, (0,), size)[inner], expected[inner])


def test_two_positions_are_interpolated_bilinearly():
    weight = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(weight, size=(9, 9), mode="bilinear")
    torch.testing.assert_close(resample(weight, (2, 3), 9), expected)


def loaded(new, old):
    """`new` with the weights of `old`, which is of another grid."""
    new.load_state_dict(randomise(old).state_dict())
    return new


def smooth(length, channels):
    """Tokens (1, 1, length, channels) that change little from one to the next."""
    centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    waves = torch.cos(torch.pi * centres[:, None] * torch.linspace(0, 1.0, channels))
    return waves[None, None].double()


@pytest.mark.parametrize("generator", ["dynamic", "random", "dense"])
@pytest.mark.parametrize("lengths", [(16, 32), (16, 12)])
def test_generated_matrices_mix_a_smooth_line_alike_on_a_finer_grid(generator, lengths):
    old, new = (
        make_op(generator, 12, length, segments=3, reduced_dim=None).double() for length in lengths
    )
    loaded(new, old)
    results = []
    for op, length in zip((old, new), lengths, strict=True):
        x = smooth(length, 12)
        compressed = None if op.compress is None else op.compress(x)
        results.append(op(x, compressed).flatten(3)[0, 0].detach())
    coarse, fine = results[0], resample(results[1], (0,), lengths[0])
    # Random weights jump from each position to the next, so interpolation cannot be exact.
    assert (fine - coarse).norm() < 0.1 * coarse.norm()


@pytest.mark.parametrize("lengths", [(16, 32), (16, 12)])
def test_permuted_matrices_mix_a_smooth_line_alike_on_a_finer_grid(lengths):
    old, new = (PermuteLinear(length, 4).double() for length in lengths)
    positions = torch.linspace(-1, 1, lengths[0], dtype=torch.float64)
    kernel = torch.exp(-((positions[:, None] - positions) ** 2))[:, None, :, None]
    within = torch.randn(4, 4, dtype=torch.float64)[None, :, None, :]
    old.weight.data = (kernel * within).reshape(64, 64)
    new.load_state_dict(old.state_dict())
    results = []
    for layer, length in zip((old, new), lengths, strict=True):
        x = smooth(length, 8).unflatten(3, (2, 4))
        results.append(layer.mix(x).flatten(3)[0, 0].detach())
    coarse, fine = results[0], resample(results[1], (0,), lengths[0])
    assert (fine - coarse).norm() < 0.02 * coarse.norm()


def test_wrong_shapes_are_left_for_loading_to_report():
    layer = PermuteLinear(8, 4)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({"weight": torch.zeros(30, 32)})
    op = make_op("dynamic", 12, 8, segments=3, reduced_dim=2)
    other = make_op("dynamic", 12, 6, segments=3, reduced_dim=1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        op.load_state_dict(other.state_dict())


@pytest.mark.parametrize("bank", ["relative", "absolute"])
def test_banks_are_resampled_from_a_grid_that_is_not_square(bank):
    settings = {"depth": 1, "embed_dim": 16, "bank": bank}
    wide = timm.create_model("amixer_deit_s", img_size=(64, 128), **settings)
    for size in ((128, 64), (128, 128), (64, 96)):
        model = timm.create_model("amixer_deit_s", img_size=size, **settings)
        model.load_state_dict(wide.state_dict())
        stored, taken = (m.blocks[0].spatil_mlp.weight_bank.detach() for m in (wide, model))
        new = (size[0] // 16, size[1] // 16)
        if bank == "relative":
            old_sides, new_sides = (7, 15), (2 * new[0] - 1, 2 * new[1] - 1)
        else:
            old_sides, new_sides = (4, 8, 4, 8), new * 2
        expected = stored.reshape(len(stored), *old_sides)
        for axis, side in enumerate(new_sides, start=1):
            expected = resample(expected, (axis,), side)
        torch.testing.assert_close(taken.reshape(expected.shape), expected)


def test_a_bank_of_a_window_that_cannot_be_square_is_refused_in_words():
    wide = timm.create_model("amixer_t", depths=(1, 1, 1, 1), img_size=(64, 96))
    square = timm.create_model("amixer_t", depths=(1, 1, 1, 1), img_size=96)
    rule = r"layers\.2\.blocks\.0\.spatial_mixer\.weight_bank: 77 is the number of offsets of no sq"
    with pytest.raises(RuntimeError, match=rule):
        square.load_state_dict(wide.state_dict())
    stored = Stored(path=Path("a.pth"), entry="", weights=wide.state_dict())
    arguments = {"depths": (1, 1, 1, 1)}
    with pytest.raises(WeightsError, match=r"a\.pth does not fit amixer_t of .*only those of sq"):
        convert(stored, "amixer_t", arguments=arguments)


@pytest.mark.parametrize(
    ("bank", "shape", "message"),
    [
        ("relative", (3, 64), "64 is the number of offsets of no square window"),
        ("absolute", (3, 18, 18), "18 is the number of tokens of no square window"),
        ("relative", (), "size mismatch for weight_bank"),
    ],
)
def test_a_bank_of_no_window_is_not_loaded(bank, shape, message):
    mixer = AdaptiveMixing(8, window=(3, 3), num_heads=2, bank_size=3, bank=bank)
    with pytest.raises(RuntimeError, match=message):
        mixer.load_state_dict({**mixer.state_dict(), "weight_bank": torch.zeros(shape)})
