"""Classifiers that read a class token off a sequence: it, then the grid's tokens row by row.

Shapes: B images, H W grid, N = H W tokens of it, C channels. Names are those of the authors' files.
"""

import math

import torch
from torch import Tensor, nn

from models.layers.arguments import Size
from models.layers.basic import init_linear
from models.layers.classifier import FixedSizeClassifier
from models.layers.resampling import PositionIndexed, announce, resize_grid


class TokenClassifier(FixedSizeClassifier, PositionIndexed):
    """A classifier of `cls_token`, `pos_embed`, `blocks`, `norm` and `head`.

    A family makes its stem, calls `add_blocks` and implements `embed`.
    """

    output_fmt = "NLC"
    pools = ("token", "")

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        img_size: Size,
        in_chans: int,
        num_classes: int,
        global_pool: str,
    ) -> None:
        super().__init__(
            img_size=img_size, in_chans=in_chans, num_classes=num_classes, global_pool=global_pool
        )
        self.grid = grid

    def add_blocks(
        self, blocks: list[nn.Module], positions: nn.Parameter, drop_rate: float
    ) -> None:
        """Put blocks, norm and classifier on; `positions` is (1, 1 + N, C)."""
        dim = positions.shape[-1]
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = positions
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.add_head(dim, drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """As all linear layers."""
        init_linear(head)

    def embed(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), the grid's tokens without positions."""
        raise NotImplementedError

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, 1 + N, C), normalised, the class token first.

        Raises:
            ValueError: if the images are not of the size that the model was built for.
        """
        self.check_images(images)
        return self.encode(self.embed(images))

    def encode(self, x: Tensor) -> Tensor:
        """(B, H, W, C) embedded tokens -> what `forward_features` returns."""
        class_token = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat([class_token, x.flatten(1, 2)], dim=1) + self.pos_embed
        for block in self.blocks:
            x = self.run_block(block, x)
        return self.norm(x)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Resize `pos_embed` of another grid, which must be square: it does not say its sides."""
        stored = state_dict.get(f"{prefix}pos_embed")
        if stored is None or stored.shape == self.pos_embed.shape or stored.ndim != 3:
            return
        tokens = stored.shape[1] - 1
        side = math.isqrt(tokens)
        if side**2 != tokens:
            raise ValueError(
                f"{prefix}pos_embed: {tokens} is the number of tokens of no square grid. A "
                "positional embedding does not say the sides of its grid, so only those of square "
                "grids can be resized; create the model with the img_size that it was trained at"
            )
        grid = resize_grid(stored[0, 1:].reshape(side, side, -1), self.grid).flatten(0, 1)
        state_dict[f"{prefix}pos_embed"] = torch.cat([stored[:, :1], grid[None]], dim=1)
        announce(f"{prefix}pos_embed", old=tokens, new=len(grid))

    def no_weight_decay(self) -> set[str]:
        """Parameters with two or more dimensions that take no decay."""
        return {"pos_embed", "cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        return {
            "stem": r"^cls_token|^pos_embed|^patch_embed|^tokens_to_token",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }
