"""AS-MLP: groups of channels moved along the axes, then mixed (Lian et al., ICLR 2022).

Definitions are those of the paper, https://arxiv.org/abs/2107.08391, and its code, which moves
channels with a kernel of its own; here they are cut, moved and put together, in one pass where it
is compiled. Attribute names follow the authors' checkpoints but for `attn` (theirs is
`axial_shift`); their linear layers are 1x1 convolutions. Shapes: B batch, H W token grid,
C channels.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import Size, check_counts
from models.layers.layouts import as_matrices, renamed
from models.layers.norms import ImageNorm
from models.layers.shifts import shift
from models.registry import create, default_cfg
from models.trunks.merging_pyramid import AnySizePyramid
from models.trunks.pyramid import Block


class AxialShift(nn.Module):
    """Channels mixed, moved along rows and along columns, mixed again, added and mixed.

    Args:
        dim: channels C.
        shift_size: number S of groups, of ceil(C / S) channels; group i moves by i - S // 2 places.
    """

    def __init__(self, dim: int, shift_size: int) -> None:
        super().__init__()
        width = -(-dim // shift_size)
        self.widths = [min(width, dim - start) for start in range(0, dim, width)]
        self.first = -(shift_size // 2)
        self.norm1 = ImageNorm(dim)
        self.norm2 = ImageNorm(dim)
        self.conv1 = nn.Linear(dim, dim)
        self.conv2_1 = nn.Linear(dim, dim)
        self.conv2_2 = nn.Linear(dim, dim)
        self.conv3 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = F.gelu(self.norm1(self.conv1(x)))
        groups = x.split(self.widths, dim=3)
        sideways = F.gelu(self.conv2_1(self._moved(groups, dim=2)))
        up_and_down = F.gelu(self.conv2_2(self._moved(groups, dim=1)))
        return self.conv3(self.norm2(sideways + up_and_down))

    def _moved(self, groups: Sequence[Tensor], dim: int) -> Tensor:
        return torch.cat([shift(g, by, dim) for by, g in enumerate(groups, start=self.first)], 3)


class ASMLP(AnySizePyramid):
    """The AS-MLP classifier.

    The authors refuse grids with odd sides; here merging fills them up with zeros. The arguments
    not listed are AnySizePyramid's.

    Args:
        shift_size: number of channel groups that move by different distances.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: Sequence[int],
        shift_size: int = 5,
        patch_size: int = 4,
        img_size: Size = 224,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        check_counts(shift_size=shift_size)

        def make_block(dim: int, drop_path: float | None) -> nn.Module:
            mixer = AxialShift(dim, shift_size)
            return Block(dim, mixer, mlp_ratio, drop_path, norm1=ImageNorm, norm2=ImageNorm)

        super().__init__(
            make_block,
            norm=ImageNorm,
            init=None,
            embed_dim=embed_dim,
            depths=depths,
            patch_size=patch_size,
            mlp_ratio=mlp_ratio,
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
        )


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`: its names, and 1x1 convolutions as matrices."""
    rules = [(r"(layers\.\d+\.blocks\.\d+)\.axial_shift\.(.*)", r"\1.attn.\2")]
    return as_matrices({renamed(key, rules): weight for key, weight in state_dict.items()})


# The rates of stochastic depth are those of the authors' configuration of each variant.
_SETTINGS: dict[str, dict[str, object]] = {
    "as_mlp_tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "drop_path_rate": 0.2},
    "as_mlp_small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "drop_path_rate": 0.3},
    "as_mlp_base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "drop_path_rate": 0.5},
}

AUTHORS_NAMES: dict[str, tuple[str, dict[str, object]]] = {
    f"asmlp_{size}{suffix}": (f"as_mlp_{size}", {})
    for size in ("tiny", "small", "base")
    for suffix in ("", "_patch4_shift5_224")
}

default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(first_conv="patch_embed.proj", crop_pct=0.875, fixed_input_size=False)
        for name in _SETTINGS
    }
)


def _create(variant: str, pretrained: bool, overrides: dict[str, object]) -> nn.Module:
    settings = {**_SETTINGS[variant], "pretrained_filter_fn": checkpoint_filter_fn}
    return create(ASMLP, variant, pretrained, settings, overrides)


@register_model
def as_mlp_tiny(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AS-MLP-T of the paper: 28 M parameters."""
    return _create("as_mlp_tiny", pretrained, overrides)


@register_model
def as_mlp_small(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AS-MLP-S of the paper: 50 M parameters."""
    return _create("as_mlp_small", pretrained, overrides)


@register_model
def as_mlp_base(pretrained: bool = False, **overrides: object) -> nn.Module:
    """AS-MLP-B of the paper: 88 M parameters."""
    return _create("as_mlp_base", pretrained, overrides)
