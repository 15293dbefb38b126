"""The operations on single images as a part of DALI's graph, the same on a CPU and a GPU.

At each place of a chain the batch is divided by `Branch`, and each image goes through one branch.
Compared with PIL (`reference_operations`), on whose formulas and roundings these are built:

- Invert, posterize, solarize, autocontrast and the blends (brightness, contrast, colour, sharpness)
  are equal to the bit.
- Equalize is within 1 level: DALI's operator rounds the share of darker pixels to 8 bits, and by
  another divisor; the divisor is put right here.
- Affine maps are within 1 level with the nearest pixel or the linear filter, but where a rounded
  coordinate falls on another side. There is no cubic filter: the image is enlarged `_ZOOM`-fold by
  the cubic one, and sampled by the linear one.
- PIL's blur is one of three boxes, with a rounding after each; here they are one filter, rounded
  once. torchvision's blur is within 1 level.
- Hue goes through PIL's HSV of 8 bits.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from nvidia.dali import fn as _fn
from nvidia.dali import math
from nvidia.dali.data_node import DataNode
from nvidia.dali.types import Constant, DALIDataType, DALIInterpType

from pipeline.augment.kernels import Kernel
from pipeline.augment.policies.operations import Filter
from pipeline.loaders.dali_inputs import Branch, Place, Places

fn: Any = _fn
"""Untyped, since its stubs take every result for a list, too."""

Nodes = Mapping[str, Any]
"""Inputs of the graph on the CPU, by the names of `Places.arrays`; `DataNode`s."""

_ZOOM = 3
"""Odd, so that the pixels' centres are among those of the enlarged image."""
_GRAY = np.array([19595, 38470, 7471]) / 65536
"""PIL's weights of red, green and blue. In float32 the sums are exact."""
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)
_ROWS_AND_COLUMNS = {"axes": [0, 1], "keep_dims": True}


class _Setting(NamedTuple):
    """What operations of all images share: see `augmented`, and `Places` about the filters."""

    side: Any
    fill: tuple[int, int, int]
    filters: frozenset[Filter]


def augmented(
    images: Any, inputs: Nodes, places: Places, *, fill: tuple[int, int, int]
) -> DataNode:
    """Return uint8 images after their operations.

    Args:
        images: uint8, HWC.
        inputs: `side`, int32 (H, W), and what `places` asks for.
        places: which operations there can be.
        fill: the colour of what comes from outside an image.
    """
    setting = _Setting(inputs["side"], fill, places.filters)
    if places.mixed:
        chains = [_chained(images, inputs, chain, setting) for chain in places.mixed]
        images = _mixed(images, chains, inputs, blended=places.blended)
    return _chained(images, inputs, places.chain, setting)


def _chained(images: Any, inputs: Nodes, chain: tuple[Place, ...], setting: _Setting) -> Any:
    for place in chain:
        prefix = f"{place.name}."
        names = [name for name in inputs if name.startswith(prefix)]
        own = {name.removeprefix(prefix): inputs[name] for name in names}
        for branch in sorted(place.branches):
            if own["branch"] == int(branch):  # DALI makes it split the batch
                images = _OPERATIONS[branch](images, own, setting)
    return images


def _point(images: Any, own: Nodes, _: _Setting) -> Any:
    """Map each value by itself; see `dali_inputs`."""
    points = _beside(images, own["points"])
    is_low = images < points[0]
    values = math.min(images + is_low * points[1], 255)
    return _uint8((values ^ ((images >= points[0]) * points[2])) & points[3])


def _auto_contrast(images: Any, _: Nodes, __: _Setting) -> Any:
    low, high = (
        fn.cast(extreme(images, **_ROWS_AND_COLUMNS), dtype=DALIDataType.FLOAT64)
        for extreme in (fn.reductions.min, fn.reductions.max)
    )
    # In float64, as PIL: some products are whole numbers but for a rounding that is cut off.
    is_flat = high == low
    scale = is_flat + (high != low) * (255.0 / math.max(high - low, 1.0))
    offset = (high != low) * (-low * scale)
    return _uint8(math.floor(math.clamp(images * scale + offset, 0.0, 255.0)))


