"""AMixer against its plain transcription, and what its options promise."""

from typing import get_args

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import models  # noqa: F401  registers the names
from benchmarks.plain.amixer import PlainAMixer, PlainWindowedAMixer
from models.amixer import AMixer, Block, _add, checkpoint_filter_fn
from models.amixer_windowed import WindowBlock, WindowedAMixer
from models.layers.adaptive_mixing import AdaptiveMixing, MixingMode, relative_position_index
from models.layers.amixer_windows import window_of

MODES = get_args(MixingMode)
# Both sides are float64 and differ in the order of additions only.
RTOL = 1e-10

GRID = {"embed_dim": 24, "depth": 2, "num_heads": 4, "bank_size": 5, "patch_size": 8}
WINDOWED = {"embed_dim": 12, "depths": (2, 3, 2, 1), "num_heads": (2, 3, 4, 4)}


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Parameters of ordinary size: the default layer scale would hide a wrong mixer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            fan_in = max(1, p[0].numel()) if p.ndim > 1 else 4
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / fan_in**0.5)


def assert_same_function(ours: nn.Module, plain: nn.Module, images: torch.Tensor) -> None:
    """Equal outputs, and equal gradients of every parameter and of the images."""
    ours, plain = ours.double(), plain.double()
    randomise(plain)
    ours.load_state_dict(plain.state_dict())
    results = []
    for model in (ours, plain):
        leaf = images.double().clone().requires_grad_()
        output = model(leaf)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append((output, leaf.grad, {k: p.grad for k, p in model.named_parameters()}))
    (out, image_grad, grads), (out_, image_grad_, grads_) = results
    torch.testing.assert_close(out, out_, rtol=RTOL, atol=0)
    torch.testing.assert_close(image_grad, image_grad_, rtol=RTOL, atol=1e-14)
    for key, grad in grads_.items():
        assert grad.abs().max() > 0, key
        torch.testing.assert_close(grads[key], grad, rtol=RTOL, atol=1e-13)


@pytest.mark.parametrize("bank", ["relative", "absolute"])
@pytest.mark.parametrize("mode", MODES)
def test_grid_form_equals_the_papers_equations(mode, bank):
    settings = {**GRID, "mode": mode, "bank": bank, "num_classes": 6, "in_chans": 2}
    ours = AMixer(**settings, img_size=(32, 48))
    plain = PlainAMixer(**settings, img_size=(32, 48))
    assert_same_function(ours, plain, torch.randn(3, 2, 32, 48))


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(
    ("img_size", "window_sizes"),
    [
        ((64, 128), None),
        ((44, 56), (3, 3, 4, 2)),  # grids of 11x14, 6x7, 3x4 and 2x2: padding in every stage
    ],
)
def test_windowed_form_equals_the_papers_equations(img_size, window_sizes, mask):
    settings = {**WINDOWED, "mask_shifted_windows": mask, "num_classes": 6, "in_chans": 2}
    ours = WindowedAMixer(**settings, img_size=img_size, window_sizes=window_sizes)
    windows = [stage.blocks[0].spatial_mixer.window for stage in ours.layers]
    plain = PlainWindowedAMixer(**settings, windows=windows)
    assert_same_function(ours, plain, torch.randn(3, 2, *img_size))


def test_masked_windows_differ_from_the_authors():
    outputs = []
    for mask in (False, True):
        model = WindowedAMixer(**WINDOWED, img_size=64, mask_shifted_windows=mask).double().eval()
        randomise(model)
        with torch.no_grad():
            outputs.append(model(torch.ones(1, 3, 64, 64).double().cumsum(dim=2)))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3 * outputs[0].abs().max()


