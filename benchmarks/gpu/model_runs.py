"""Which models are timed on a GPU, and how; nothing that takes long is imported here.

Split convolutions and k = 9 also with contiguous layout: channels-last is not faster for all.
"""

from typing import NamedTuple


class Run(NamedTuple):
    """A model, images of a batch, what `bench_model` is told, and whether kernels are used."""

    model: str
    batch: int = 256
    options: tuple[str, ...] = ()
    kernels: bool = False


_AUTOCAST = ("--autocast",)
FIRST = {
    "dynamixer_s, bf16": Run("dynamixer_s"),
    "dynamixer_s, autocast": Run("dynamixer_s", options=_AUTOCAST),
    "dynamixer_s, autocast, kernels": Run("dynamixer_s", options=_AUTOCAST, kernels=True),
}
FAMILIES = {
    "vip_s7, autocast": Run("vip_s7", options=_AUTOCAST),
    "amixer_t, autocast": Run("amixer_t", options=_AUTOCAST),
    "splitmixer_768_32, autocast": Run("splitmixer_768_32", 128, _AUTOCAST),
    "splitmixer_768_32, autocast, contiguous": Run(
        "splitmixer_768_32", 128, (*_AUTOCAST, "--contiguous")
    ),
    "splitmixer_768_32, autocast, kernels": Run("splitmixer_768_32", 128, _AUTOCAST, kernels=True),
    "splitmixer_1024_20_ks9_p14, autocast": Run("splitmixer_1024_20_ks9_p14", 128, _AUTOCAST),
    "splitmixer_1024_20_ks9_p14, autocast, contiguous": Run(
        "splitmixer_1024_20_ks9_p14", 128, (*_AUTOCAST, "--contiguous")
    ),
    "convmixer_256_8, autocast": Run("convmixer_256_8", 512, _AUTOCAST),
    "convmixer_256_8, autocast, kernels": Run("convmixer_256_8", 512, _AUTOCAST, kernels=True),
    "vip_s7, bf16": Run("vip_s7"),
    "amixer_t, bf16": Run("amixer_t"),
}
LARGE = {
    f"{model}, autocast": Run(model, batch, _AUTOCAST)
    for model, batch in (
        *(("dynamixer_m", 128), ("dynamixer_l", 64), ("vip_m7", 128), ("vip_l7", 64)),
        *(("amixer_s", 128), ("amixer_b", 64), ("amixer_deit_s", 256)),
    )
}
RUNS = {**FIRST, **FAMILIES, **LARGE}
