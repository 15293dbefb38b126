"""SplitMixer's channel mixers: 1x1 convolutions of parts of the channels (Borji and Lin, 2022).

Settings I to V of the paper, https://arxiv.org/abs/2207.10255, and StrideMixer's sliding window.
Each maps (B, C, H, W) to the same shape; what a block does not convolve passes through unchanged.
A part of a channels-last image is multiplied as a matrix with long rows, because a convolution
would first copy it.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ChannelSplit = Literal["none", "i", "ii", "iii", "iv", "v", "stride"]


def make_channel_mixer(
    split: ChannelSplit,
    dim: int,
    block: int,
    *,
    ratio: float,
    segments: int,
    window: int,
    stride: int,
) -> nn.Module:
    """The channel mixer of block number `block`.

    Args:
        split: the paper's setting; "stride" is StrideMixer's, "none" a full 1x1 convolution.
        dim: channels C.
        block: number of the block, from 0; I and II convolve other channels in each block.
        ratio: share of the channels that one convolution of I and V sees.
        segments: number of segments of II, III and IV.
        window: channels that StrideMixer's convolution sees at a time.
        stride: channels by which its window moves on.

    Raises:
        ValueError: if the channels cannot be split so.
    """
    if split == "none":
        return nn.Conv2d(dim, dim, 1)
    if split in ("i", "v"):
        part = int(dim * ratio)
        if not 1 <= part <= dim:
            raise ValueError(f"ratio: {ratio} of {dim} channels is {part}; use one in (0, 1]")
        return AlternatingPart(dim, part, block) if split == "i" else OverlappingParts(dim, part)
    if split == "stride":
        return SlidingWindow(dim, window, stride)
    if not 1 <= segments <= dim:
        raise ValueError(f"segments: cannot split {dim} channels into {segments}")
    if split == "ii":
        return OneSegment(dim, segments, block)
    if split == "iii":
        return SharedSegments(dim, segments)
    if split == "iv":
        return OwnSegments(dim, segments)
    raise ValueError(
        f"split: unknown {split!r}; expected one of {', '.join(get_args(ChannelSplit))}"
    )


class AlternatingPart(nn.Module):
    """I: the first `part` channels in even blocks, the last `part` in odd ones."""

    def __init__(self, dim: int, part: int, block: int) -> None:
        super().__init__()
        self.start = 0 if block % 2 == 0 else dim - part
        self.stop = self.start + part
        self.mixer = nn.Conv2d(part, part, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return _convolve_span(x, self.start, self.stop, self.mixer)


class OneSegment(nn.Module):
    """II: block i convolves segment i mod s; the last segment takes the remainder."""

    def __init__(self, dim: int, segments: int, block: int) -> None:
        super().__init__()
        self.start, self.stop = _segment_bounds(dim, segments)[block % segments]
        self.mixer = nn.Conv2d(self.stop - self.start, self.stop - self.start, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return _convolve_span(x, self.start, self.stop, self.mixer)


class SharedSegments(nn.Module):
    """III: all segments, by one convolution."""

    def __init__(self, dim: int, segments: int) -> None:
        super().__init__()
        if dim % segments:
            raise ValueError(
                f"segments: setting III shares one convolution, so they must be equal, and "
                f"{segments} does not divide the width {dim}"
            )
        self.mixer = nn.Conv2d(dim // segments, dim // segments, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        # The segments join the batch, so nothing is cut or put together.
        B, C, H, W = x.shape
        if _is_channels_last(x):
            tokens = x.permute(0, 2, 3, 1).reshape(-1, self.mixer.in_channels)
            mixed = F.linear(tokens, self.mixer.weight.flatten(1), self.mixer.bias)
            return mixed.view(B, H, W, C).permute(0, 3, 1, 2)
        return self.mixer(x.reshape(-1, self.mixer.in_channels, H, W)).view(B, C, H, W)


class OwnSegments(nn.Module):
    """IV: all segments, each by its own convolution; the last takes the remainder."""

    def __init__(self, dim: int, segments: int) -> None:
        super().__init__()
        self.bounds = _segment_bounds(dim, segments)
        self.mixer = nn.ModuleList(nn.Conv2d(b - a, b - a, 1) for a, b in self.bounds)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        spans = zip(self.bounds, self.mixer, strict=True)
        return torch.cat([_convolve(x[:, a:b], conv) for (a, b), conv in spans], dim=1)


class OverlappingParts(nn.Module):
    """V: the first `part` channels, then the last `part` of the result."""

    def __init__(self, dim: int, part: int) -> None:
        super().__init__()
        self.start = dim - part
        self.stop = part
        self.mixer1 = nn.Conv2d(part, part, 1)
        self.mixer2 = nn.Conv2d(part, part, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = _convolve_span(x, 0, self.stop, self.mixer1)
        return _convolve_span(x, self.start, x.shape[1], self.mixer2)


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
        self.window = window
        self.mixer = nn.Conv2d(window, dim // len(self.starts), 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        parts = [_convolve(x[:, a : a + self.window], self.mixer) for a in self.starts]
        if _is_channels_last(x):
            tokens = torch.stack([part.permute(0, 2, 3, 1) for part in parts], dim=-1)
            return tokens.flatten(3).permute(0, 3, 1, 2)
        return torch.stack(parts, dim=2).flatten(1, 2)


def _segment_bounds(dim: int, segments: int) -> Sequence[tuple[int, int]]:
    size = dim // segments
    starts = [size * number for number in range(segments)]
    return list(zip(starts, [*starts[1:], dim], strict=True))


def _convolve_span(x: Tensor, start: int, stop: int, conv: nn.Module) -> Tensor:
    """Channels start to stop of x replaced by their convolution."""
    parts = (x[:, :start], _convolve(x[:, start:stop], conv), x[:, stop:])
    return torch.cat([part for part in parts if part.shape[1] > 0], dim=1)


def _convolve(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv`, a 1x1 convolution, of x, which may be a part of the channels of a larger tensor."""
    assert isinstance(conv, nn.Conv2d)
    if not _is_channels_last(x):
        return conv(x)
    B, C, H, W = x.shape
    tokens = x.permute(0, 2, 3, 1).reshape(-1, C)  # a view: rows keep the distance they had
    return F.linear(tokens, conv.weight.flatten(1), conv.bias).view(B, H, W, -1).permute(0, 3, 1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.stride(1) == 1
