"""From a recipe to a trainer that stands ready: the only place where the parts meet."""

import hashlib
import logging
import platform
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from models.build import build_model, compile_in_place, constructor_arguments
from models.cost import Cost, model_cost
from models.weights.description import ModelDescription
from pipeline.augment.batches import BatchTransform
from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_split
from pipeline.formats.source import Source
from pipeline.loaders.bad_images import Report
from pipeline.loaders.build import build_loader
from pipeline.loaders.token_targets import TokenLabels
from trainer.batch_plan import BatchPlan
from trainer.capacity.search import largest_per_gpu
from trainer.capacity.trial import Trial
from trainer.distillation import build_criterion
from trainer.engine import Engine, allow_tf32, check_trainable
from trainer.events import LogMark, Note, Sink
from trainer.initial_weights import load_weights
from trainer.input_spec import evaluation_input, input_spec, spec_of, take_input
from trainer.job import Job, Objective, Outcome
from trainer.loop import Trainer
from trainer.optimization.model_draws import ModelDraws
from trainer.optimization.objective import build_objective, open_token_labels
from trainer.optimization.parameter_groups import freeze
from trainer.process.signals import StopAgreement, StopSignal
from trainer.process.speed import Utilization
from trainer.process.watchdog import Watchdog
from trainer.process.world import World, host_group, on_main, share_cores
from trainer.recipe import Recipe
from trainer.record import announcement, checkpoint
from trainer.record.bad_samples import BadSampleList
from trainer.record.log import open_log
from trainer.record.report.writer import NoReport, ReportWriter, Watched
from trainer.record.run_folder import RunFolder
from trainer.watch.odd_steps import OddStepList
from trainer.watch.step_watch import StepWatch
from trainer.yaml_config import ConfigError

_log = logging.getLogger(__name__)

_MUTE: tuple[Sink, Callable[[], LogMark | None]] = (lambda _: None, lambda: None)
"""What the other ranks say and write."""


def train(
    recipe: Recipe, world: World, stop: StopSignal, give_up: Callable[[str], object]
) -> Outcome:
    """Train `recipe` from where its run folder stands; `give_up` as `Watchdog` takes it.

    Raises:
        ConfigError: a recipe that does not go with the data, the ranks or the run folder.
        DataError: data that cannot be read.
        CheckpointError: a checkpoint that cannot be written or read.
        TrainingError: gradients or weights that are not finite.
        OSError: a file of the run that cannot be written.
    """
    share_cores(world)
    allow_tf32(recipe.precision.allow_tf32)
    if recipe.run.max_hours:
        stop.deadline = time.monotonic() + 3600 * recipe.run.max_hours
    folder = RunFolder(Path(recipe.run.root, recipe.run.name))
    sources = open_splits(recipe.data)
    with ExitStack() as stack:
        stack.enter_context(closing(folder))
        on_main(lambda: folder.open(recipe))
        if on_main(lambda: _is_complete(recipe, folder)):
            return Outcome.COMPLETE
        recipe, found = _with_known_batch(recipe, world, folder, sources)
        watchdog = Watchdog(recipe.run.watchdog_s, give_up)
        trainer, emit = _assemble(recipe, world, stop, folder, sources, stack, watchdog)
        if found:
            emit(Note(step=trainer.progress.step, text=found))
        outcome = trainer.fit()
        if outcome is Outcome.COMPLETE:
            on_main(lambda: _close(trainer, emit, folder, len(sources[0].classes)))
        watchdog.finish()
    return outcome


def _close(trainer: Trainer, emit: Sink, folder: RunFolder, num_classes: int) -> None:
    """Write `summary.json`, and say how the run went."""
    progress, tally, result = trainer.progress, trainer.tally, trainer.result
    assert result is not None
    folder.write_summary(announcement.summary(result, progress, tally))
    text = announcement.closing_words(
        result, progress, tally, num_classes=num_classes, folder=folder.path
    )
    emit(Note(step=progress.step, text=text))


def _is_complete(recipe: Recipe, folder: RunFolder) -> bool:
    """Whether nothing is left to do; says so."""
    latest, _ = checkpoint.find_latest(folder.checkpoints)
    epochs = recipe.schedule.total_epochs
    done = latest is not None and checkpoint.read_meta(latest).progress.epoch >= epochs
    if done and folder.summary.exists():
        _log.warning(
            "%s: this run is complete after %d epochs, and nothing is done; choose another"
            " run.name to train anew",
            *(folder.path, epochs),
        )
    return done and folder.summary.exists()


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


