"""Weights that are indexed by token positions, taken from one grid to another.

A position-indexed weight is read as samples of a function on the unit interval, one per token at
the token's centre, and interpolated linearly (bilinearly where two indices are positions) at the
new centres; when the grid shrinks, the interpolation averages (antialiasing). Where a layer sums
over positions, the weights are also scaled by old / new, so that twice as many tokens do not give
twice the sum; where a softmax over positions follows, it normalises and nothing is scaled.

Families that their authors fine-tuned at another size are resized as the authors did, bicubically
and without averaging (`resize_grid`), so that such a run starts from the weights that theirs did.
"""

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_logger = logging.getLogger(__name__)


class PositionIndexed(nn.Module):
    """A module that takes weights of another grid: it resamples them as they are loaded.

    So whatever calls `load_state_dict` gets it: `timm.create_model(name, img_size=256,
    checkpoint_path=FILE_OF_224)` works.
    """

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Resample, in place, what `state_dict` holds for this module of another grid.

        Entries that fit, are missing or are wrong in another way are left alone; loading reports
        the latter two. `prefix` is the module's path in the state_dict, with the final dot.

        Raises:
            ValueError: naming the key, if its grid cannot be known.
        """
        raise NotImplementedError

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict[str, object],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        try:
            self.fit_positions(state_dict, prefix)
        except ValueError as error:
            error_msgs.append(str(error))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def resample(weight: Tensor, dims: Sequence[int], size: int) -> Tensor:
    """Interpolate `weight` linearly along each of `dims` to `size` entries."""
    result = weight.to(torch.float64)
    for dim in dims:
        matrix = _interpolation_matrix(weight.shape[dim], size).to(weight.device)
        result = (result.movedim(dim, -1) @ matrix.T).movedim(-1, dim)
    return result.to(weight.dtype)


def resize_grid(grid: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Interpolate a grid of vectors bicubically.

    Args:
        grid: (H, W, ...).
        size: the new H and W.
        align_corners: whether the outermost entries stay the outermost; otherwise the edges of
            the outermost cells do.

    Returns:
        (*size, ...) in the dtype of `grid`.
    """
    channels = grid.to(torch.float64).flatten(2).permute(2, 0, 1)[None]  # (1, C, H, W)
    resized = F.interpolate(channels, size, mode="bicubic", align_corners=align_corners)
    return resized[0].permute(1, 2, 0).reshape(*size, *grid.shape[2:]).to(grid.dtype)


def announce(module: str, *, old: int, new: int) -> None:
    """Say in the log that a checkpoint's weights were resampled."""
    _logger.info("%s: resampled from %d to %d positions", module.rstrip("."), old, new)


def _interpolation_matrix(old: int, new: int) -> Tensor:
    """(new, old) float64; each row sums to 1."""
    identity = torch.eye(old, dtype=torch.float64)[None, None]
    return F.interpolate(
        identity, size=(new, old), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]
