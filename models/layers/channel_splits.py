"""SplitMixer's channel mixers: 1x1 convolutions of parts of the channels (Borji and Lin, 2022).

Settings I to V of the paper, https://arxiv.org/abs/2207.10255, and StrideMixer's sliding window.
What a block does not convolve passes through unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import check_counts, check_ratio

ChannelSplit = Literal["none", "i", "ii", "iii", "iv", "v", "stride"]

RATIO = 2 / 3
SEGMENTS = 2
WINDOW = 128

_NUMBERS_OF: dict[str, tuple[str, ...]] = {
    "none": (),
    "i": ("ratio",),
    "ii": ("segments",),
    "iii": ("segments",),
    "iv": ("segments",),
    "v": ("ratio",),
    "stride": ("window", "stride"),
}


def make_channel_mixer(
    split: ChannelSplit,
    dim: int,
    block: int,
    *,
    ratio: float | None = None,
    segments: int | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> nn.Module:
    """The channel mixer of block number `block`.

    Args:
        split: the paper's setting; "stride" is StrideMixer's, "none" a full 1x1 convolution.
        dim: channels C.
        block: number of the block, from 0; I and II convolve other channels in each block.
        ratio: share of the channels that one convolution of I and V sees; None is 2/3.
        segments: number of segments of II, III and IV; None is 2.
        window: channels that StrideMixer's convolution sees at a time; None is 128.
        stride: channels by which its window moves on; None is 128.

    Raises:
        ValueError: if the channels cannot be split so, or a number is given that is not used.
    """
    given = {"ratio": ratio, "segments": segments, "window": window, "stride": stride}
    _check_used(split, {name: value for name, value in given.items() if value is not None})
    if split == "none":
        return nn.Conv2d(dim, dim, 1)
    if split in ("i", "v"):
        part = _part(dim, RATIO if ratio is None else ratio)
        return AlternatingPart(dim, part, block) if split == "i" else OverlappingParts(dim, part)
    if split == "stride":
        window, stride = (WINDOW if n is None else n for n in (window, stride))
        check_counts(window=window, stride=stride)
        return SlidingWindow(dim, window, stride)
    segments = SEGMENTS if segments is None else segments
    check_counts(segments=segments)
    if segments > dim:
        raise ValueError(f"segments: cannot split {dim} channels into {segments}")
    if split == "ii":
        return OneSegment(dim, segments, block)
    return (SharedSegments if split == "iii" else OwnSegments)(dim, segments)


def _check_used(split: str, given: Mapping[str, float]) -> None:
    if split not in _NUMBERS_OF:
        raise ValueError(f"split: unknown {split!r}; expected one of {', '.join(_NUMBERS_OF)}")
    for name, value in given.items():
        if name not in _NUMBERS_OF[split]:
            users = ", ".join(repr(s) for s, names in _NUMBERS_OF.items() if name in names)
            raise ValueError(
                f"{name}: {value} has no effect with split={split!r}; it belongs to {users}"
            )


def _part(dim: int, ratio: float) -> int:
    check_ratio("ratio", ratio, width=dim)
    if ratio > 1:
        raise ValueError(f"ratio: {ratio} of {dim} channels are more than all; use one in (0, 1]")
    return int(dim * ratio)


class AlternatingPart(nn.Module):
    """I: the first `part` channels in even blocks, the last `part` in odd ones."""

    def __init__(self, dim: int, part: int, block: int) -> None:
        super().__init__()
        self.sizes = (0, part, dim - part) if block % 2 == 0 else (dim - part, part, 0)
        self.mixer = nn.Conv2d(part, part, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout, as with all mixers."""
        return _convolve_middle(x, self.sizes, self.mixer)


