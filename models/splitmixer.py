"""SplitMixer and StrideMixer: ConvMixer with its two convolutions split (Borji and Lin, 2022).

A block's k x k depthwise convolution becomes 1 x k and k x 1, its 1x1 convolution works on parts of
the channels (`models.layers.channel_splits`). With nothing split this is ConvMixer, "Patches are
all you need?", https://arxiv.org/abs/2201.09792. Attribute names are the authors'.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from models.kernels import switch
from models.kernels.depthwise import depthwise_conv2d
from models.layers.arguments import Size, as_pair, check_counts, check_patch
from models.layers.basic import DropPath, drop_path_rates
from models.layers.channel_splits import ChannelSplit, make_channel_mixer
from models.layers.classifier import Classifier
from models.registry import create, default_cfg

Activation = Literal["gelu", "relu"]

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)


class Residual(nn.Module):
    """x + fn(x)."""

    def __init__(self, fn: nn.Module, drop_path: float | None) -> None:
        super().__init__()
        self.fn = fn
        self.drop_path = nn.Identity() if drop_path is None else DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x + self.drop_path(self.fn(x))


class SplitMixer(Classifier):
    """The SplitMixer classifier.

    `mixer_blocks` alternates spatial mixing (with a residual) and channel mixing (without). Every
    convolution is followed by the activation, then BatchNorm, on all channels.

    Args:
        dim: width C.
        depth: number of blocks.
        kernel_size: side of the depthwise convolutions.
        patch_size: side of the square patches in pixels.
        split_spatial: 1 x k and k x 1 instead of k x k.
        split: how the channel mixing is split; the paper's setting I to V, "stride" or "none".
        ratio: share of the channels that one convolution of I and V sees; None is 2/3.
        segments: number of segments of II, III and IV; None is 2.
        window: channels that a convolution of "stride" sees; None is 128.
        stride: channels by which its window moves on; None is 128.
        activation: "gelu" or "relu".
        img_size: height and width of the images meant; every size from one patch on works.
        in_chans: channels of the input images.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: 'avg' (mean over positions), or '' (none: the head acts on each position).
        drop_rate: dropout before the classifier.
        drop_path_rate: of the last spatial mixing; the rates rise linearly from 0.
    """

    output_fmt = "NCHW"

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        kernel_size: int,
        patch_size: int,
        split_spatial: bool = True,
        split: ChannelSplit = "i",
        ratio: float | None = None,
        segments: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        activation: Activation = "gelu",
        img_size: Size = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(in_chans=in_chans, num_classes=num_classes, global_pool=global_pool)
        check_counts(dim=dim, depth=depth, kernel_size=kernel_size, patch_size=patch_size)
        self.patch_size = patch_size
        self.check_size(*as_pair(img_size))
        normed = partial(_normed, dim, _activation(activation))
        kernels = [(1, kernel_size), (kernel_size, 1)]
        if not split_spatial:
            kernels = [(kernel_size, kernel_size)]
        self.patch_emb = normed(nn.Conv2d(in_chans, dim, patch_size, patch_size))
        self.mixer_blocks = nn.Sequential()
        for block, rate in enumerate(drop_path_rates(drop_path_rate, depth)):
            spatial = SpatialMixing()
            for kernel in kernels:
                spatial += normed(nn.Conv2d(dim, dim, kernel, padding="same", groups=dim))
            self.mixer_blocks.append(Residual(spatial, rate if drop_path_rate > 0 else None))
            mixer = make_channel_mixer(
                split, dim, block, ratio=ratio, segments=segments, window=window, stride=stride
            )
            self.mixer_blocks.append(normed(mixer))
        self.add_head(dim, drop_rate)

    def check_size(self, height: int, width: int) -> None:
        """See that there is a patch in the image."""
        check_patch(height, width, self.patch_size)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, height, width) -> (B, C, H, W).

        Raises:
            ValueError: if the images are smaller than one patch.
        """
        self.check_images(images)
        x = self.patch_emb(images)
        for block in self.mixer_blocks:
            x = self.run_block(block, x)
        return x

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Patterns that sort parameters into layers, for layer-wise learning rates."""
        # A block of the paper is two entries, of which each pair has one learning rate.
        pairs = len(self.mixer_blocks) // 2
        blocks = [(rf"^mixer_blocks\.(?:{2 * i}|{2 * i + 1})\.", (i,)) for i in range(pairs)]
        return {"stem": r"^patch_emb", "blocks": blocks}


class SpatialMixing(nn.Sequential):
    """Depthwise convolutions, each with the activation and BatchNorm after it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as the base class has it
        """(B, C, H, W) -> the same shape."""
        if not switch.ENABLED:
            return super().forward(input)
        x, layers = input, list(self)  # slices of a Sequential would be new modules
        for conv, activation, norm in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            assert isinstance(conv, nn.Conv2d)
            if all(side % 2 for side in conv.kernel_size):
                name = "gelu" if isinstance(activation, nn.GELU) else "relu"
                x = norm(depthwise_conv2d(x, conv.weight, conv.bias, name))
            else:  # "same" padding of an even kernel is lopsided
                x = norm(activation(conv(x)))
        return x


def _normed(dim: int, activation: Callable[[], nn.Module], layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, activation(), nn.BatchNorm2d(dim))


