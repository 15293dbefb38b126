"""The operations that timm's and torchvision's policies choose from.

Facts of their source code, in its order (a test compares each list with theirs). AutoAugment's are
the ImageNet policies of Cubuk et al. 2019 (https://arxiv.org/abs/1805.09501) and of the code of
EfficientNet: pairs of (operation, probability, magnitude).
"""

from typing import NamedTuple

from pipeline.augment.policies.operations import Operation


class Step(NamedTuple):
    """One operation of a policy, and how likely and strong it is.

    Attributes:
        operation: what is done.
        probability: that it is done where it is chosen.
        magnitude: its strength before noise, 10 being full strength (30 in torchvision's scale).
    """

    operation: Operation
    probability: float
    magnitude: float


def _named(names: str) -> tuple[Operation, ...]:
    return tuple(Operation[name] for name in names.split())


RAND = _named(
    "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness"
    " Sharpness ShearX ShearY TranslateXRel TranslateYRel"
)
RAND_INCREASING = _named(
    "AutoContrast Equalize Invert Rotate PosterizeIncreasing SolarizeIncreasing SolarizeAdd"
    " ColorIncreasing ContrastIncreasing BrightnessIncreasing SharpnessIncreasing ShearX ShearY"
    " TranslateXRel TranslateYRel"
)
THREE_AUGMENT = _named("SolarizeIncreasing Desaturate GaussianBlur")
AUGMIX = _named(
    "AutoContrast ColorIncreasing ContrastIncreasing BrightnessIncreasing SharpnessIncreasing"
    " Equalize Rotate PosterizeIncreasing SolarizeIncreasing ShearX ShearY TranslateXRel"
    " TranslateYRel"
)
TORCHVISION = _named(
    "NONE ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness Posterize"
    " Solarize AutoContrast Equalize"
)

WEIGHTS = {
    "weights": {
        Operation.Rotate: 3,
        Operation.ShearX: 2,
        Operation.ShearY: 2,
        Operation.TranslateXRel: 1,
        Operation.TranslateYRel: 1,
        Operation.ColorIncreasing: 0.25,
        Operation.SharpnessIncreasing: 0.25,
        Operation.AutoContrast: 0.25,
        Operation.SolarizeIncreasing: 0.05,
        Operation.SolarizeAdd: 0.05,
        Operation.ContrastIncreasing: 0.05,
        Operation.BrightnessIncreasing: 0.05,
        Operation.Equalize: 0.05,
        Operation.PosterizeIncreasing: 0.05,
        Operation.Invert: 0.05,
    },
    "3aw": {
        Operation.SolarizeIncreasing: 6,
        Operation.Desaturate: 6,
        Operation.GaussianBlur: 6,
        Operation.Rotate: 3,
        Operation.ShearX: 2,
        Operation.ShearY: 2,
        Operation.PosterizeIncreasing: 1,
        Operation.AutoContrast: 1,
        Operation.ColorIncreasing: 1,
        Operation.SharpnessIncreasing: 1,
        Operation.ContrastIncreasing: 1,
        Operation.BrightnessIncreasing: 1,
        Operation.Equalize: 1,
        Operation.Invert: 1,
    },
}
"""timm's sets with weights: drawn without replacement, in proportion."""

_ORIGINAL = """
PosterizeOriginal 0.4 8, Rotate 0.6 9
Solarize 0.6 5, AutoContrast 0.6 5
Equalize 0.8 8, Equalize 0.6 3
PosterizeOriginal 0.6 7, PosterizeOriginal 0.6 6
Equalize 0.4 7, Solarize 0.2 4
Equalize 0.4 4, Rotate 0.8 8
Solarize 0.6 3, Equalize 0.6 7
PosterizeOriginal 0.8 5, Equalize 1.0 2
Rotate 0.2 3, Solarize 0.6 8
Equalize 0.6 8, PosterizeOriginal 0.4 6
Rotate 0.8 8, Color 0.4 0
Rotate 0.4 9, Equalize 0.6 2
Equalize 0.0 7, Equalize 0.8 8
Invert 0.6 4, Equalize 1.0 8
Color 0.6 4, Contrast 1.0 8
Rotate 0.8 8, Color 1.0 2
Color 0.8 8, Solarize 0.8 7
Sharpness 0.4 7, Invert 0.6 8
ShearX 0.6 5, Equalize 1.0 9
Color 0.4 0, Equalize 0.6 3
Equalize 0.4 7, Solarize 0.2 4
Solarize 0.6 5, AutoContrast 0.6 5
Invert 0.6 4, Equalize 1.0 8
Color 0.6 4, Contrast 1.0 8
Equalize 0.8 8, Equalize 0.6 3
"""

_V0 = """
Equalize 0.8 1, ShearY 0.8 4
Color 0.4 9, Equalize 0.6 3
Color 0.4 1, Rotate 0.6 8
Solarize 0.8 3, Equalize 0.4 7
Solarize 0.4 2, Solarize 0.6 2
Color 0.2 0, Equalize 0.8 8
Equalize 0.4 8, SolarizeAdd 0.8 3
ShearX 0.2 9, Rotate 0.6 8
Color 0.6 1, Equalize 1.0 2
Invert 0.4 9, Rotate 0.6 0
Equalize 1.0 9, ShearY 0.6 3
Color 0.4 7, Equalize 0.6 0
Posterize 0.4 6, AutoContrast 0.4 7
Solarize 0.6 8, Color 0.6 9
Solarize 0.2 4, Rotate 0.8 9
Rotate 1.0 7, TranslateYRel 0.8 9
ShearX 0.0 0, Solarize 0.8 4
ShearY 0.8 0, Color 0.6 4
Color 1.0 0, Rotate 0.6 2
Equalize 0.8 4, Equalize 0.0 8
Equalize 1.0 4, AutoContrast 0.6 2
ShearY 0.4 7, SolarizeAdd 0.6 7
Posterize 0.8 2, Solarize 0.6 10
Solarize 0.6 8, Equalize 0.6 1
Color 0.8 6, Rotate 0.4 5
"""


def _sub_policies(lines: str) -> tuple[tuple[Step, ...], ...]:
    return tuple(tuple(map(_step, line.split(","))) for line in lines.strip().splitlines())


def _step(text: str) -> Step:
    name, probability, magnitude = text.split()
    return Step(Operation[name], float(probability), float(magnitude))


AUTO_AUGMENT = {
    "original": _sub_policies(_ORIGINAL),
    "originalr": _sub_policies(_ORIGINAL.replace("PosterizeOriginal", "PosterizeIncreasing")),
    "v0": _sub_policies(_V0),
    "v0r": _sub_policies(_V0.replace("Posterize", "PosterizeIncreasing")),
    "3a": _sub_policies("Solarize 1.0 5\nDesaturate 1.0 10\nGaussianBlurRand 1.0 10"),
}
