"""RaftMLP's layers: patches of several sizes as one convolution, and one MLP for a line's rafts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.basic import embed
from models.layers.position_mixing import mix_positions, resize
from models.layers.resampling import PositionIndexed, announce, resample

EXPANSION = 2
"""Hidden units for each entry of a raft."""


class CrossEmbed(nn.Module):
    """Convolutions of several kernels with one stride, added: (B, in_chans, height, width) in.

    Images that are no multiple of the stride are interpolated to the next one, as the authors do.

    Args:
        in_chans: channels of the images.
        dim: width of the tokens.
        kernels: sides of the kernels; the first is the stride, the patch of a token.
    """

    def __init__(self, in_chans: int, dim: int, kernels: Sequence[int]) -> None:
        super().__init__()
        stride = kernels[0]
        if any(k < stride or (k - stride) % 2 for k in kernels):
            raise ValueError(
                f"kernels: {tuple(kernels)}: the first is the patch, and each other must reach "
                "beyond it by the same number of pixels on both sides"
            )
        self.stride = stride
        self.convs = nn.ModuleList(
            nn.Conv2d(in_chans, dim, k, stride, (k - stride) // 2, bias=number == 0)
            for number, k in enumerate(kernels)
        )
        # The authors' is one linear layer of all kernels' pixels.
        bound = (in_chans * sum(k * k for k in kernels)) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        size = images.shape[2:]
        whole = (size[0] + -size[0] % self.stride, size[1] + -size[1] % self.stride)
        if size != whole:
            images = resize(images.permute(0, 2, 3, 1), whole).permute(0, 3, 1, 2)
        weights = [conv.get_parameter("weight") for conv in self.convs]
        widest = max(weight.shape[-1] for weight in weights)
        margins = [(widest - weight.shape[-1]) // 2 for weight in weights]
        padded = [F.pad(w, [m] * 4) if m else w for w, m in zip(weights, margins, strict=True)]
        weight = sum(padded[1:], start=padded[0])
        bias = self.convs[0].get_parameter("bias")
        padding = (widest - self.stride) // 2
        return embed(images, weight, bias, stride=self.stride, padding=padding)


class CrossEmbedBetween(CrossEmbed):
    """The same applied to (B, H, W, C)."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / stride, W / stride, dim)."""
        return super().forward(images.permute(0, 3, 1, 2))


class RaftMlp(PositionIndexed):
    """fc2(GELU(fc1(v))) for each of n slices of channels, v the r L entries of a line.

    Channel rho n + kappa of place i is entry rho L + i of the line's slice kappa.

    Args:
        dim: channels C.
        length: tokens L of a line.
        raft_size: number r of channels that mix together.
    """

    def __init__(self, dim: int, length: int, raft_size: int) -> None:
        super().__init__()
        if dim % raft_size:
            raise ValueError(f"raft_size: {raft_size} does not divide the width {dim}")
        self.raft_size = raft_size
        self.length = length
        entries = raft_size * length
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(entries, EXPANSION * entries)
        self.fc2 = nn.Linear(EXPANSION * entries, entries)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, lines, C) -> the same shape, in memory (B, r, L, lines, n)."""
        rafts = self.norm(x).unflatten(3, (self.raft_size, -1)).permute(0, 3, 1, 2, 4)
        B, r, L, lines, n = rafts.shape
        mixed = mix_positions(self.fc1, rafts.reshape(B, r * L, lines * n))
        mixed = mix_positions(self.fc2, F.gelu(mixed))
        return mixed.view(B, r, L, lines, n).permute(0, 2, 3, 1, 4).flatten(3)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Take an MLP of lines of another length.

        Entries are positions, summed by `fc1`. Hidden units are none, each is by itself: for a
        longer line some stand twice, with their output halved, which changes nothing; for a shorter
        one some are left out, and the others' output is scaled to make up for them.
        """
        keys = [f"{prefix}{name}" for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
        stored = [state_dict.get(key) for key in keys]
        bias = stored[3]
        if bias is None or bias.ndim != 1 or len(bias) in (0, self.fc2.out_features):
            return
        r, entries = self.raft_size, len(bias)
        shapes = [(EXPANSION * entries, entries), (EXPANSION * entries,)]
        shapes += [(entries, EXPANSION * entries), (entries,)]
        if [None if w is None else tuple(w.shape) for w in stored] != shapes or entries % r:
            return
        fc1, bias1, fc2, bias2 = (w for w in stored if w is not None)
        old, new = entries // r, self.length
        hidden = self.fc1.out_features
        units = torch.arange(hidden) * len(fc1) // hidden
        share = max(1, old / new) / units.bincount(minlength=len(fc1))[units]
        fc1 = resample(fc1.unflatten(1, (r, old)), (2,), new).flatten(1) * (old / new)
        fc2 = resample(fc2.unflatten(0, (r, old)), (1,), new).flatten(0, 1)
        state_dict[keys[0]] = fc1[units]
        state_dict[keys[1]] = bias1[units]
        state_dict[keys[2]] = fc2[:, units] * share.to(fc2)
        state_dict[keys[3]] = resample(bias2.unflatten(0, (r, old)), (1,), new).flatten()
        announce(prefix, old=old, new=new)