def _assemble(
    recipe: Recipe,
    world: World,
    stop: StopSignal,
    folder: RunFolder,
    sources: tuple[Source, Source],
    stack: ExitStack,
    watchdog: Watchdog,
) -> tuple[Trainer, Sink]:
    """The trainer, where its newest checkpoint left it, and where events go."""
    plan = _plan(recipe, world, len(sources[0]))
    model = _model(recipe, len(sources[0].classes))
    take_input(model, recipe)
    check_trainable(model, recipe, world.device)
    spec = input_spec(model)
    description = _description(recipe, model, sources[0].classes)
    bad = BadSampleList(folder.path, rank=world.rank)
    load = partial(_loader, recipe, plan, world)
    labels = open_token_labels(recipe, sources[0])
    read = labels.source if labels else sources[0]
    train = load(read, spec, partial(bad.add, "train"), training=True)
    stack.enter_context(closing(train))
    evaluation_spec = spec_of(description.input)
    evaluation = load(sources[1], evaluation_spec, partial(bad.add, "val"), training=False)
    stack.enter_context(closing(evaluation))
    on_main(lambda: folder.claim(recipe))
    latest, damaged = on_main(lambda: checkpoint.find_latest(folder.checkpoints))
    meta = checkpoint.read_meta(latest) if latest else None
    step = meta.progress.step if meta else 0
    total = train.batches_per_epoch // plan.accumulation * recipe.schedule.total_epochs
    emit, log_mark = open_log(recipe, folder, stop, stack, latest, meta) if world.is_main else _MUTE
    cost = model_cost(model, recipe.model.name) if world.is_main else None
    if cost is not None:
        emit(
            announcement.started(
                *(recipe, world, plan, sources),
                cost=cost,
                size=spec.size,
                folder=folder.path,
                step=step,
                total=total,
            )
        )
    if recipe.model.init_from and latest is None:
        load_weights(model, recipe.model.init_from, name=recipe.model.name, key="model.init_from")
    freeze(model, recipe.model.freeze)
    draws = ModelDraws(model, seed=recipe.run.seed, rank=world.rank)
    engine = Engine(model, recipe, plan)
    if recipe.run.compile != "none":
        compile_in_place(model, blocks=recipe.run.compile == "blocks", mode=recipe.run.compile_mode)
    transform, objective = _objective(recipe, model, world, sources, labels)
    report = NoReport()
    if world.is_main:
        report = ReportWriter(
            folder.path, transform=transform, source=sources[1], spec=spec, emit=emit
        )
        stack.enter_context(closing(report))
    job = Job(
        recipe=recipe,
        plan=plan,
        train=train,
        evaluation=evaluation,
        transform=transform,
        objective=objective,
        draws=draws,
        emit=emit,
        log_mark=log_mark,
        stop=StopAgreement(stop, host_group()),
        watchdog=watchdog,
        watch=StepWatch(
            [name for name, _ in model.named_parameters()],
            *(read.key, emit, OddStepList(folder.path, step=step) if world.is_main else None),
        ),
        utilization=_utilization(recipe, world, cost),
        checkpoints=folder.checkpoints,
        data_fingerprint=_data_fingerprint(sources[0], labels),
        environment=_environment(recipe, world),
        description=description,
        report=report,
    )
    trainer = Trainer(job, engine)
    for line in damaged:
        job.emit(Note(step=step, text=line))
    if latest is not None:
        trainer.resume(latest)
        job.emit(Note(step=step, text=f"going on from {latest} (step {step} of {total})"))
        if meta is not None and draws.of_ranks and meta.ranks != world.world_size:
            text = f"{draws.of_ranks} draws by rank: its masks differ from those of {meta.ranks}"
            job.emit(Note(step=step, text=f"{text} rank(s), with which the run was saved"))
    return trainer, emit


def _utilization(recipe: Recipe, world: World, cost: Cost | None) -> Utilization:
    one_size = recipe.augment.resolution is None
    return Utilization(
        world.device,
        macs=cost.macs if cost is not None and one_size else None,
        dtype=recipe.precision.dtype,
        tf32=recipe.precision.allow_tf32,
    )