def _equalize(images: Any, _: Nodes, __: _Setting) -> Any:
    # DALI's counts the pixels up to a value without those of the lowest one; PIL's those below it,
    # without those of the highest one. Inverted images make the one the other.
    white = Constant(255, dtype=DALIDataType.UINT8)
    shares = white - fn.equalize(white - images)
    highest = fn.reductions.max(images, **_ROWS_AND_COLUMNS)
    others = _int32(images != highest)
    count = fn.reductions.sum(others, **_ROWS_AND_COLUMNS)
    step = count // 255
    correction = _float(count) / (math.max(step, 1) * 255)
    equalized = math.min(math.floor(shares * correction + 0.5), 255.0)
    return _uint8((step > 0) * equalized + (step == 0) * images)


def _enhance(images: Any, own: Nodes, setting: _Setting) -> Any:
    """Change brightness, contrast, colour or sharpness, as PIL's `ImageEnhance` does."""
    toward = own["toward"]
    if toward == int(Kernel.SHARPNESS):
        target = _smooth(images, setting.side)
    else:
        # DALI's arithmetic goes wrong where it has to repeat some targets of a batch, but not all.
        nothing = _float(images) * 0.0
        gray = math.floor(fn.coord_transform(images, M=_GRAY.tolist(), T=[0.5]))
        if toward == int(Kernel.COLOR):
            target = gray + nothing
        else:
            total = fn.reductions.sum(_int32(gray), **_ROWS_AND_COLUMNS)
            count = fn.reductions.sum(_int32(gray >= 0.0), **_ROWS_AND_COLUMNS)
            mean = (total * 2 + count) // (count * 2)
            is_contrast = _beside(images, toward) == int(Kernel.CONTRAST)
            target = _float(mean * is_contrast) + nothing
    return _blend(target, images, _beside(images, own["factor"]))


def _blend(start: Any, end: Any, share: Any) -> Any:
    """Return start + share * (end - start), rounded down, as PIL's `Image.blend`.

    `start` holds whole numbers.
    """
    return _uint8(math.floor(math.clamp(start + share * (end - start), 0.0, 255.0)))


def _smooth(images: Any, side: Any) -> Any:
    """Return PIL's SMOOTH in float32; it leaves the pixels of the border as they are."""
    kernel = _constant(images, _SMOOTH)
    inner = fn.filter(images, kernel, mode="valid", dtype=DALIDataType.FLOAT)
    padded = fn.slice(
        math.floor(inner / 13.0 + 0.5),
        start=[-1, -1],
        shape=side,
        axes=[0, 1],
        out_of_bounds_policy="pad",
        fill_values=-1,
    )
    return math.max(padded, 0.0) + (padded < 0.0) * images


def _affine(images: Any, own: Nodes, setting: _Setting) -> Any:
    """Map images as PIL's `Image.transform`, which never mixes them with the fill colour."""
    matrix = own["matrix"]
    if Filter.NEAREST in setting.filters:
        warped = fn.warp_affine(images, matrix=matrix, interp_type=DALIInterpType.INTERP_NN)
    elif Filter.BICUBIC not in setting.filters:
        warped = fn.warp_affine(images, matrix=matrix)
    else:
        source, source_matrix = images, matrix
        if own["is_bicubic"]:
            source = fn.resize(
                images,
                size=_float(setting.side * _ZOOM),
                interp_type=DALIInterpType.INTERP_CUBIC,
            )
            source_matrix = matrix * float(_ZOOM)
        warped = fn.warp_affine(source, matrix=source_matrix, size=_float(setting.side))
    inside = fn.warp_affine(
        images | Constant(255, dtype=DALIDataType.UINT8),
        matrix=matrix,
        fill_value=0,
        interp_type=DALIInterpType.INTERP_NN,
    )
    colour = _constant(images, np.array([[setting.fill]], np.uint8))
    return ((warped ^ colour) & inside) ^ colour


