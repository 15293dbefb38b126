"""The page that goes with a published model: what it is, how it scored, how it was made."""

import models
from tools.trained.load import TrainedModel
from trainer import yaml_config
from trainer.record.run_folder import read_recipe

_PAGE = """\
---
library_name: timm
tags:
- image-classification
- timm
---
# {name}

`{variant}`: {parameters:,} parameters, images of {height}x{width} pixels, {classes}.

{usage}
{sections}"""


def card(model: TrainedModel, *, name: str) -> str:
    """The page in Markdown; what is not known of the model is left out."""
    described = model.description
    height, width = described.input.size
    return _PAGE.format(
        name=name,
        variant=described.name,
        parameters=model.num_parameters,
        height=height,
        width=width,
        classes=f"{len(described.classes):,} classes" if described.classes else "unnamed classes",
        usage=_usage(model, name),
        sections="\n".join([*_result(model), *_making(model)]),
    )


def _usage(model: TrainedModel, name: str) -> str:
    ours = model.description.name in models.names()
    register = "import models  # Millstream's, which registers the variant\n" if ours else ""
    lines = [
        "```python",
        f"import timm\n{register}",
        f'model = timm.create_model("local-dir:{name}", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        "```",
        "",
    ]
    return "\n".join(lines)


def _result(model: TrainedModel) -> list[str]:
    evaluated = model.meta.evaluated if model.meta else None
    if evaluated is None or evaluated.ema != (model.kind == "ema"):
        return []
    weights = "the moving average of the weights" if evaluated.ema else "the weights"
    return [
        "## Result",
        "",
        f"Top-1 {evaluated.top1:.2f} %, top-5 {evaluated.top5:.2f} % of {evaluated.count:,}"
        f" validation images ({weights}, after epoch {evaluated.epoch + 1},"
        f" step {evaluated.step:,}).",
        "",
    ]


def _making(model: TrainedModel) -> list[str]:
    recipe = read_recipe(model.run) if model.run else None
    if model.meta is None or recipe is None:
        return []
    versions = ", ".join(f"{key} {value}" for key, value in model.meta.environment.items())
    return [
        "## How it was made",
        "",
        f"Data: `{recipe.data.root}` (SHA-256 of the number of images and the class names:"
        f" `{model.meta.data_fingerprint}`). Versions: {versions or 'not recorded'}.",
        "",
        "    deepspeed launch.py --config recipe.yaml",
        "",
        "`recipe.yaml`:",
        "",
        "```yaml",
        yaml_config.dump(recipe).rstrip("\n"),
        "```",
        "",
    ]
