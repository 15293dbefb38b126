"""All parts of a run together."""

import platform
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch

from models.build import compile_in_place
from models.cost import Cost, model_cost
from models.memory_layout import keep_layout
from pipeline.formats.source import Source
from trainer.assembly.batch_size import plan_batches
from trainer.assembly.data import data_fingerprint, open_loader
from trainer.assembly.model import checked_model, describe
from trainer.assembly.objective import watched_objective
from trainer.engine.engine import Engine
from trainer.events import LogMark, Note, Sink
from trainer.initial_weights import load_weights
from trainer.input_spec import input_spec, spec_of
from trainer.job import Job
from trainer.loop import Trainer
from trainer.objective import open_token_labels
from trainer.optimization.model_draws import ModelDraws
from trainer.optimization.parameter_groups import freeze
from trainer.process.signals import StopAgreement, StopSignal
from trainer.process.speed import Utilization
from trainer.process.watchdog import Watchdog
from trainer.process.world import World, host_group, on_main
from trainer.recipe import Recipe
from trainer.record import announcement, checkpoint
from trainer.record.bad_samples import BadSampleList
from trainer.record.log import open_log
from trainer.record.report.writer import NoReport, ReportWriter
from trainer.record.run_folder import RunFolder
from trainer.watch.odd_steps import OddStepList
from trainer.watch.step_watch import StepWatch

_MUTE: tuple[Sink, Callable[[], LogMark | None]] = (lambda _: None, lambda: None)
"""What the other ranks say and write."""


def assemble(
    recipe: Recipe,
    world: World,
    stop: StopSignal,
    folder: RunFolder,
    sources: tuple[Source, Source],
    stack: ExitStack,
    watchdog: Watchdog,
) -> tuple[Trainer, Sink]:
    """The trainer, where its newest checkpoint left it, and where events go."""
    plan = plan_batches(recipe, world, len(sources[0]))
    model = checked_model(recipe, len(sources[0].classes), world)
    spec = input_spec(model)
    description = describe(recipe, model, sources[0].classes)
    bad = BadSampleList(folder.path, rank=world.rank)
    load = partial(open_loader, recipe, plan, world)
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
        source, name = recipe.model.init_from, recipe.model.name
        load_weights(model, source, name=name, key="model.init_from", arguments=recipe.model.args)
    freeze(model, recipe.model.freeze)
    draws = ModelDraws(model, seed=recipe.run.seed, rank=world.rank)
    engine = Engine(model, recipe, plan)
    keep_layout(model, recipe.run.layout)
    if recipe.run.compile != "none":
        compile_in_place(model, blocks=recipe.run.compile == "blocks", mode=recipe.run.compile_mode)
    transform, objective = watched_objective(recipe, model, world, sources, labels)
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
        data_fingerprint=data_fingerprint(sources[0], labels),
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


def _environment(recipe: Recipe, world: World) -> dict[str, str | int]:
    """For the reader of a checkpoint: what made it."""
    return {
        "world_size": world.world_size,
        "zero_stage": recipe.zero.stage,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    """This version of ours, as git calls it; "unknown" where there is no git, or it knows none."""
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    try:
        asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # as in most containers
        return "unknown"
    return asked.stdout.strip() or "unknown"
