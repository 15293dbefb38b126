"""timm's language of augmentation policies, parsed once into one type.

`rand-m9-mstd0.5-inc1` (RandAugment), `original-mstd0.5` (AutoAugment), `3a` (3-Augment) and
`augmix-m5` (AugMix) mean what they mean in timm, defaults included; `tv-n2-m12` is torchvision's
RandAugment. What timm passes over in silence (an option without a value, an unknown set of
operations, an option given twice) is refused.

Errors are plain `ValueError`s without the path of the section, which `trainer.yaml_config` adds.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.augment.policies.levels import FULL_LEVEL, TORCHVISION_BINS
from pipeline.augment.policies.operations import Operation
from pipeline.augment.policies.policy_tables import (
    AUGMIX,
    AUTO_AUGMENT,
    RAND,
    RAND_INCREASING,
    THREE_AUGMENT,
    TORCHVISION,
    WEIGHTS,
    Step,
)

_UNIFORM_ABOVE = 100
"""timm's `mstd` of RandAugment: beyond this the magnitude is uniform in [0, m]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """AugMix (Hendrycks et al. 2020): chains of operations, mixed with each other and the image."""

    width: int = 3
    """Chains."""
    depth: int | None = None
    """Operations of each chain; None draws 1 to 3."""
    alpha: float = 1.0
    """Of the Dirichlet and Beta distributions of the weights."""
    blended: bool = False
    """Blend each chain into the image in turn, rounding each time, rather than all at the end."""

    @property
    def longest(self) -> int:
        """The most operations that a chain can have."""
        return self.depth or 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What may be done to an image: each layer chooses one of `choices` and does its steps in turn.

    RandAugment has several layers and choices of one step, AutoAugment one layer and choices of two
    steps, AugMix a layer for each operation of its chains.
    """

    choices: tuple[tuple[Step, ...], ...]
    layers: int
    weights: tuple[float, ...] | None = None
    """Of the choices; with weights no choice is taken twice for one image."""
    magnitude_std: float = 0.0
    """Of the Gaussian noise on magnitudes; infinite: uniform in [0, magnitude] instead."""
    magnitude_max: float = FULL_LEVEL
    """Magnitudes are clipped to [0, this]."""
    translate_share: float = 0.45
    """Share of the side that images are moved by at full strength."""
    mixing: Mixing | None = None
    is_torchvision: bool = False
    """Magnitudes are steps of torchvision's 31, resampled with NEAREST on black."""
    keeps_color_jitter: bool = False
    """Colour jitter follows, as with timm's 3-Augment; other policies turn it off."""

    @property
    def places(self) -> tuple[frozenset[Operation], ...]:
        """For each of the layers' steps in turn, the operations that it can be."""
        steps = max(map(len, self.choices))
        layer = tuple(
            frozenset(choice[step].operation for choice in self.choices if step < len(choice))
            for step in range(steps)
        )
        return layer * self.layers


class _Option(NamedTuple):
    """How an option's number is read, which ones are allowed, and what it is."""

    read: Callable[[str], float]
    allowed: Callable[[float], bool]
    meaning: str


_COUNT = "an integer >= 1"
_FLAG = _Option(int, lambda value: value in (0, 1), "0 or 1")
_STD = _Option(float, lambda value: value >= 0, "noise of the magnitude, a number >= 0")
_MAGNITUDE = _Option(int, lambda value: value >= 0, "magnitude, an integer >= 0")
_LAYERS = _Option(int, lambda value: value >= 1, f"operations of an image, {_COUNT}")
_RAND_OPTIONS = {
    "n": _LAYERS,
    "m": _MAGNITUDE,
    "mstd": _STD._replace(meaning=f"{_STD.meaning}; above {_UNIFORM_ABOVE}: uniform"),
    "mmax": _Option(int, lambda value: value >= 1, f"bound of the magnitude, {_COUNT}"),
    "p": _Option(float, lambda value: 0 < value <= 1, "probability of each operation, in (0, 1]"),
    "inc": _FLAG._replace(meaning="operations that grow with the magnitude, 0 or 1"),
}
_AUGMIX_OPTIONS = {
    "m": _MAGNITUDE,
    "w": _Option(int, lambda value: value >= 1, f"chains, {_COUNT}"),
    "d": _Option(int, lambda value: value >= 1, f"operations of a chain, {_COUNT}; else 1 to 3"),
    "a": _Option(float, lambda value: 0 < value < math.inf, "alpha of the weights, a number > 0"),
    "b": _FLAG._replace(meaning="blend chain by chain, 0 or 1"),
    "mstd": _STD,
}
_TORCHVISION_OPTIONS = {
    "n": _LAYERS,
    "m": _Option(
        int,
        lambda value: 0 <= value < TORCHVISION_BINS,
        f"magnitude, an integer in [0, {TORCHVISION_BINS - 1}]",
    ),
}
_SETS = ("weights", "3a", "3aw")