def _blur(images: Any, own: Nodes, _: _Setting, *, border: str) -> Any:
    taps = _beside(images, own["taps"])
    columns = fn.filter(images, taps, border=border, dtype=DALIDataType.FLOAT)
    return _uint8(fn.filter(columns, fn.reshape(taps, shape=[1, -1]), border=border))


def _turn_hue(images: Any, own: Nodes, _: _Setting) -> Any:
    """Turn the hue as torchvision on PIL's HSV, in PIL's mixture of float32 and float64."""
    high = fn.reductions.max(images, axes=[2], keep_dims=True)
    low = fn.reductions.min(images, axes=[2], keep_dims=True)
    spread = _float(high - low)
    saturation = math.floor(_double(spread / math.max(high, 1.0)) * 255.0)
    to = _double((high - images) / math.max(spread, 1.0))
    to_red, to_green, to_blue = (to[:, :, i : i + 1] for i in range(3))
    is_red, is_green = to_red == 0.0, (to_red != 0.0) & (to_green == 0.0)
    is_blue = (to_red != 0.0) & (to_green != 0.0)
    sixths = is_red * (to_blue - to_green) + is_green * (2.0 + to_red - to_blue)
    sixths = _double(_float(sixths + is_blue * (4.0 + to_green - to_red)))
    turns = sixths / 6.0 + 1.0
    hue = math.floor(_double(_float(turns - math.floor(turns))) * 255.0)

    hue = hue + _beside(images, own["turn"])
    hue = hue - 256.0 * math.floor(hue / 256.0)
    position = hue * 6.0 / 255.0
    sector = math.floor(position)
    part = _double(_float(position - sector))
    # Of red, green and blue: how far from the sector in which each has its full value.
    away = sector + _constant(images, np.array([[[5, 3, 1]]], np.float32))
    away = away - 6.0 * math.floor(away / 6.0) + part
    share = math.clamp(math.min(away, 4.0 - away), 0.0, 1.0)
    saturation = _double(_float(saturation / 255.0))
    return _uint8(math.floor(high * (1.0 - saturation * share) + 0.5))


_OPERATIONS: dict[Branch, Callable[[Any, Nodes, _Setting], Any]] = {
    Branch.POINT: _point,
    Branch.AUTO_CONTRAST: _auto_contrast,
    Branch.EQUALIZE: _equalize,
    Branch.BLEND: _enhance,
    Branch.AFFINE: _affine,
    Branch.BOX_BLUR: partial(_blur, border="clamp"),
    Branch.GAUSSIAN_BLUR: partial(_blur, border="reflect_101"),
    Branch.HUE: _turn_hue,
}


def _mixed(images: Any, chains: list[Any], inputs: Nodes, *, blended: bool) -> Any:
    """Mix the chains of AugMix, as timm does."""
    weights = _beside(images, inputs["weights"])
    if blended:
        for number, chain in enumerate(chains):
            images = _blend(_float(images), chain, weights[number])
        return images
    total = weights[0] * chains[0]
    for number, chain in enumerate(chains[1:], 1):
        total = total + weights[number] * chain
    mixture = math.floor(math.clamp(total, 0.0, 255.0))
    return _blend(_float(images), mixture, _beside(images, inputs["share"]))


def _beside(images: Any, node: Any) -> Any:
    """Return `node` on the device of the images."""
    return node.gpu() if images.device == "gpu" else node


def _constant(images: Any, values: Any) -> Any:
    return Constant(values, device=images.device)


def _uint8(node: Any) -> Any:
    return fn.cast(node, dtype=DALIDataType.UINT8)


def _int32(node: Any) -> Any:
    return fn.cast(node, dtype=DALIDataType.INT32)


def _float(node: Any) -> Any:
    return fn.cast(node, dtype=DALIDataType.FLOAT)


def _double(node: Any) -> Any:
    return fn.cast(node, dtype=DALIDataType.FLOAT64)
