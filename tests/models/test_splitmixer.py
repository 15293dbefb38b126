"""SplitMixer against its plain transcription, and unsplit against timm's ConvMixer."""

import pytest
import timm
import torch
from timm.models.convmixer import ConvMixer
from torch import nn

import models  # noqa: F401  registers the names
from benchmarks.plain.splitmixer import PlainSplitMixer
from models.layers import channel_splits
from models.layers.channel_splits import SlidingWindow, make_channel_mixer
from models.splitmixer import SplitMixer, checkpoint_filter_fn

# Both sides are float64 and differ in the order of additions only.
RTOL = 1e-9

NUMBERS = {
    **{split: {"ratio": 2 / 3} for split in ("i", "v")},
    **{split: {"segments": 3} for split in ("ii", "iii", "iv")},
    "stride": {"window": 14, "stride": 5},
    "none": {},
}

SPLITS = {
    "i": {"split": "i", "ratio": 2 / 3},
    "i 4/7": {"split": "i", "ratio": 4 / 7},
    "ii with a remainder": {"split": "ii", "segments": 3},
    "iii": {"split": "iii", "segments": 2},
    "iv with a remainder": {"split": "iv", "segments": 3},
    "v": {"split": "v", "ratio": 2 / 3},
    "full ratio": {"split": "i", "ratio": 1.0},
    "stride, overlapping": {"split": "stride", "window": 14, "stride": 12},
    "stride, disjoint": {"split": "stride", "window": 13, "stride": 13},
    "channels only": {"split": "i", "split_spatial": False},
    "spatial only": {"split": "none"},
    "nothing": {"split": "none", "split_spatial": False},
}
SIZE = {"dim": 26, "depth": 4, "kernel_size": 3, "patch_size": 2, "in_chans": 2, "num_classes": 5}


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                fan_in = value[0].numel() if value.ndim > 1 else 4
                draw = (
                    torch.randn(value.shape, generator=generator, dtype=value.dtype) / fan_in**0.5
                )
                value.copy_(draw.abs() + 0.5 if key.endswith("running_var") else draw)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_every_split_equals_the_papers_definition(split, memory_format):
    ours, plain = SplitMixer(**SIZE, **split).double(), PlainSplitMixer(**SIZE, **split).double()
    randomise(plain)
    ours.load_state_dict(plain.state_dict())
    results = []
    for model, layout in ((ours, memory_format), (plain, torch.contiguous_format)):
        images = torch.linspace(-2, 2, 3 * 2 * 10 * 14).double().sin().view(3, 2, 10, 14)
        images = images.contiguous(memory_format=layout).requires_grad_()
        model.to(memory_format=layout).train()
        output = model(images)
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        evaluated = model.eval()(images.detach())
        grads = {key: p.grad for key, p in model.named_parameters()}
        results.append((output, evaluated, images.grad, grads, dict(model.named_buffers())))
    (*values, grads, buffers), (*values_, grads_, buffers_) = results
    for value, value_ in zip(values, values_, strict=True):
        torch.testing.assert_close(value, value_, rtol=RTOL, atol=1e-11)
    for key, grad in grads_.items():
        torch.testing.assert_close(grads[key], grad, rtol=RTOL, atol=1e-9)
    for key, buffer in buffers_.items():
        torch.testing.assert_close(buffers[key], buffer, rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_nothing_split_is_timms_convmixer_with_timms_weights(kernel_size, activation):
    act_layer = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]
    theirs = ConvMixer(16, 3, kernel_size, 2, num_classes=5, act_layer=act_layer).double().eval()
    randomise(theirs)
    ours = SplitMixer(
        dim=16,
        depth=3,
        kernel_size=kernel_size,
        patch_size=2,
        split="none",
        split_spatial=False,
        activation=activation,
        num_classes=5,
    ).double()
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), ours))
    images = torch.randn(2, 3, 17, 12, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(images), theirs(images), rtol=RTOL, atol=0)


def plain_sequential(dim: int, depth: int, num_classes: int) -> nn.Sequential:
    """The layout of the ConvMixer authors' released code."""

    class Residual(nn.Module):
        def __init__(self, fn: nn.Module) -> None:
            super().__init__()
            self.fn = fn

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fn(x) + x

    def normed(layer: nn.Module) -> list[nn.Module]:
        return [layer, nn.GELU(), nn.BatchNorm2d(dim)]

    blocks = [
        nn.Sequential(
            Residual(nn.Sequential(*normed(nn.Conv2d(dim, dim, 5, groups=dim, padding="same")))),
            *normed(nn.Conv2d(dim, dim, 1)),
        )
        for _ in range(depth)
    ]
    head = [nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(dim, num_classes)]
    return nn.Sequential(*normed(nn.Conv2d(3, dim, 2, 2)), *blocks, *head)


def test_convmixer_takes_the_sequential_layout():
    theirs = plain_sequential(256, 8, 10).eval()
    randomise(theirs)
    ours = timm.create_model("convmixer_256_8").eval()
    ours.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), ours))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs(images))