def _activation(name: str) -> Callable[[], nn.Module]:
    layers: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}
    if name not in layers:
        raise ValueError(f"activation: unknown {name!r}; expected one of {', '.join(layers)}")
    return layers[name]


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights for `model` of a checkpoint in any of the published layouts.

    These are SplitMixer's own, StrideMixer's, and ConvMixer's two: timm's, and the plain Sequential
    of its authors. No weight depends on the image size.
    """
    names = {key: _our_name(key, state_dict) for key in state_dict}
    weights = {names[key]: weight for key, weight in state_dict.items()}
    # StrideMixer's filters are those of a 3-D convolution over (channel, row, column).
    return {key: w[:, 0] if w.ndim == 5 else w for key, w in weights.items()}


def _our_name(key: str, state_dict: Mapping[str, Tensor]) -> str:
    numbers = [int(k.split(".")[0]) for k in state_dict if k.split(".")[0].isdecimal()]
    if "0.weight" in state_dict and key.split(".")[0].isdecimal():
        key = _without_sequential(key, head=max(numbers))
    for pattern, name in (
        (r"stem\.(.*)", r"patch_emb.\1"),
        (
            r"(?:blocks|spatial_mixer)\.(?P<block>\d+)\.(?:0\.)?fn\.(.*)",
            r"mixer_blocks.{even}.fn.\2",
        ),
        (r"channel_mixer\.(?P<block>\d+)\.0\.(.*)", r"mixer_blocks.{odd}.0.mixer.\2"),
        (r"blocks\.(?P<block>\d+)\.1\.(.*)", r"mixer_blocks.{odd}.0.\2"),
        (r"(?:blocks|channel_mixer)\.(?P<block>\d+)\.3\.(.*)", r"mixer_blocks.{odd}.2.\2"),
        (r"head\.2\.(.*)", r"head.\1"),
    ):
        if found := re.fullmatch(pattern, key):
            block = int(found.groupdict().get("block", 0))
            return found.expand(name).format(even=2 * block, odd=2 * block + 1)
    return key


def _without_sequential(key: str, *, head: int) -> str:
    number, _, rest = key.partition(".")
    part = int(number)
    if part == head:
        return f"head.{rest}"
    return f"stem.{key}" if part < 3 else f"blocks.{part - 3}.{rest}"


_IMAGENET_SIZES: dict[str, dict[str, object]] = {
    "splitmixer_1536_20": {"dim": 1536, "depth": 20, "kernel_size": 9, "patch_size": 7},
    # The ReLU is ConvMixer-768/32's, whose published weights were trained with it.
    "splitmixer_768_32": {
        "dim": 768, "depth": 32, "kernel_size": 7, "patch_size": 7, "activation": "relu",
    },
    "splitmixer_1024_20_ks9_p14": {"dim": 1024, "depth": 20, "kernel_size": 9, "patch_size": 14},
}  # fmt: skip

# Names are written out, not put together: a misspelt one in a recipe is found in the sources.
_SPLITS: dict[str, dict[str, object]] = {
    "splitmixer_i_256_8": {"split": "i"},
    "splitmixer_i_256_8_ks7_p7": {"split": "i"},
    "splitmixer_ii_256_8": {"split": "ii"},
    "splitmixer_ii_256_8_ks7_p7": {"split": "ii"},
    "splitmixer_iii_256_8": {"split": "iii"},
    "splitmixer_iii_256_8_ks7_p7": {"split": "iii"},
    "splitmixer_iv_256_8": {"split": "iv"},
    "splitmixer_iv_256_8_ks7_p7": {"split": "iv"},
    "splitmixer_v_256_8": {"split": "v"},
    "splitmixer_v_256_8_ks7_p7": {"split": "v"},
    "convmixer_256_8": {"split": "none", "split_spatial": False},
    "convmixer_256_8_ks7_p7": {"split": "none", "split_spatial": False},
    "stridemixer_i_256_8": {"split": "stride", "window": 170, "stride": 86},
    "stridemixer_iii_256_8": {"split": "stride", "window": 128, "stride": 128},
}

_CIFAR: dict[str, object] = {"dim": 256, "depth": 8, "kernel_size": 5, "patch_size": 2}
_FOOD: dict[str, object] = {"dim": 256, "depth": 8, "kernel_size": 7, "patch_size": 7}


def _variants() -> dict[str, tuple[dict[str, object], dict[str, object]]]:
    """Name -> (constructor arguments, entry of `default_cfgs`)."""
    cfg = partial(default_cfg, first_conv="patch_emb.0", fixed_input_size=False)
    variants = {name: (size, cfg(crop_pct=0.96)) for name, size in _IMAGENET_SIZES.items()}
    cifar = cfg(
        input_size=(3, 32, 32), num_classes=10, crop_pct=1.0, mean=CIFAR10_MEAN, std=CIFAR10_STD
    )
    food = cfg(num_classes=101, crop_pct=1.0)
    for name, split in _SPLITS.items():
        if name.endswith("_ks7_p7"):
            variants[name] = ({**_FOOD, **split}, food)
        else:
            variants[name] = ({**_CIFAR, **split, "img_size": 32}, cifar)
    return variants


def _entry_point(name: str, settings: Mapping[str, object]) -> Callable[..., nn.Module]:
    def entry_point(pretrained: bool = False, **overrides: object) -> nn.Module:
        filtered = {**settings, "pretrained_filter_fn": checkpoint_filter_fn}
        return create(SplitMixer, name, pretrained, filtered, overrides)

    entry_point.__name__ = entry_point.__qualname__ = name
    return entry_point


default_cfgs = generate_default_cfgs({name: cfg for name, (_, cfg) in _variants().items()})
for _name, (_settings, _) in _variants().items():
    globals()[_name] = register_model(_entry_point(_name, _settings))
