"""GFNet's filter: Fourier's transforms as products, at any precision and any grid."""

import pytest
import timm
import torch
import torch.nn.functional as F

from models.layers.global_filter import GlobalFilter
from tests.support.small_models import make, randomise

GRIDS = [(1, 1), (1, 5), (2, 2), (4, 6), (7, 5), (5, 8), (14, 14)]


def by_fft(layer, x):
    """The paper's equation."""
    spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
    spectrum = spectrum * torch.view_as_complex(layer.complex_weight.to(x.dtype))
    return torch.fft.irfft2(spectrum, s=x.shape[1:3], dim=(1, 2), norm="ortho")


@pytest.mark.parametrize("grid", GRIDS)
def test_the_filter_is_a_product_of_spectra(grid):
    layer = randomise(GlobalFilter(6, grid)).double()
    x = torch.randn(3, *grid, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_fft(layer, x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_half_precision_rounds_only_what_comes_in_and_goes_out(how, dtype):
    layer = randomise(GlobalFilter(6, (7, 8)))
    x = torch.randn(3, 7, 8, 6).to(dtype)
    if how == "weights":
        layer = layer.to(dtype)
        actual = layer(x)
    else:
        with torch.autocast("cpu", dtype):
            actual = layer(x)
    assert actual.dtype == dtype
    expected = by_fft(layer, x.float())
    # Both are sums in float32, rounded once.
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(actual.float(), expected, rtol=step, atol=1e-5)


def test_a_change_of_precision_and_back_loses_nothing_of_the_transforms():
    layer = GlobalFilter(4, (5, 6))
    expected = dict(GlobalFilter(4, (5, 6)).double().named_buffers())
    layer.half().double()
    for key, matrix in layer.named_buffers():
        assert torch.equal(matrix, expected[key]), key


@pytest.mark.parametrize("name", ["gfnet_ti", "gfnet_h_ti"])
@pytest.mark.parametrize("sizes", [(64, 96), ((64, 96), (96, 64)), (96, (64, 128))])
def test_positions_and_responses_are_resized_as_the_authors_do(name, sizes):
    old, new = (make(name, img_size=size) for size in sizes)
    new.load_state_dict(old.state_dict())
    grid = old.pos_embed.detach().unflatten(1, old.grid).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, new.grid, mode="bicubic", align_corners=False)
    torch.testing.assert_close(new.pos_embed.detach(), expected.permute(0, 2, 3, 1).flatten(1, 2))
    taken = dict(new.named_parameters())
    for key, stored in old.named_parameters():
        if not key.endswith("complex_weight"):
            continue
        size = taken[key].shape[:2]
        picture = stored.detach().flatten(2).permute(2, 0, 1)[None]
        expected = F.interpolate(picture, size, mode="bicubic", align_corners=True)
        expected = expected[0].permute(1, 2, 0).unflatten(2, (-1, 2))
        torch.testing.assert_close(taken[key].detach(), expected, msg=key)


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (4, 3, 6), (6, 5, 6, 1), ()])
def test_a_response_of_another_width_is_left_for_loading_to_report(shape):
    layer = GlobalFilter(6, (5, 4))
    with pytest.raises(RuntimeError, match="size mismatch for complex_weight"):
        layer.load_state_dict({"complex_weight": torch.zeros(shape)})


def test_positions_that_fit_no_filter_are_left_for_loading_to_report():
    weights = timm.create_model("gfnet_ti", depths=(1,), img_size=64).state_dict()
    weights["pos_embed"] = torch.zeros(1, 15, 256)
    model = timm.create_model("gfnet_ti", depths=(1,), img_size=96)
    with pytest.raises(RuntimeError, match="size mismatch for pos_embed"):
        model.load_state_dict(weights)
    del weights["blocks.0.filter.complex_weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(weights)
