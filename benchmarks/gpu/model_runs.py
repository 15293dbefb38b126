"""Which models and steps are timed on a GPU, and how; nothing that takes long is imported here.

Split convolutions and k = 9 also with contiguous layout: channels-last is not faster for all.
"""

from typing import Literal, NamedTuple

Mode = Literal["training", "inference"]


class Run(NamedTuple):
    """A model in one mode, images of a batch, `bench_model`'s options, whether kernels are used."""

    model: str
    mode: Mode
    batch: int = 256
    options: tuple[str, ...] = ()
    kernels: bool = False


_AUTOCAST = ("--autocast", "bfloat16")
_BLOCKS = ("--compiled", "blocks")
_WHOLE = ("--compiled", "whole")
FIRST = {
    "dynamixer_s, autocast, training": Run(
        "dynamixer_s", "training", options=(*_AUTOCAST, *_BLOCKS)
    ),
    "dynamixer_s, bf16, inference": Run("dynamixer_s", "inference", options=_BLOCKS),
    "dynamixer_s, autocast, kernels, training": Run(
        "dynamixer_s", "training", options=(*_AUTOCAST, *_BLOCKS), kernels=True
    ),
    "dynamixer_s, bf16, kernels, inference": Run(
        "dynamixer_s", "inference", options=_BLOCKS, kernels=True
    ),
    "dynamixer_s, bf16, training": Run("dynamixer_s", "training", options=_BLOCKS),
}


def _both(
    model: str, batch: int, *, contiguous: bool = False, kernels: bool = False
) -> dict[str, Run]:
    """A model as it trains, under autocast, and as it is used, in bf16."""
    layout = ("--contiguous",) if contiguous else ()
    extra = (", contiguous" if contiguous else "") + (", kernels" if kernels else "")
    train = Run(model, "training", batch, (*_AUTOCAST, *_BLOCKS, *layout), kernels)
    infer = Run(model, "inference", batch, (*_BLOCKS, *layout), kernels)
    return {
        f"{model}, autocast{extra}, training": train,
        f"{model}, bf16{extra}, inference": infer,
    }


FAMILIES = {
    **_both("vip_s7", 256),
    **_both("amixer_t", 256),
    **_both("splitmixer_768_32", 128),
    **_both("splitmixer_768_32", 128, contiguous=True),
    **_both("splitmixer_768_32", 128, kernels=True),
    **_both("splitmixer_1024_20_ks9_p14", 128),
    **_both("splitmixer_1024_20_ks9_p14", 128, contiguous=True),
    **_both("convmixer_256_8", 512),
    **_both("convmixer_256_8", 512, kernels=True),
}
LARGE = {
    **_both("dynamixer_l", 64),
    **_both("dynamixer_m", 128),
    **_both("vip_l7", 64),
    **_both("vip_m7", 128),
    **_both("amixer_b", 64),
    **_both("amixer_s", 128),
    **_both("amixer_deit_s", 256),
}
WHOLE = {
    "dynamixer_s, autocast, whole, training": Run(
        "dynamixer_s", "training", options=(*_AUTOCAST, *_WHOLE)
    ),
    "dynamixer_s, bf16, whole, inference": Run("dynamixer_s", "inference", options=_WHOLE),
}
"""Compiling whole models takes minutes; of one it shows whether it is worth them."""
RUNS = {**FIRST, **FAMILIES, **LARGE, **WHOLE}

PLAIN_STEP = "plain PyTorch"
STEPS = ("dynamixer_s, eager", "dynamixer_s, blocks", "narrow, eager", "narrow, blocks")
SETTINGS = "narrow, settings"
"""Of `train_step`: what stands beside our steps, models and ways to run them, and the case in which
single settings are turned."""
