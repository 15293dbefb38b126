"""Every registered variant with few and narrow blocks: its own structure, at a cost for tests."""

import importlib

import timm
import torch
from torch import nn

import models
from benchmarks.model_timing import PLAIN_MODULES

NUM_CLASSES = 7

ONE_OF_EACH_FAMILY = (
    "dynamixer_s",
    "vip_s7",
    "amixer_deit_s",
    "amixer_t",
    "splitmixer_i_256_8",
    "stridemixer_i_256_8",
    "lvvit_t",
    "gfnet_ti",
    "gfnet_h_ti",
    "convmlp_s",
    "eamlp_7",
    "cyclemlp_b1",
    "hire_mlp_tiny",
    "as_mlp_tiny",
    "smlpnet_tiny",
    "raftmlp_s",
    "s2_mlpv2_small_7",
)

_GFNET = {"depths": (3,), "dims": (16,)}
_GFNET_H = {"depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20)}
_CONVMLP = {"depths": (2, 2, 1), "dims": (12, 16, 24), "token_dim": 8, "conv_depth": 2}
# The stem's dropout, which the authors fix, would make every training step random.
_EAMLP = {"depth": 3, "token_drop_rate": 0.0}

# Widths of which every third channel, and groups of a fifth, leave a remainder.
_CYCLEMLP = {"depths": (2, 1, 1, 1), "dims": (16, 20, 24, 32)}
_MERGING = {"depths": (2, 1, 1, 1), "embed_dim": 8}
_HIRE_MLP = {"depths": (1, 1, 3, 1), "dims": (16, 20, 24, 32)}
_RAFTMLP = {"depths": (2, 1, 1, 1), "dims": (16, 20, 24, 32)}
_S2_MLPV2 = {"depths": (2, 1, 1, 1), "dims": (16, 16, 24, 32)}

SMALL: dict[str, dict[str, object]] = {
    "lvvit_t": {"depth": 3, "embed_dim": 24, "stem_width": 8},
    "lvvit_s": {"depth": 3, "embed_dim": 24, "stem_width": 8},
    "lvvit_m": {"depth": 3, "embed_dim": 32, "stem_width": 8},
    "lvvit_l": {"depth": 3, "embed_dim": 24, "stem_width": 16},
    "gfnet_ti": _GFNET, "gfnet_xs": _GFNET, "gfnet_s": _GFNET, "gfnet_b": _GFNET,
    "gfnet_h_ti": _GFNET_H, "gfnet_h_s": _GFNET_H, "gfnet_h_b": _GFNET_H,
    "convmlp_s": _CONVMLP, "convmlp_m": _CONVMLP, "convmlp_l": {**_CONVMLP, "conv_depth": 1},
    "eamlp_7": {**_EAMLP, "embed_dim": 16}, "eamlp_14": {**_EAMLP, "embed_dim": 24},
    "eamlp_19": {**_EAMLP, "embed_dim": 28}, "eamlp_24": {**_EAMLP, "embed_dim": 32},
    **{f"cyclemlp_b{number}": _CYCLEMLP for number in range(1, 6)},
    **{f"cyclemlp_{size}": _MERGING for size in "tsb"},
    **{f"hire_mlp_{size}": _HIRE_MLP for size in ("tiny", "small", "base", "large")},
    **{f"as_mlp_{size}": _MERGING for size in ("tiny", "small", "base")},
    **{f"smlpnet_{size}": _MERGING for size in ("tiny", "small", "base")},
    **{f"raftmlp_{size}": _RAFTMLP for size in "sml"},
    "raftmlp_12": {"depths": (3,), "dims": (32,)}, "raftmlp_36": {"depths": (3,), "dims": (24,)},
    "s2_mlpv2_small_7": _S2_MLPV2, "s2_mlpv2_medium_7": _S2_MLPV2,
}  # fmt: skip
"""Constructor arguments of the families whose variants differ in numbers only."""


def image_size(name: str) -> int:
    """Pixels of a side of the small variant's images: a grid of 8 or 4 tokens at least."""
    family = name.split("_")[0]
    if name in SMALL:
        # 56 are grids of odd sides, too: 14 and 7 tokens with patches 4 pixels apart.
        return {"convmlp": 32, "cyclemlp": 56, "hire": 56, "as": 56, "s2": 56}.get(family, 64)
    if name == "dynamixer_nano" or family == "amixer":
        return 32 if name == "dynamixer_nano" else 64
    return 56 if family in ("dynamixer", "vip") or "p7" in name or "_20" in name else 28


def settings(name: str) -> dict[str, object]:
    """Constructor arguments that make `name` small, for ours and for the plain form."""
    family = name.split("_")[0]
    if name in SMALL:
        return SMALL[name]
    if name == "dynamixer_nano":
        return {}
    if family == "dynamixer":  # 64 tokens in the first stage are many: branches are folded there
        wide = (16, 16, 32, 32) if name.endswith("m") else (16, 32, 32, 32)
        return {"depths": (2, 1, 1, 1), "dims": wide}
    if family == "vip":
        wide = (64, 64, 64, 64) if name.endswith(("m7", "14")) else (64, 96, 96, 96)
        return {"depths": (2, 1, 1, 1), "dims": wide}
    if name == "amixer_deit_s":
        return {"depth": 3, "embed_dim": 32}
    if family == "amixer":
        return {"depths": (2, 2, 1, 1), "embed_dim": 4 * (3 if name[-1] in "ts" else 4)}
    if family == "stridemixer":
        return {"depth": 3}
    return {"depth": 3, "dim": 32}


def make(name: str, **overrides: object) -> nn.Module:
    """Our small variant."""
    size = {"img_size": image_size(name), "num_classes": NUM_CLASSES}
    return timm.create_model(name, **{**size, **settings(name), **overrides})


def make_plain(name: str) -> nn.Module:
    """The plain transcription of the small variant."""
    arguments = {"num_classes": NUM_CLASSES, **settings(name)}
    size = image_size(name)
    if name.startswith(("dynamixer", "vip")):
        arguments["img_size"] = size
    elif name == "amixer_deit_s":
        arguments["img_size"] = (size, size)
    elif name.startswith("amixer"):  # grids of 16, 8, 4 and 2 in 8, 4, 1 and 1 windows
        arguments["windows"] = ((2, 2), (2, 2), (4, 4), (2, 2))
    elif name in SMALL:
        arguments.pop("token_drop_rate", None)
        if name.startswith(("lvvit", "gfnet", "eamlp", "smlpnet", "raftmlp", "s2")):
            arguments["img_size"] = size
    module = importlib.import_module(PLAIN_MODULES[timm.model_entrypoint(name).__module__])
    return module.plain(name, **arguments)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give what is learned, and BatchNorm's statistics, ordinary sizes; zeros hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    saved = model.state_dict()
    learned = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    with torch.no_grad():
        for key, value in (*learned, *model.named_buffers()):
            if key not in saved or not value.is_floating_point():
                continue
            draws = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            if key.endswith("running_var"):
                draws = 0.5 + draws.abs()
            elif value.ndim > 1:
                draws = draws / value[0].numel() ** 0.5
            elif key.endswith("weight") or "gamma" in key:
                draws = 1 + 0.1 * draws
            else:
                draws = 0.1 * draws
            value.copy_(draws)
    return model


def images(name: str, batch: int = 2, seed: int = 1, **overrides: object) -> torch.Tensor:
    """Standard normal images of the small variant's size."""
    generator = torch.Generator().manual_seed(seed)
    size = image_size(name)
    return torch.randn(batch, 3, size, size, generator=generator, **overrides)


SAME_WHEN_SMALL = {
    **dict.fromkeys(("gfnet_xs", "gfnet_s", "gfnet_b"), "gfnet_ti"),
    **dict.fromkeys(("gfnet_h_s", "gfnet_h_b"), "gfnet_h_ti"),
    **dict.fromkeys(("cyclemlp_b2", "cyclemlp_b5"), "cyclemlp_b1"),
    "cyclemlp_b4": "cyclemlp_b3",
    **dict.fromkeys(("cyclemlp_s", "cyclemlp_b"), "cyclemlp_t"),
    **dict.fromkeys(("hire_mlp_small", "hire_mlp_base", "hire_mlp_large"), "hire_mlp_tiny"),
    **dict.fromkeys(("as_mlp_small", "as_mlp_base"), "as_mlp_tiny"),
    **dict.fromkeys(("smlpnet_small", "smlpnet_base"), "smlpnet_tiny"),
    **dict.fromkeys(("raftmlp_m", "raftmlp_l"), "raftmlp_s"),
}
"""Variants that differ from another in depth and width alone: made small, they are that one."""

NAMES = tuple(name for name in models.names() if name not in SAME_WHEN_SMALL)

OTHER_FORMS = ("cyclemlp_t", "raftmlp_12")
"""Of families with two: another trunk, and another embedding, than the one of each family's."""

STRUCTURES = tuple(
    name for name in NAMES if name not in SMALL or name in (*ONE_OF_EACH_FAMILY, *OTHER_FORMS)
)
"""Those whose small forms differ in more than numbers, for what is costly."""