def _plan(recipe: Recipe, world: World, images: int) -> BatchPlan:
    size = recipe.batch.global_size
    if size > images:
        raise ConfigError(
            f"batch.global_size: {size} is more than the {images} training images in"
            f" {recipe.data.root}; use at most {images}"
        )
    try:
        return BatchPlan.solve(
            global_size=size,
            per_gpu=recipe.batch.known_per_gpu,
            world_size=world.world_size,
            even=recipe.augment.mixes,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _with_known_batch(
    recipe: Recipe, world: World, folder: RunFolder, sources: tuple[Source, Source]
) -> tuple[Recipe, str]:
    """`recipe` with a number for `batch.per_gpu`, and, if it was found, how (collective)."""
    if recipe.batch.per_gpu != "auto":
        return recipe, ""
    model = _model(recipe, len(sources[0].classes))
    take_input(model, recipe)
    check_trainable(model, recipe, world.device)
    freeze(model, recipe.model.freeze)
    labels = open_token_labels(recipe, sources[0])
    _, objective = _objective(recipe, model, world, sources, labels)
    schedule = recipe.augment.resolution
    size = max(input_spec(model).size, schedule.max_res if schedule else 0)
    found = largest_per_gpu(
        Trial(recipe, model.to(world.device), objective, size=size),
        world,
        global_size=recipe.batch.global_size,
        even=recipe.augment.mixes,
        kept=on_main(folder.kept_per_gpu),
    )
    return replace(recipe, batch=replace(recipe.batch, per_gpu=found.per_gpu)), found.words


def _objective(
    recipe: Recipe,
    model: nn.Module,
    world: World,
    sources: tuple[Source, Source],
    labels: TokenLabels | None,
) -> tuple[Watched, Objective]:
    """What is made smaller, and what prepares batches for it."""
    spec, num_classes = input_spec(model), _num_classes(recipe, sources)
    transform = Watched(
        BatchTransform(recipe.augment, spec=spec, num_classes=num_classes, seed=recipe.run.seed)
    )
    objective = build_objective(
        recipe,
        model,
        transform=transform,
        criterion=build_criterion(recipe, spec=spec, num_classes=num_classes, device=world.device),
        labels=labels,
        spec=spec,
        num_classes=num_classes,
    )
    return transform, objective


def _num_classes(recipe: Recipe, sources: tuple[Source, Source]) -> int:
    return recipe.model.num_classes or len(sources[0].classes)


def _model(recipe: Recipe, classes: int) -> nn.Module:
    config = recipe.model
    if config.num_classes is not None and config.num_classes < classes:
        raise ConfigError(
            f"model.num_classes: {config.num_classes} is less than the {classes} classes in"
            f" {recipe.data.root}; leave it out to take the data's"
        )
    torch.manual_seed(recipe.run.seed)  # every rank starts from the same weights
    return build_model(
        config.name,
        num_classes=config.num_classes or classes,
        img_size=config.img_size,
        drop_path_rate=config.drop_path_rate,
        grad_checkpointing=config.grad_checkpointing,
        arguments=config.args,
    )


def _description(recipe: Recipe, model: nn.Module, classes: tuple[str, ...]) -> ModelDescription:
    config = recipe.model
    arguments = constructor_arguments(
        config.name, img_size=config.img_size, drop_path_rate=config.drop_path_rate
    )
    return ModelDescription(
        name=config.name,
        arguments={**arguments, **config.args},
        classes=classes,
        input=evaluation_input(model, recipe),
    )


def _loader(
    recipe: Recipe,
    plan: BatchPlan,
    world: World,
    source: Source,
    spec: InputSpec,
    report: Report,
    *,
    training: bool,
) -> Loader:
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


def _data_fingerprint(source: Source, labels: TokenLabels | None) -> str:
    maps = [labels.file.fingerprint] if labels else []
    text = "\n".join([str(len(source)), *source.classes, *maps])
    return hashlib.sha256(text.encode()).hexdigest()


def _environment(recipe: Recipe, world: World) -> dict[str, str | int]:
    """For the reader of a checkpoint: what made it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "world_size": world.world_size,
        "zero_stage": recipe.zero.stage,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": asked.stdout.strip() or "unknown",
    }
