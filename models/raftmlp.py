"""RaftMLP: columns and rows mixed, several channels of a token together (Tatsunami and Taki, 2022).

Definitions are those of the paper, https://arxiv.org/abs/2108.04384, and its code, whose
checkpoints `checkpoint_filter_fn` renames. A raft is r channels of each token of a line, mixed by
one MLP. Shapes: B batch, H W token grid, C channels in r slices of n.
"""

import re
from collections.abc import Mapping, Sequence

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import (
    Size,
    as_pair,
    check_counts,
    check_matching,
    check_patch,
    check_rate,
    check_ratio,
    check_stages,
)
from models.layers.basic import ChannelMlp, drop_paths
from models.layers.layouts import renamed
from models.layers.position_mixing import resize
from models.layers.rafts import CrossEmbed, CrossEmbedBetween, RaftMlp
from models.registry import create, default_cfg
from models.trunks.level_pyramid import Level, LevelPyramid


class Block(nn.Module):
    """Columns, then rows, then channels mixed, each added to its input.

    A grid other than the one that the block is made for is interpolated to that one before columns
    and rows are mixed, and back after it, as the authors do.
    """

    def __init__(
        self,
        dim: int,
        grid: tuple[int, int],
        *,
        raft_size: int,
        mlp_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.vertical = RaftMlp(dim, grid[0], raft_size)
        self.horizontal = RaftMlp(dim, grid[1], raft_size)
        self.norm = nn.LayerNorm(dim)
        self.mlp = ChannelMlp(dim, int(dim * mlp_ratio))
        paths = drop_paths(drop_path or None, 3)
        self.drop_path1, self.drop_path2, self.drop_path3 = paths

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        size = (x.shape[1], x.shape[2])
        if size != self.grid:
            x = resize(x, self.grid)
        x = x + self.drop_path1(self.vertical(x))
        x = x + self.drop_path2(self.horizontal(x.transpose(1, 2)).transpose(1, 2))
        if size != self.grid:
            x = resize(x, size)
        return x + self.drop_path3(self.mlp(self.norm(x)))


class RaftMLP(LevelPyramid):
    """The RaftMLP classifier.

    Args:
        depths: number of blocks per level.
        dims: width per level.
        kernels: kernels of the embedding per level, of which the first is its patch.
        raft_size: number r of channels that mix together, a divisor of each width.
        img_size: height and width of the images that the mixing is made for, or one number for
            both; other images are interpolated on the way (`Block`), from one patch on.
        mlp_ratio: hidden width of the channel MLP in multiples of the level's width.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        drop_path_rate: of every block; the authors' does not rise.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        kernels: Sequence[Sequence[int]],
        raft_size: int = 2,
        img_size: Size = 224,
        mlp_ratio: float = 4.0,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        check_stages(depths=depths, dims=dims)
        check_matching(depths=depths, dims=dims, kernels=kernels)
        check_counts(raft_size=raft_size)
        check_rate("drop_path_rate", drop_path_rate)
        check_ratio("mlp_ratio", mlp_ratio, width=min(dims))
        for of_level in kernels:
            check_counts(kernels=of_level)
        self.patch_size = kernels[0][0]
        self.raft_size = raft_size
        self.kernels = [tuple(of_level) for of_level in kernels]
        height, width = as_pair(img_size)
        self.check_size(height, width)

        def make_block(dim: int) -> Block:
            return Block(
                dim,
                (height, width),
                raft_size=raft_size,
                mlp_ratio=mlp_ratio,
                drop_path=drop_path_rate,
            )

        self.levels = nn.ModuleList()
        channels = in_chans
        for depth, dim, of_level in zip(depths, dims, self.kernels, strict=True):
            height, width = -(-height // of_level[0]), -(-width // of_level[0])
            embed_class = CrossEmbedBetween if len(self.levels) else CrossEmbed
            self.levels.append(
                Level(embed_class(channels, dim, of_level), [make_block(dim) for _ in range(depth)])
            )
            channels = dim
        self.norm = nn.LayerNorm(channels)
        self.add_head(channels, drop_rate)

    def check_size(self, height: int, width: int) -> None:
        """See that there is a patch in the image."""
        check_patch(height, width, self.patch_size)


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The authors' weights for `model`, which may be of another image size, by our names."""
    assert isinstance(model, RaftMLP)
    weights: dict[str, Tensor] = {}
    for key, weight in state_dict.items():
        if found := re.fullmatch(r"levels\.(\d+)\.fn\.([01])\.(?:fc\.)?(weight|bias)", key):
            kernels = model.kernels[int(found[1])] if int(found[1]) < len(model.kernels) else ()
            name = f"levels.{found[1]}.embed.convs"
            split = _split_embedding(weight, kernels, channels_last=found[2] == "1")
            named = {f"{name}.{k}.{found[3]}": part for k, part in enumerate(split)}
            weights |= named or {key: weight}
        elif ".norm.1." in key and weight.ndim == 1 and len(weight) % model.raft_size == 0:
            # The authors' norm scales the channels in the order (within the slice, slice).
            weights[_our_name(key)] = weight.unflatten(0, (-1, model.raft_size)).t().flatten()
        else:
            weights[_our_name(key)] = weight
    return weights


def _split_embedding(
    weight: Tensor, kernels: Sequence[int], *, channels_last: bool
) -> list[Tensor]:
    """One linear layer of all kernels' pixels as convolutions; none if it is of other kernels."""
    if weight.ndim == 1:
        return [weight]
    pixels = sum(k * k for k in kernels)
    if weight.ndim != 2 or not pixels or weight.shape[1] % pixels:
        return []
    channels = weight.shape[1] // pixels
    parts = weight.split([channels * k * k for k in kernels], dim=1)
    if channels_last:
        return [
            part.unflatten(1, (k, k, channels)).permute(0, 3, 1, 2)
            for part, k in zip(parts, kernels, strict=True)
        ]
    return [part.unflatten(1, (channels, k, k)) for part, k in zip(parts, kernels, strict=True)]


def _our_name(key: str) -> str:
    found = re.fullmatch(
        r"levels\.(\d+)\.fn\.(\d+)\.([135])\.(norm|fn\.0|fn\.3)(?:\.1)?\.(.*)", key
    )
    if found is None:
        return renamed(key, [(r"heads\.0\.1\.(.*)", r"norm.\1"), (r"classifier\.(.*)", r"head.\1")])
    level, number, part, layer, rest = found.groups()
    place = {"1": "vertical.", "3": "horizontal.", "5": "" if layer == "norm" else "mlp."}[part]
    name = {"norm": "norm", "fn.0": "fc1", "fn.3": "fc2"}[layer]
    return f"levels.{level}.blocks.{int(number) - 2}.{place}{name}.{rest}"


_CROSS = ((4, 8), (2, 4), (2, 4), (2,))
_PYRAMID: dict[str, object] = {"depths": (2, 2, 6, 2), "kernels": _CROSS}
_SETTINGS: dict[str, dict[str, object]] = {
    "raftmlp_s": {**_PYRAMID, "dims": (64, 128, 256, 512)},
    "raftmlp_m": {**_PYRAMID, "dims": (96, 192, 384, 768)},
    "raftmlp_l": {**_PYRAMID, "dims": (128, 192, 512, 1024)},
    "raftmlp_12": {"depths": (12,), "dims": (768,), "kernels": ((16,),), "raft_size": 4},
    "raftmlp_36": {"depths": (36,), "dims": (384,), "kernels": ((16,),)},
}

_ABLATIONS: dict[str, tuple[str, dict[str, object]]] = {
    "r-2": ("raftmlp_12", {"raft_size": 2}),
    "r-1": ("raftmlp_12", {"raft_size": 1}),
    "r-2-cross-mlp-emb": ("raftmlp_12", {"raft_size": 2, "kernels": ((16, 32),)}),
    "hierarchy-m": ("raftmlp_m", {"kernels": ((4,), (2,), (2,), (2,))}),
}

AUTHORS_NAMES: dict[str, tuple[str, dict[str, object]]] = {
    # The authors' settings, which have no other names.
    "cross-mlp-emb-s": ("raftmlp_s", {}),
    "cross-mlp-emb-m": ("raftmlp_m", {}),
    "cross-mlp-emb-l": ("raftmlp_l", {}),
    "raft-mlp": ("raftmlp_12", {}),
    "deep": ("raftmlp_36", {}),
    **_ABLATIONS,
    # The same in the manner of our names.
    "raftmlp_12_r4": ("raftmlp_12", {}),
    "raftmlp_12_r2": _ABLATIONS["r-2"],
    "raftmlp_12_r1": _ABLATIONS["r-1"],
    "raftmlp_12_r2_cross": _ABLATIONS["r-2-cross-mlp-emb"],
    "raftmlp_hierarchy_m": _ABLATIONS["hierarchy-m"],
}

default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(
            first_conv="levels.0.embed.convs.0", crop_pct=0.875, interpolation="bilinear"
        )
        for name in _SETTINGS
    }
)


