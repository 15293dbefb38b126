"""The mixer families. `import models` registers them for `timm.create_model("dynamixer_s")`.

- `dynamixer`, `vip`, `amixer`, `amixer_windowed`, `splitmixer`, `lvvit`, `gfnet`, `convmlp`,
  `eamlp`, `cyclemlp`, `hire_mlp`, `as_mlp`, `smlpnet`, `raftmlp`, `s2_mlpv2`: the families; each
  registers its variants by `registry`. `layers`: what they are built of. `trunks`: around blocks.
  `kernels`: what of it is fused on GPUs.
- `build`: a model by name, for an input size. `constructor`: what else it may be given. `cost`:
  what it costs. `device_peaks`: what accelerators do at most. `dealt_paths`: drop path with draws
  from outside. `memory_layout`: in which order of memory it computes. `half_norms`:
  LayerNorm under autocast.
- `weights`: weights from elsewhere, the authors' above all, and for elsewhere.
"""

import importlib
from collections.abc import Mapping

import timm

FAMILIES = (
    "dynamixer",
    "vip",
    "amixer",
    "amixer_windowed",
    "splitmixer",
    "lvvit",
    "gfnet",
    "convmlp",
    "eamlp",
    "cyclemlp",
    "hire_mlp",
    "as_mlp",
    "smlpnet",
    "raftmlp",
    "s2_mlpv2",
)
"""Modules of this package that register models. A new family is added here and nowhere else."""


def _register(families: tuple[str, ...]) -> tuple[str, ...]:
    taken = set(timm.list_models())
    registered = []
    for family in families:
        module = importlib.import_module(f"models.{family}")
        # timm only warns on a taken name and the last one wins; we refuse.
        entry_points = [name for name in module.__all__ if timm.is_model(name)]
        if clash := sorted(taken.intersection(entry_points)):
            raise ImportError(
                f"models/{family}.py registers {', '.join(clash)}, which timm {timm.__version__} "
                "already has; rename ours or use timm's"
            )
        registered += entry_points
    return tuple(registered)


def _authors_names(families: tuple[str, ...]) -> dict[str, tuple[str, Mapping[str, object]]]:
    modules = [importlib.import_module(f"models.{family}") for family in families]
    return {
        theirs: ours
        for module in modules
        for theirs, ours in getattr(module, "AUTHORS_NAMES", {}).items()
    }


_NAMES = _register(FAMILIES)
_AUTHORS_NAMES = _authors_names(FAMILIES)


def names() -> tuple[str, ...]:
    """Names of all models that this package registers, family by family."""
    return _NAMES


def resolve(name: str) -> tuple[str, Mapping[str, object]]:
    """The registered name, and constructor arguments, of a model that its authors call `name`.

    Any other name is returned as it is, without arguments. Authors' names are for checkpoints and
    tables; they are not registered, because some of them are names of other models too.
    """
    return _AUTHORS_NAMES.get(name, (name, {}))