def parse_policy(text: str) -> Policy:
    """Parse a policy in timm's language.

    Args:
        text: the policy's name and its options, joined by `-`, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ValueError: naming the text and what is known, if a name or an option is not, or if a value
            is impossible.
    """
    name, *sections = text.split("-")
    if name == "rand":
        return _rand_augment(text, sections)
    if name in AUTO_AUGMENT:
        return _auto_augment(text, name, sections)
    if name == "augmix":
        return _augmix(text, sections)
    if name == "tv":
        return _torchvision(text, sections)
    known = ", ".join(["rand", *AUTO_AUGMENT, "augmix", "tv"])
    raise ValueError(f"{text!r}: unknown policy {name!r}; known are {known}")


def _rand_augment(text: str, sections: list[str]) -> Policy:
    sets = [section[1:] for section in sections if section.startswith("t")]
    if len(sets) > 1:
        raise ValueError(f"{text!r}: the set of operations (t) is given twice")
    values = _read_options(
        text,
        [section for section in sections if not section.startswith("t")],
        _RAND_OPTIONS,
        also=f"t (set of operations: {', '.join(_SETS)})",
    )
    operations, weights = _operation_set(text, sets, increasing=bool(values.get("inc", 0)))
    layers = int(values.get("n", 2))
    if weights is not None and layers > len(operations):
        raise ValueError(
            f"{text!r}: n{layers} is more than the {len(operations)} operations of the set"
            f" {sets[0]!r}, each of which is taken once at most"
        )
    probability, magnitude = values.get("p", 0.5), values.get("m", FULL_LEVEL)
    std = values.get("mstd", 0.0)
    return Policy(
        choices=tuple((Step(operation, probability, magnitude),) for operation in operations),
        layers=layers,
        weights=weights,
        magnitude_std=math.inf if std > _UNIFORM_ABOVE else std,
        magnitude_max=values.get("mmax", FULL_LEVEL),
        keeps_color_jitter="3a" in text,
    )


def _operation_set(
    text: str, sets: list[str], *, increasing: bool
) -> tuple[tuple[Operation, ...], tuple[float, ...] | None]:
    """Return the operations that RandAugment chooses from, and their weights."""
    if not sets:
        return RAND_INCREASING if increasing else RAND, None
    if sets[0] == "3a":
        return THREE_AUGMENT, None
    if sets[0] not in WEIGHTS:
        raise ValueError(
            f"{text!r}: unknown set of operations {sets[0]!r} (t); known are {', '.join(_SETS)}"
        )
    weights = WEIGHTS[sets[0]]
    return tuple(weights), tuple(weight / sum(weights.values()) for weight in weights.values())


def _auto_augment(text: str, name: str, sections: list[str]) -> Policy:
    values = _read_options(text, sections, {"mstd": _STD})
    return Policy(
        choices=AUTO_AUGMENT[name],
        layers=1,
        magnitude_std=values.get("mstd", 0.0),
        keeps_color_jitter=name == "3a",
    )


def _augmix(text: str, sections: list[str]) -> Policy:
    values = _read_options(text, sections, _AUGMIX_OPTIONS)
    depth = values.get("d")
    mixing = Mixing(
        width=int(values.get("w", 3)),
        depth=None if depth is None else int(depth),
        alpha=values.get("a", 1.0),
        blended=bool(values.get("b", 0)),
    )
    magnitude = values.get("m", 3)
    return Policy(
        choices=tuple((Step(operation, 1.0, magnitude),) for operation in AUGMIX),
        layers=mixing.width * mixing.longest,
        magnitude_std=values.get("mstd", math.inf),
        translate_share=0.3,
        mixing=mixing,
    )


def _torchvision(text: str, sections: list[str]) -> Policy:
    values = _read_options(text, sections, _TORCHVISION_OPTIONS)
    magnitude = values.get("m", 9)
    return Policy(
        choices=tuple((Step(operation, 1.0, magnitude),) for operation in TORCHVISION),
        layers=int(values.get("n", 2)),
        is_torchvision=True,
        keeps_color_jitter=True,
    )


def _read_options(
    text: str, sections: list[str], options: dict[str, _Option], *, also: str = ""
) -> dict[str, float]:
    """Return the values by option; each section is a name followed by a number."""
    values: dict[str, float] = {}
    for section in sections:
        key = re.split(r"\d", section, maxsplit=1)[0]
        option = options.get(key)
        if option is None:
            known = [f"{name} ({known.meaning})" for name, known in options.items()]
            raise ValueError(
                f"{text!r}: unknown option {section!r}; known are"
                f" {'; '.join([*known, also] if also else known)}"
            )
        if key in values:
            raise ValueError(f"{text!r}: the option {key} is given twice")
        values[key] = _read_number(text, key, section[len(key) :], option)
    return values


def _read_number(text: str, key: str, number: str, option: _Option) -> float:
    try:
        value = option.read(number)
    except ValueError:
        value = math.nan
    if not option.allowed(value):
        raise ValueError(
            f"{text!r}: {key} takes {option.meaning}; got {number!r}"
            if number
            else f"{text!r}: {key} needs a value: {option.meaning}"
        )
    return value