class OneSegment(nn.Module):
    """II: block i convolves segment i mod s; the last segment takes the remainder."""

    def __init__(self, dim: int, segments: int, block: int) -> None:
        super().__init__()
        sizes = _segment_sizes(dim, segments)
        chosen = block % segments
        self.sizes = (sum(sizes[:chosen]), sizes[chosen], sum(sizes[chosen + 1 :]))
        self.mixer = nn.Conv2d(sizes[chosen], sizes[chosen], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout."""
        return _convolve_middle(x, self.sizes, self.mixer)


class SharedSegments(nn.Module):
    """III: all segments, by one convolution."""

    def __init__(self, dim: int, segments: int) -> None:
        super().__init__()
        if dim % segments:
            raise ValueError(
                f"segments: setting III shares one convolution, so they must be equal, and "
                f"{segments} does not divide the width {dim}"
            )
        self.segments = segments
        self.mixer = nn.Conv2d(dim // segments, dim // segments, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout; nothing is cut or put together."""
        weight, bias = self.mixer.weight, self.mixer.bias
        if _is_matrix(x):
            rows = x.permute(0, 2, 3, 1).reshape(-1, self.mixer.in_channels)
            mixed = F.linear(rows, weight.flatten(1), bias)
            return mixed.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        assert bias is not None
        weight, bias = weight.repeat(self.segments, 1, 1, 1), bias.repeat(self.segments)
        return F.conv2d(x, weight, bias, groups=self.segments)


class OwnSegments(nn.Module):
    """IV: all segments, each by its own convolution; the last takes the remainder."""

    def __init__(self, dim: int, segments: int) -> None:
        super().__init__()
        self.sizes = _segment_sizes(dim, segments)
        self.mixer = nn.ModuleList(nn.Conv2d(size, size, 1) for size in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout."""
        if len(set(self.sizes)) == 1 and not _is_matrix(x):
            weight = torch.cat([conv.get_parameter("weight") for conv in self.mixer])
            bias = torch.cat([conv.get_parameter("bias") for conv in self.mixer])
            return F.conv2d(x, weight, bias, groups=len(self.sizes))
        parts = zip(x.split(self.sizes, 1), self.mixer, strict=True)
        return torch.cat([_convolve(part, conv) for part, conv in parts], 1)


class OverlappingParts(nn.Module):
    """V: the first `part` channels, then the last `part` of the result."""

    def __init__(self, dim: int, part: int) -> None:
        super().__init__()
        self.part, self.rest = part, dim - part
        self.mixer1 = nn.Conv2d(part, part, 1)
        self.mixer2 = nn.Conv2d(part, part, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout."""
        x = _convolve_middle(x, (0, self.part, self.rest), self.mixer1)
        return _convolve_middle(x, (self.rest, self.part, 0), self.mixer2)


class SlidingWindow(nn.Module):
    """StrideMixer: one convolution at every position of a window that slides over the channels.

    With N positions there are C/N filters; output channel o N + p is filter o at position p.
    """

    def __init__(self, dim: int, window: int, stride: int) -> None:
        super().__init__()
        steps, rest = divmod(dim - window, stride)
        if rest or window > dim or dim % (steps + 1):
            raise ValueError(
                f"window {window} and stride {stride} do not fit {dim} channels: the window must "
                f"end at the last channel, and the number of its positions must divide {dim}"
            )
        self.starts = tuple(range(0, dim - window + 1, stride))
        self.mixer = nn.Conv2d(window, dim // len(self.starts), 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape and layout."""
        windows = [x.narrow(1, start, self.mixer.in_channels) for start in self.starts]
        filtered = [_convolve(window, self.mixer) for window in windows]
        if x.stride(1) == 1:
            rows = torch.stack([y.permute(0, 2, 3, 1) for y in filtered], dim=-1)
            return rows.flatten(3).permute(0, 3, 1, 2)
        return torch.stack(filtered, dim=2).flatten(1, 2)


def _segment_sizes(dim: int, segments: int) -> list[int]:
    size = dim // segments
    return [size] * (segments - 1) + [dim - size * (segments - 1)]


def _convolve_middle(x: Tensor, sizes: Sequence[int], conv: nn.Module) -> Tensor:
    """The middle one of three parts of x convolved, the others as they are."""
    # split rather than slices: its backward puts the gradient together in one pass, and in x's
    # layout, which slices lose; BatchNorm's backward is slow where gradient and image differ.
    parts = list(x.split([size for size in sizes if size > 0], 1))
    middle = 1 if sizes[0] > 0 else 0
    parts[middle] = _convolve(parts[middle], conv)
    return torch.cat(parts, 1)


def _convolve(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv`, a 1x1 convolution, of x, which may be some of the channels of a larger tensor."""
    assert isinstance(conv, nn.Conv2d)
    if not _is_matrix(x):
        return conv(x)
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    mixed = F.linear(rows, conv.weight.flatten(1), conv.bias)
    return mixed.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


def _is_matrix(x: Tensor) -> bool:
    """Whether to multiply x, channels-last, as a matrix whose rows may lie apart.

    On a GPU a convolution of some of the channels would copy them first. On a CPU convolutions are
    oneDNN's, which on some processors is twice as fast as the library of the matrix products.
    """
    return x.is_cuda and x.stride(1) == 1