def _create(variant: str, pretrained: bool, overrides: dict[str, object]) -> nn.Module:
    # The authors fix the rate of stochastic depth in their code.
    settings = {"drop_path_rate": 0.1, **_SETTINGS[variant]}
    settings["pretrained_filter_fn"] = checkpoint_filter_fn
    return create(RaftMLP, variant, pretrained, settings, overrides)


@register_model
def raftmlp_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """RaftMLP-S of the paper: 10 M parameters."""
    return _create("raftmlp_s", pretrained, overrides)


@register_model
def raftmlp_m(pretrained: bool = False, **overrides: object) -> nn.Module:
    """RaftMLP-M of the paper: 21 M parameters."""
    return _create("raftmlp_m", pretrained, overrides)


@register_model
def raftmlp_l(pretrained: bool = False, **overrides: object) -> nn.Module:
    """RaftMLP-L of the paper: 36 M parameters."""
    return _create("raftmlp_l", pretrained, overrides)


@register_model
def raftmlp_12(pretrained: bool = False, **overrides: object) -> nn.Module:
    """RaftMLP-12 of the paper: 58 M parameters, rafts of 4."""
    return _create("raftmlp_12", pretrained, overrides)


@register_model
def raftmlp_36(pretrained: bool = False, **overrides: object) -> nn.Module:
    """RaftMLP-36 of the paper: 44 M parameters, rafts of 2."""
    return _create("raftmlp_36", pretrained, overrides)