def test_stridemixer_takes_the_notebooks_layout():
    ours = timm.create_model("stridemixer_i_256_8")
    theirs = {}
    for key, weight in ours.state_dict().items():
        value = weight
        part, _, rest = key.partition(".")
        if part == "mixer_blocks":
            number, _, rest = rest.partition(".")
            side = "channel_mixer" if int(number) % 2 else "spatial_mixer"
            rest = rest.replace("0.mixer.", "0.") if side == "channel_mixer" else rest
            rest = f"3.{rest[2:]}" if rest.startswith("2.") else rest
            part = f"{side}.{int(number) // 2}"
            if side == "channel_mixer" and rest == "0.weight":
                value = weight[:, None]
        theirs[f"{part}.{'2.' if part == 'head' else ''}{rest}"] = value
    assert theirs["channel_mixer.7.0.weight"].shape == (128, 1, 170, 1, 1)
    mapped = checkpoint_filter_fn(theirs, ours)
    assert {k: v.shape for k, v in mapped.items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }


def test_sliding_window_is_a_convolution_over_the_channels():
    mixer = SlidingWindow(24, window=14, stride=5).double()
    conv = nn.Conv3d(1, 8, (14, 1, 1), stride=(5, 1, 1)).double()
    with torch.no_grad():
        conv.weight.copy_(mixer.mixer.weight[:, None])
        conv.bias.copy_(mixer.mixer.bias)
    x = torch.randn(2, 24, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(mixer(x), conv(x[:, None]).flatten(1, 2))


@pytest.mark.parametrize("split", ["i", "ii", "iii", "iv", "v", "stride"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_channel_mixers_keep_the_layout_of_images_and_gradients(split, layout):
    mixer = make_channel_mixer(split, 24, 1, **NUMBERS[split])
    x = torch.randn(2, 24, 5, 7).contiguous(memory_format=layout).requires_grad_()
    y = mixer(x)
    assert y.is_contiguous(memory_format=layout)
    if split != "stride":  # windows may overlap, so they are slices
        (grad,) = torch.autograd.grad(y, x, torch.randn_like(y))
        assert grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("split", ["i", "ii", "iii", "iv", "v", "stride"])
def test_matrix_products_of_channels_last_images_are_the_convolutions(split, monkeypatch):
    mixer = make_channel_mixer(split, 24, 1, **NUMBERS[split])
    mixer = mixer.double()
    x = torch.randn(2, 24, 5, 7, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    by_convolution = mixer(x)
    monkeypatch.setattr(channel_splits, "_is_matrix", lambda x: x.stride(1) == 1)  # as on a GPU
    by_product = mixer(x)
    torch.testing.assert_close(by_product, by_convolution)
    assert by_product.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("splitmixer_i_256_8", {10: 275_834, 100: 298_964}),
        ("splitmixer_ii_256_8", {10: 175_370, 100: 198_500}),
        ("splitmixer_iii_256_8", {10: 175_370, 100: 198_500}),
        ("splitmixer_iv_256_8", {10: 307_466, 100: 330_596}),
        ("splitmixer_v_256_8", {10: 508_394, 100: 531_524}),
        ("convmixer_256_8", {10: 594_186, 100: 617_316}),
        ("splitmixer_i_256_8_ks7_p7", {101: 341_973, 102: 342_230}),
        ("splitmixer_v_256_8_ks7_p7", {101: 574_533, 102: 574_790}),
        ("stridemixer_i_256_8", {10: 218_378}),
        ("stridemixer_iii_256_8", {10: 175_370}),
    ],
)
def test_small_models_have_the_published_parameters_for_any_number_of_classes(name, parameters):
    for num_classes, expected in parameters.items():
        model = timm.create_model(name, num_classes=num_classes)
        assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "iii", "segments": 3}, r"segments: .* 3 does not divide the width 26"),
        ({"split": "ii", "segments": 27}, r"segments: cannot split 26 channels into 27"),
        ({"split": "i", "ratio": 1.5}, "ratio: 1.5 of 26 channels are more than all"),
        ({"split": "vi"}, r"split: unknown 'vi'; expected one of none, i, ii"),
        ({"split": "stride", "window": 10, "stride": 7}, r"window 10 and stride 7 do not fit 26"),
        ({"activation": "tanh"}, r"activation: unknown 'tanh'; expected one of gelu, relu"),
        ({"img_size": 1}, r"an image of 1x1 pixels is smaller than one patch of 2x2"),
    ],
)
def test_impossible_settings_are_refused_in_words(settings, message):
    with pytest.raises(ValueError, match=message):
        SplitMixer(**SIZE, **settings)


def test_images_smaller_than_a_patch_are_refused_in_words():
    with pytest.raises(ValueError, match="smaller than one patch"):
        SplitMixer(**SIZE)(torch.zeros(1, 2, 1, 8))
