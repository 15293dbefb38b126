"""The images of a run, and what loads them."""

import hashlib

from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_split
from pipeline.formats.source import Source
from pipeline.loaders.bad_images import Report
from pipeline.loaders.build import build_loader
from pipeline.loaders.token_targets import TokenLabels
from trainer.batch_plan import BatchPlan
from trainer.process.world import World
from trainer.recipe import Recipe


def open_splits(data: DataConfig) -> tuple[Source, Source]:
    """The training and validation images below the root of `data`.

    Raises:
        DataError: if one is missing or unreadable, or their classes differ.
    """
    train, val = open_split(data, "train"), open_split(data, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise DataError(
            f"{data.root}: train has {len(train.classes)} classes and val {len(val.classes)};"
            f" {len(odd)} are not in both, such as {', '.join(odd[:3])};"
            " the same class folders must be in both"
        )
    return train, val


def open_loader(
    recipe: Recipe,
    plan: BatchPlan,
    world: World,
    source: Source,
    spec: InputSpec,
    report: Report,
    *,
    training: bool,
) -> Loader:
    """What makes batches of `source` for this rank; `report` is told of bad images."""
    placement = Placement(
        rank=world.rank,
        world_size=world.world_size,
        local_size=world.local_size,
        device=world.device,
    )
    return build_loader(
        source,
        data=recipe.data,
        augment=recipe.augment,
        spec=spec,
        batch_size=plan.per_gpu if training else recipe.batch.evaluation or plan.per_gpu,
        accumulation=plan.accumulation if training else 1,
        placement=placement,
        seed=recipe.run.seed,
        training=training,
        report=report,
    )


def data_fingerprint(source: Source, labels: TokenLabels | None) -> str:
    """What may not change between a checkpoint and the run that goes on from it."""
    maps = [labels.file.fingerprint] if labels else []
    text = "\n".join([str(len(source)), *source.classes, *maps])
    return hashlib.sha256(text.encode()).hexdigest()
