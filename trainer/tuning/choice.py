"""What there is to choose in how a model is computed: the same numbers, rounded differently."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from trainer.recipe import Recipe
from trainer.run_config import Layout, RunConfig

_DEFAULT = RunConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Fields of `RunConfig`, with its defaults."""

    layout: Layout = _DEFAULT.layout
    kernels: bool = _DEFAULT.kernels
    compile: Literal["none", "blocks", "model"] = _DEFAULT.compile
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = _DEFAULT.compile_mode

    def __str__(self) -> str:
        layout, kernels, compiler = self.parts()
        return f"{layout}, {kernels} operations, {compiler}"

    def parts(self) -> tuple[str, str, str]:
        """Layout, operations and compiler in words."""
        compiler = "eager"
        if self.compile != "none":
            mode = "" if self.compile_mode == "default" else f" ({self.compile_mode})"
            compiler = f"compiled {'whole' if self.compile == 'model' else 'by block'}{mode}"
        kernels = "fused" if self.kernels else "plain"
        return self.layout.replace("_", " "), kernels, compiler


def choice_of(recipe: Recipe) -> Choice:
    """What `recipe` says."""
    run = recipe.run
    return Choice(
        layout=run.layout, kernels=run.kernels, compile=run.compile, compile_mode=run.compile_mode
    )


def with_choice(recipe: Recipe, choice: Choice) -> Recipe:
    """`recipe` with `choice` in it, and nothing left to be looked up."""
    return replace(recipe, run=replace(recipe.run, tuned=False, **asdict(choice)))
