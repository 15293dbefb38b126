"""Adaptive weight mixing, AMixer's token mixer (Rao et al., ECCV 2022).

A token's own policy blends a bank of learned n x n matrices; the blend says where the token goes.
The published einsums permute the n x n weights of every head twice. Here they are written once, as
(source, windows x heads, target), normalised over dim 0 and read by the mixing product as they lie.

Shapes: B images, H W grid, C channels, n tokens of a window, M heads, K matrices in the bank,
R windows in the batch (B times the windows of an image). Attribute names are the authors'.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.arguments import check_counts
from models.layers.basic import softmax
from models.layers.resampling import PositionIndexed, announce, resample

MixingMode = Literal[
    "linear-softmax",
    "softmax",
    "linear",
    "softmax-softmax",
    "linear-sigmoid",
    "linear-normalize",
    "sigmoid",
]
"""What is done to the policy over the bank, then to the weights over the sources ("normalize": by
the L2 norm). A single word is the policy's; the weights are then taken as they are."""

Bank = Literal["relative", "absolute"]

POLICY_REDUCTION = 4
TENSOR_CORE_ROWS = 8
"""16-bit matrix products want rows of a multiple of 16 bytes; others take a slower kernel."""


class AdaptiveMixing(PositionIndexed):
    """Mixes the tokens inside each window of a channels-last grid.

    Args:
        dim: channels C.
        window: height and width of a window in tokens.
        num_heads: groups of channels with mixing weights of their own.
        bank_size: number K of matrices that are blended.
        mode: how policy and weights are normalised.
        bank: "relative": one number per offset between source and target, (K, (2h-1)(2w-1));
            "absolute": one per pair of tokens, (K, n, n).
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        *,
        window: tuple[int, int],
        num_heads: int,
        bank_size: int,
        mode: MixingMode = "linear-softmax",
        bank: Bank = "relative",
    ) -> None:
        super().__init__()
        _check_choice("mode", mode, get_args(MixingMode))
        _check_choice("bank", bank, get_args(Bank))
        check_counts(num_heads=num_heads, bank_size=bank_size)
        if dim % num_heads:
            raise ValueError(
                f"num_heads: {num_heads} does not divide the width {dim}; use a divisor, such as"
                f" {math.gcd(dim, num_heads)}"
            )
        if dim < POLICY_REDUCTION:
            raise ValueError(f"embed_dim: must be at least {POLICY_REDUCTION}, got {dim}")
        self.window = window
        self.num_heads = num_heads
        self.bank_size = bank_size
        self.mode = mode
        self.bank = bank
        n = window[0] * window[1]
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1)
        shape = (bank_size, offsets) if bank == "relative" else (bank_size, n, n)
        self.weight_bank = nn.Parameter(torch.randn(shape) * 0.02)
        if bank == "relative":
            index = relative_position_index(window)
            self.register_buffer("relative_position_index", index, persistent=False)
        hidden = dim // POLICY_REDUCTION
        self.adapter = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, bank_size * num_heads)
        )
        self.pre_proj = nn.Linear(dim, dim)
        self.post_proj = nn.Linear(dim, dim)

    def init_non_persistent_buffers(self) -> None:
        """Restore what `to_empty` leaves undefined; see timm's `reinit_non_persistent_buffers`."""
        if self.bank == "relative":
            self.relative_position_index.copy_(relative_position_index(self.window))

    def forward(self, x: Tensor, separated: Tensor | None = None) -> Tensor:
        """Mix each window.

        Args:
            x: (B, H, W, C) normalised tokens; H and W are multiples of the window's sides.
            separated: (windows, n, n) bool: source (dim 1) must not reach target (dim 2).

        Returns:
            (B, H, W, C).
        """
        B, H, W, C = x.shape
        h, w = self.window
        n, M = h * w, self.num_heads
        split = (B, H // h, h, W // w, w)
        R = B * (H // h) * (W // w)  # said, not inferred: a batch may be empty
        # Both linear maps act on single tokens, so what is put in window order is their outputs,
        # each at once in the layout of its matrix product.
        hidden = self.adapter[1](self.adapter[0](x))
        hidden = hidden.view(*split, hidden.shape[-1]).permute(2, 4, 0, 1, 3, 5)
        hidden = hidden.reshape(n, R, hidden.shape[-1])  # (n, R, C/4)
        values = self.pre_proj(x).view(*split, M, C // M)
        values = values.permute(0, 1, 3, 5, 2, 4, 6).reshape(R * M, n, C // M)  # (R M, n, C/M)
        align = TENSOR_CORE_ROWS if x.is_cuda else 1
        weights = self.mixing_weights(hidden, separated, align=align)  # (n, R M, n)
        mixed = torch.bmm(weights.permute(1, 2, 0), values)[:, :n]  # (R M, n, C/M)
        mixed = mixed.reshape(B, H // h, W // w, M, h, w, C // M)
        return self.post_proj(mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(B, H, W, C))

    def mixing_weights(
        self, hidden: Tensor, separated: Tensor | None = None, *, align: int = 1
    ) -> Tensor:
        """Each source's share in each target.

        Args:
            hidden: (n, R, C/4), the policy network's hidden layer.
            separated: as in `forward`; R is a multiple of its windows.
            align: multiple to which the inner dimensions of the product are padded with zeros.

        Returns:
            (source, R M, target); there may be up to `align` - 1 targets too many.
        """
        policy_mode, _, weight_mode = self.mode.partition("-")
        align_bank = 1 if policy_mode == "softmax" else align  # a padded entry would take a share
        policy = self._policy(hidden, align_bank)
        if policy_mode != "linear":
            policy = softmax(policy, -1) if policy_mode == "softmax" else policy.sigmoid()
        weights = torch.bmm(policy, self._bank_matrices(align_bank, align))
        if separated is not None:
            nothing = -math.inf if weight_mode in ("softmax", "sigmoid") else 0.0
            weights = self._separate(weights, separated, nothing)
        if weight_mode == "softmax":
            return softmax(weights, 0)
        if weight_mode == "sigmoid":
            return weights.sigmoid()
        if weight_mode == "normalize":
            norm = torch.linalg.vector_norm(weights, dim=0, dtype=_at_least_float32(weights))
            return (weights / norm.clamp_min(1e-12)).to(weights.dtype)
        return weights

    def _policy(self, hidden: Tensor, align: int) -> Tensor:
        """(n, R M, K): the layer's outputs are numbered K-major; its rows are moved instead."""
        n, R, hidden_dim = hidden.shape
        layer = self.adapter[2]
        assert isinstance(layer, nn.Linear)
        padding = -self.bank_size % align
        weight = layer.weight.view(self.bank_size, self.num_heads, hidden_dim).transpose(0, 1)
        bias = layer.bias.view(self.bank_size, self.num_heads).t()
        if padding:
            weight, bias = F.pad(weight, (0, 0, 0, padding)), F.pad(bias, (0, padding))
        # Of strided tokens in three dimensions, a linear map copies its weights once a row.
        rows = hidden.reshape(-1, hidden_dim)
        policy = F.linear(rows, weight.reshape(-1, hidden_dim), bias.reshape(-1))
        return policy.view(n, R * self.num_heads, self.bank_size + padding)

    def _bank_matrices(self, align_bank: int, align: int) -> Tensor:
        """(source, K, target)."""
        n = self.window[0] * self.window[1]
        matrices = self.weight_bank
        if self.bank == "relative":
            # index_select rather than indexing: its backward is 5 times as fast on a CPU.
            matrices = matrices.index_select(1, self.relative_position_index.view(-1))
        matrices = matrices.view(self.bank_size, n, n)
        padding = (0, -n % align, 0, 0, 0, -self.bank_size % align_bank)
        return (F.pad(matrices, padding) if any(padding) else matrices).transpose(0, 1)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Take the bank of another window, which must be square: a bank does not say its sides."""
        bank = state_dict.get(f"{prefix}weight_bank")
        if bank is None or bank.shape == self.weight_bank.shape or bank.ndim < 2:
            return
        entries = bank.shape[-1]
        root = math.isqrt(entries)
        is_relative = self.bank == "relative"
        if root**2 != entries or (is_relative and root % 2 == 0):
            what = "offsets" if is_relative else "tokens"
            raise ValueError(
                f"{prefix}weight_bank: {entries} is the number of {what} of no square window. A "
                "bank does not say the sides of its window, so only those of square windows can be "
                "resampled; create the model with the img_size that it was trained at"
            )
        side = (root + 1) // 2 if is_relative else root
        self.take_bank(state_dict, prefix, window=(side, side))

    def take_bank(
        self, state_dict: dict[str, Tensor], prefix: str, *, window: tuple[int, int]
    ) -> None:
        """Resample, in place, a bank of `window`; offsets and tokens are positions.

        One that is missing or is none of that window is left alone; loading reports it.
        """
        bank = state_dict.get(f"{prefix}weight_bank")
        (h, w), (old_h, old_w) = self.window, window
        if self.bank == "relative":
            old, new = (2 * old_h - 1, 2 * old_w - 1), (2 * h - 1, 2 * w - 1)
            shape = (self.bank_size, old[0] * old[1])
        else:
            old, new = (old_h, old_w) * 2, (h, w) * 2
            shape = (self.bank_size, old_h * old_w, old_h * old_w)
        if bank is None or bank.shape != shape or window == self.window:
            return
        resampled = bank.reshape(self.bank_size, *old)
        for axis, size in enumerate(new, start=1):
            resampled = resample(resampled, (axis,), size)
        if "-" not in self.mode:  # nothing normalises the sum over the sources
            resampled = resampled * (old_h * old_w / (h * w))
        state_dict[f"{prefix}weight_bank"] = resampled.reshape(self.weight_bank.shape)
        announce(prefix, old=old_h * old_w, new=h * w)

    def _separate(self, weights: Tensor, separated: Tensor, nothing: float) -> Tensor:
        windows, n, _ = separated.shape
        mask = F.pad(separated, (0, weights.shape[-1] - n)).transpose(0, 1)[:, None, :, None]
        images = weights.shape[1] // (windows * self.num_heads)
        by_window = weights.view(n, images, windows, self.num_heads, weights.shape[-1])
        return by_window.masked_fill(mask, nothing).view(weights.shape)


def relative_position_index(window: tuple[int, int]) -> Tensor:
    """(n, n) column of the relative bank for each (source, target), both numbered row by row."""
    h, w = window
    rows = torch.arange(h).repeat_interleave(w)
    columns = torch.arange(w).repeat(h)
    down = rows[:, None] - rows[None, :] + h - 1
    right = columns[:, None] - columns[None, :] + w - 1
    return down * (2 * w - 1) + right


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: unknown {value!r}; expected one of {', '.join(choices)}")
