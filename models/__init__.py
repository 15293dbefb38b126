"""The mixer families. `import models` registers them for `timm.create_model("dynamixer_s")`.

- `dynamixer`, `vip`, `amixer`, `amixer_windowed`, `splitmixer`: the families; each registers its
  variants by `registry`. `layers`: what they are built of.
- `build`: a model by name, for an input size. `constructor`: what else it may be given.
- `checkpoints`, `checkpoint_files`: the authors' weights.
"""

import importlib

import timm

FAMILIES = ("dynamixer", "vip", "amixer", "amixer_windowed", "splitmixer")
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


_NAMES = _register(FAMILIES)


def names() -> tuple[str, ...]:
    """Names of all models that this package registers, family by family."""
    return _NAMES
