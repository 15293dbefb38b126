"""ConvMLP: channel MLPs around depthwise convolutions, after a convolutional stage (Li et al.).

Equations are those of https://arxiv.org/abs/2109.04454 and of its code, whose attribute names these
are. Nothing depends on the size of the grid. Shapes: B images, H W grid, C channels; (B, C, H, W)
in the convolutional stage, (B, H, W, C) after it.
"""

from collections.abc import Sequence

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.layers.arguments import (
    Size,
    as_pair,
    check_counts,
    check_matching,
    check_patch,
    check_ratio,
    check_stages,
)
from models.layers.basic import ChannelMlp, drop_path_rates, drop_paths, init_linear
from models.layers.classifier import Classifier
from models.registry import create, default_cfg

TOKEN_SIZE = 4


class Tokenizer(nn.Module):
    """Three convolutions and a maximum: a quarter of the image's height and width."""

    def __init__(self, in_chans: int, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_normed(in_chans, dim // 2, 3, stride=2),
            *_normed(dim // 2, dim // 2, 3),
            *_normed(dim // 2, dim, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, dim, H, W)."""
        return self.block(images)


class ConvStage(nn.Module):
    """Residual branches of convolutions, and a convolution that halves the grid.

    A ReLU follows each of a branch's convolutions, the last too.
    """

    def __init__(self, dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        self.conv_blocks = nn.ModuleList(
            nn.Sequential(
                *_normed(dim, out_dim, 1),
                *_normed(out_dim, out_dim, 3),
                *_normed(out_dim, dim, 1),
            )
            for _ in range(depth)
        )
        self.downsample = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)


class Block(nn.Module):
    """Channel MLP, depthwise convolution, channel MLP; the convolution has no residual."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float | None) -> None:
        super().__init__()
        hidden_dim = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.channel_mlp1 = ChannelMlp(dim, hidden_dim)
        self.connect_norm = nn.LayerNorm(dim)
        self.connect = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.channel_mlp2 = ChannelMlp(dim, hidden_dim)
        self.drop_path1, self.drop_path2 = drop_paths(drop_path, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.drop_path1(self.channel_mlp1(self.norm1(x)))
        x = self.connect(self.connect_norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path2(self.channel_mlp2(self.norm2(x)))


class OverlappingDownsample(nn.Module):
    """A convolution that halves the grid, rounding up; its windows overlap."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(dim, out_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) -> (B, ceil(H / 2), ceil(W / 2), out_dim)."""
        return self.downsample(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Stage(nn.Module):
    """Blocks of one width, and the downsampling after them (the last stage has none)."""

    def __init__(self, blocks: list[Block], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample_mlp = downsample


class ConvMLP(Classifier):
    """The ConvMLP classifier.

    Args:
        token_dim: width of the convolutional stage.
        conv_depth: number of its blocks.
        depths: number of blocks of each further stage.
        dims: width of each.
        mlp_ratio: hidden width of the MLPs in multiples of the stage's width.
        img_size: height and width of the images meant; every size from one token on works.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over tokens), or '' (none: the head acts on each token).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last block of every stage; in each the rates rise linearly from 0.
    """

    def __init__(
        self,
        *,
        token_dim: int,
        conv_depth: int,
        depths: Sequence[int],
        dims: Sequence[int],
        mlp_ratio: float,
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        check_counts(token_dim=token_dim, conv_depth=conv_depth)
        check_stages(depths=depths, dims=dims)
        check_matching(depths=depths, dims=dims)
        check_ratio("mlp_ratio", mlp_ratio, width=min(dims))
        if token_dim < 2:
            raise ValueError(f"token_dim: must be at least 2, got {token_dim}")
        self.check_size(*as_pair(img_size))
        self.tokenizer = Tokenizer(in_chans, token_dim)
        self.conv_stages = ConvStage(token_dim, dims[0], conv_depth)
        self.stages = nn.ModuleList()
        for number, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [
                Block(dim, mlp_ratio, rate if drop_path_rate > 0 else None)
                for rate in drop_path_rates(drop_path_rate, depth)
            ]
            is_last = number == len(dims) - 1
            after = nn.Identity() if is_last else OverlappingDownsample(dim, dims[number + 1])
            self.stages.append(Stage(blocks, after))
        self.norm = nn.LayerNorm(dims[-1])
        self.apply(init_linear)
        self.apply(_init_convolution)
        self.add_head(dims[-1], drop_rate)

    def init_head(self, head: nn.Linear) -> None:
        """As all linear layers."""
        init_linear(head)

    def check_size(self, height: int, width: int) -> None:
        """See that there is a token in the image."""
        check_patch(height, width, TOKEN_SIZE)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, H, W, C), normalised tokens of the last stage.

        Raises:
            ValueError: if the images are smaller than one token.
        """
        self.check_images(images)
        x = self.tokenizer(images)
        for branch in self.conv_stages.conv_blocks:
            x = x + self.run_block(branch, x)
        x = self.conv_stages.downsample(x).permute(0, 2, 3, 1).contiguous()
        for stage in self.stages:
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                x = self.run_block(block, x)
            x = stage.downsample_mlp(x)
        return self.norm(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        within = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)"
        return {
            "stem": r"^tokenizer",
            "convolutions": r"^conv_stages" if coarse else r"^conv_stages\.conv_blocks\.(\d+)",
            "downsampling": r"^conv_stages\.downsample",
            "blocks": [
                (within, None),
                (r"^stages\.(\d+)\.downsample_mlp", (99998,)),
                (r"^norm", (99999,)),
            ],
        }


def _normed(in_dim: int, out_dim: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    padding = kernel_size // 2
    return [
        nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_dim),
        nn.ReLU(),
    ]


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # torch's fan ignores groups: a depthwise convolution starts smaller than it should, which
        # is how the authors' start.
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


AUTHORS_NAMES = {f"convmlp_{size}_classification": (f"convmlp_{size}", {}) for size in "sml"}

default_cfgs = generate_default_cfgs(
    {
        name: default_cfg(first_conv="tokenizer.block.0", fixed_input_size=False)
        for name in ("convmlp_s", "convmlp_m", "convmlp_l")
    }
)


@register_model
def convmlp_s(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ConvMLP-S of the paper: 9 M parameters; the authors fix the drop path rate of all three."""
    settings: dict[str, object] = {
        "token_dim": 64,
        "conv_depth": 2,
        "depths": (2, 4, 2),
        "dims": (128, 256, 512),
        "mlp_ratio": 2.0,
    }
    return create(ConvMLP, "convmlp_s", pretrained, settings, overrides)


@register_model
def convmlp_m(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ConvMLP-M of the paper: 17 M parameters."""
    settings: dict[str, object] = {
        "token_dim": 64,
        "conv_depth": 3,
        "depths": (3, 6, 3),
        "dims": (128, 256, 512),
        "mlp_ratio": 3.0,
    }
    return create(ConvMLP, "convmlp_m", pretrained, settings, overrides)


@register_model
def convmlp_l(pretrained: bool = False, **overrides: object) -> nn.Module:
    """ConvMLP-L of the paper: 43 M parameters."""
    settings: dict[str, object] = {
        "token_dim": 96,
        "conv_depth": 3,
        "depths": (4, 8, 3),
        "dims": (192, 384, 768),
        "mlp_ratio": 3.0,
    }
    return create(ConvMLP, "convmlp_l", pretrained, settings, overrides)
