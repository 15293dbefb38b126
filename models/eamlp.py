"""EAMLP: external attention, two small shared memories, in place of self-attention (Guo et al.).

The trunk is T2T-ViT's: overlapping patches, made into tokens and narrowed twice, then a class
token and blocks. Equations are those of https://arxiv.org/abs/2105.02358 and of its code, where the
models have T2T-ViT's names; attribute names are the authors'. Shapes: B images, H W grid, C
channels.
"""

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, as_pair, check_counts, check_ratio
from models.layers.attention import ExternalAttention, NarrowingAttention
from models.layers.basic import ChannelMlp, drop_path_rates
from models.layers.resampling import announce
from models.registry import create, default_cfg
from models.trunks.pyramid import Block
from models.trunks.token_classifier import TokenClassifier

TOKEN_DIM = 64
SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
"""(kernel, stride, padding) of the three overlapping splits of a grid."""


class NarrowingBlock(nn.Module):
    """Tokens of one width to another: attention and an MLP, the latter with a residual."""

    def __init__(self, in_dim: int, dim: int, *, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = NarrowingAttention(in_dim, dim, drop_rate=drop_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = ChannelMlp(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, in_dim) -> (B, N, dim)."""
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokensToToken(nn.Module):
    """The stem: three times, neighbours that overlap become one token."""

    def __init__(self, in_chans: int, dim: int, *, drop_rate: float) -> None:
        super().__init__()
        first, second, third = (kernel**2 for kernel, _, _ in SPLITS)
        self.attention1 = NarrowingBlock(first * in_chans, TOKEN_DIM, drop_rate=drop_rate)
        self.attention2 = NarrowingBlock(second * TOKEN_DIM, TOKEN_DIM, drop_rate=drop_rate)
        self.project = nn.Linear(third * TOKEN_DIM, dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, dim)."""
        x = images
        blocks = (self.attention1, self.attention2)
        for block, (kernel, stride, padding) in zip(blocks, SPLITS, strict=False):
            grid = split_grid((x.shape[2], x.shape[3]), kernel, stride, padding)
            x = F.unfold(x, kernel, padding=padding, stride=stride).transpose(1, 2)
            x = block(x).unflatten(1, grid).permute(0, 3, 1, 2)
        # Unfolding and a linear layer are a convolution.
        kernel, stride, padding = SPLITS[-1]
        weight = self.project.weight.unflatten(1, (TOKEN_DIM, kernel, kernel))
        x = F.conv2d(x, weight, stride=stride, padding=padding).permute(0, 2, 3, 1)
        return x.contiguous() + self.project.bias


class EAMLP(TokenClassifier):
    """The EAMLP classifier.

    Args:
        embed_dim: width C of the blocks.
        depth: number of blocks.
        num_heads: of the attention, before it multiplies width and heads by four.
        mlp_ratio: hidden width of the MLP in multiples of `embed_dim`.
        img_size: height and width of the input, or one number for both; it takes this size only.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'token' (the class token), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        token_drop_rate: dropout of the stem's attention, and after it. The authors fix it.
        drop_path_rate: of the last block; the rates rise linearly from 0.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        drop_rate: float = 0.0,
        token_drop_rate: float = 0.1,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            grid=token_grid(as_pair(img_size)),
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
        )
        check_counts(embed_dim=embed_dim, depth=depth)
        check_ratio("mlp_ratio", mlp_ratio, width=embed_dim)
        self.tokens_to_token = TokensToToken(in_chans, embed_dim, drop_rate=token_drop_rate)
        blocks: list[nn.Module] = [
            Block(
                embed_dim,
                ExternalAttention(embed_dim, num_heads),
                mlp_ratio,
                rate if drop_path_rate > 0 else None,
            )
            for rate in drop_path_rates(drop_path_rate, depth)
        ]
        # A parameter that does not learn, as with the authors, whose counts include it.
        waves = sinusoids(1 + self.grid[0] * self.grid[1], embed_dim)
        self.add_blocks(blocks, nn.Parameter(waves[None], requires_grad=False), drop_rate)
        for module in self.modules():
            if isinstance(module, NarrowingAttention):
                module.start_as_transposes()

    def embed(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C)."""
        return self.tokens_to_token(images)

    def fit_positions(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Put the function's values for this grid in place of those for another."""
        stored = state_dict.get(f"{prefix}pos_embed")
        if stored is None or stored.shape == self.pos_embed.shape or stored.ndim != 3:
            return
        _, positions, dim = self.pos_embed.shape
        state_dict[f"{prefix}pos_embed"] = sinusoids(positions, dim)[None].to(stored)
        announce(f"{prefix}pos_embed", old=stored.shape[1] - 1, new=positions - 1)


def token_grid(img_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the blocks' tokens.

    Raises:
        ValueError: if there is none.
    """
    grid = img_size
    for split in SPLITS:
        grid = split_grid(grid, *split)
    if min(grid) < 1:
        raise ValueError(
            f"img_size {img_size[0]}x{img_size[1]} is too small: the first tokens are of "
            f"{SPLITS[0][0]}x{SPLITS[0][0]} pixels, of which the border adds at most "
            f"{2 * SPLITS[0][2]} to a side"
        )
    return grid


def split_grid(size: tuple[int, int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Rows and columns of the neighbourhoods of a grid of `size`."""
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in size)
    return rows, columns


def sinusoids(positions: int, dim: int) -> Tensor:
    """(positions, dim) float32: sine and cosine of the position times a rate for each pair."""
    channel = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / dim)
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


AUTHORS_NAMES = {f"T2t_vit_{depth}": (f"eamlp_{depth}", {}) for depth in (7, 14, 19, 24)}

default_cfgs = generate_default_cfgs(
    {name: default_cfg(first_conv=None) for name in ("eamlp_7", "eamlp_14", "eamlp_19", "eamlp_24")}
)


@register_model
def eamlp_7(pretrained: bool = False, **overrides: object) -> nn.Module:
    """EAMLP-7 of the authors' repository: 6 M parameters."""
    settings: dict[str, object] = {"embed_dim": 256, "depth": 7, "num_heads": 4, "mlp_ratio": 2.0}
    return create(EAMLP, "eamlp_7", pretrained, settings, overrides)


@register_model
def eamlp_14(pretrained: bool = False, **overrides: object) -> nn.Module:
    """EAMLP-14 of the paper: 30 M parameters."""
    settings: dict[str, object] = {"embed_dim": 384, "depth": 14, "num_heads": 6, "mlp_ratio": 3.0}
    return create(EAMLP, "eamlp_14", pretrained, settings, overrides)


@register_model
def eamlp_19(pretrained: bool = False, **overrides: object) -> nn.Module:
    """EAMLP-19 of the paper: 55 M parameters."""
    settings: dict[str, object] = {"embed_dim": 448, "depth": 19, "num_heads": 7, "mlp_ratio": 3.0}
    return create(EAMLP, "eamlp_19", pretrained, settings, overrides)


@register_model
def eamlp_24(pretrained: bool = False, **overrides: object) -> nn.Module:
    """EAMLP-24 of the authors' repository: 89 M parameters."""
    settings: dict[str, object] = {"embed_dim": 512, "depth": 24, "num_heads": 8, "mlp_ratio": 3.0}
    return create(EAMLP, "eamlp_24", pretrained, settings, overrides)