@pytest.mark.parametrize("mode", MODES)
def test_mask_keeps_tokens_apart_in_every_mode(mode):
    mixer = AdaptiveMixing(8, window=(2, 3), num_heads=2, bank_size=3, mode=mode).double()
    randomise(mixer)
    side = torch.arange(6) % 2 == 0
    separated = (side[:, None] != side[None, :])[None]
    x = torch.randn(2, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    out = mixer(x, separated)
    (grad,) = torch.autograd.grad(out.flatten(1, 2)[:, side].sum(), x)
    assert grad.flatten(1, 2)[:, ~side].abs().max() == 0
    assert grad.flatten(1, 2)[:, side].abs().min() > 0


@pytest.mark.parametrize("mode", MODES)
def test_padding_for_tensor_cores_changes_nothing(mode):
    mixer = AdaptiveMixing(12, window=(3, 3), num_heads=3, bank_size=5, mode=mode).double()
    randomise(mixer)
    hidden = torch.randn(9, 4, 3, dtype=torch.float64)
    separated = torch.rand(2, 9, 9) < 0.2
    separated &= ~torch.eye(9, dtype=torch.bool)  # every target keeps one source
    for mask in (None, separated):
        plain = mixer.mixing_weights(hidden, mask)
        padded = mixer.mixing_weights(hidden, mask, align=8)
        assert padded.shape == (9, 12, 16)
        torch.testing.assert_close(padded[..., :9], plain, rtol=RTOL, atol=1e-15)


def test_sources_of_each_target_share_one():
    mixer = AdaptiveMixing(12, window=(3, 4), num_heads=3, bank_size=5)
    weights = mixer.mixing_weights(torch.randn(12, 2, 3))
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(6, 12))
    assert weights.min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixing_weights_of_half_precision_are_a_float32_softmax(dtype):
    mixer = AdaptiveMixing(12, window=(3, 4), num_heads=3, bank_size=5).to(dtype)
    randomise(mixer)
    hidden = torch.randn(12, 2, 3).to(dtype)
    weights = mixer.mixing_weights(hidden)
    mixer.mode = "linear"
    logits = mixer.mixing_weights(hidden)
    assert weights.dtype == dtype
    # On a CPU, what is left over of a vector is rounded twice.
    info = torch.finfo(dtype)
    expected = logits.double().softmax(dim=0)
    torch.testing.assert_close(weights.double(), expected, rtol=info.eps, atol=info.tiny * info.eps)


def test_dropping_the_scale_drops_the_branch():
    settings = {"mlp_ratio": 2.0, "drop_path": 0.5, "gamma": 0.3, "norm_eps": 1e-6}
    block = Block(8, **settings).double().train()
    x, branch = torch.randn(2, 16, 3, 3, 8, dtype=torch.float64)
    torch.manual_seed(1)
    ours = _add(x, branch, block.gamma1, block.drop_path1)
    torch.manual_seed(1)
    plain = x + block.drop_path1(block.gamma1 * branch)
    torch.testing.assert_close(ours, plain, rtol=RTOL, atol=0)
    dropped = (ours == x).flatten(1).all(dim=1)
    assert 0 < dropped.sum() < 16


@pytest.mark.parametrize("size", [56, 96, 224, 256, (224, 320), 384])
def test_windows_divide_the_image_as_at_224_pixels(size):
    height, width = (size, size) if isinstance(size, int) else size
    grids = [(height // 4 // 2**stage, width // 4 // 2**stage) for stage in range(4)]
    for stage, per_side in enumerate((8, 4, 1, 1)):
        window = window_of(grids[stage], stage, None)
        assert [-(-g // w) for g, w in zip(grids[stage], window, strict=True)] <= [per_side] * 2


def test_windows_and_shifts_at_224_pixels_are_the_authors():
    model = timm.create_model("amixer_t")
    blocks = [b for b in model.modules() if isinstance(b, WindowBlock)]
    windows = [b.spatial_mixer.window[0] for b in blocks]
    assert windows == [7] * 4 + [14] * 10 + [7] * 2
    assert [b.shift for b in blocks] == [(0, 0), (3, 3)] * 2 + [(0, 0)] * 12
    assert all(b.padding == (0, 0) for b in blocks)


def test_relative_index_counts_offsets():
    index = relative_position_index((2, 3))
    assert index.unique().numel() == 3 * 5
    assert (index.diagonal() == 7).all()  # the middle of the table is offset (0, 0)
    assert index[0, 5] == 0  # from the first token to the last: the most negative offset
    assert index[5, 0] == 14


@pytest.mark.parametrize("bank", ["relative", "absolute"])
@pytest.mark.parametrize(("mode", "scale"), [("linear-softmax", 1.0), ("linear", 49 / 54)])
def test_bank_of_another_window_is_resampled(bank, mode, scale):
    settings = {"num_heads": 2, "bank_size": 3, "mode": mode, "bank": bank}
    old = AdaptiveMixing(8, window=(7, 7), **settings)
    new = AdaptiveMixing(8, window=(9, 6), **settings)
    constant = torch.arange(1.0, 4.0)
    with torch.no_grad():
        old.weight_bank.copy_(constant.view(3, *[1] * (old.weight_bank.ndim - 1)))
    new.load_state_dict(old.state_dict())
    expected = scale * constant.view(3, *[1] * (new.weight_bank.ndim - 1))
    torch.testing.assert_close(new.weight_bank.data, expected.expand(new.weight_bank.shape))
    assert old.weight_bank.shape != new.weight_bank.shape


def test_symmetric_bank_stays_symmetric_when_it_is_resampled():
    old = AdaptiveMixing(8, window=(7, 7), num_heads=2, bank_size=3)
    new = AdaptiveMixing(8, window=(10, 10), num_heads=2, bank_size=3)
    with torch.no_grad():
        old.weight_bank += old.weight_bank.flip(1)
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new.weight_bank, new.weight_bank.flip(1))


def test_bank_of_an_unknown_window_is_refused():
    mixer = AdaptiveMixing(8, window=(4, 4), num_heads=2, bank_size=3)
    weights = {**mixer.state_dict(), "weight_bank": torch.zeros(3, 3 * 5)}
    with pytest.raises(RuntimeError, match=r"size mismatch for weight_bank"):
        mixer.load_state_dict(weights)


@pytest.mark.parametrize(
    ("family", "settings"), [(AMixer, GRID), (WindowedAMixer, WINDOWED)], ids=["grid", "windowed"]
)
def test_checkpoint_serves_another_image_size(family, settings):
    source = family(**settings, img_size=64)
    buffers = {"layers.0.attn_mask": torch.zeros(1), "a.b.relative_position_index": torch.zeros(1)}
    checkpoint = {**source.state_dict(), **buffers}
    same, other = family(**settings, img_size=64), family(**settings, img_size=(96, 160))
    same.load_state_dict(checkpoint_filter_fn(checkpoint, same))
    other.load_state_dict(checkpoint_filter_fn(checkpoint, other))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(same.eval()(images), source.eval()(images), rtol=0, atol=0)
    assert other(F.interpolate(images, (96, 160))).isfinite().all()


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        (AMixer, {**GRID, "mode": "cosine"}, r"mode: unknown 'cosine'; .*linear-softmax"),
        (AMixer, {**GRID, "bank": "none"}, r"bank: unknown 'none'; expected one of relative"),
        (AMixer, {**GRID, "num_heads": 5}, r"num_heads: 5 does not divide the width 24"),
        (AMixer, {**GRID, "img_size": 7}, r"img_size 7x7 is smaller than one patch of 8x8"),
        (WindowedAMixer, {**WINDOWED, "window_sizes": (7, 7)}, r"window_sizes: .*got \(7, 7\)"),
        (WindowedAMixer, {**WINDOWED, "depths": (2, 2, 2)}, r"depths: .* 4 stages"),
    ],
)
def test_impossible_settings_are_refused_in_words(family, settings, message):
    with pytest.raises(ValueError, match=message):
        family(**settings)


@pytest.mark.parametrize(
    ("family", "settings"), [(AMixer, GRID), (WindowedAMixer, WINDOWED)], ids=["grid", "windowed"]
)
def test_images_of_another_size_are_refused_in_words(family, settings):
    model = family(**settings, img_size=64)
    with pytest.raises(ValueError, match=r"built for images of 64x64 pixels, got 96x64; create it"):
        model(torch.zeros(1, 3, 96, 64))
