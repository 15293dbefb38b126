"""The training loop: epochs of optimizer steps, evaluations and checkpoints.

Everything that decides the next step is a function of (recipe, step): the order and the draws of
images, the learning rate, and model randomness, which is re-keyed at each micro-batch. So a
checkpoint needs tensors and three integers, and a resumed run repeats an undisturbed one.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from models.description import ModelDescription
from pipeline.batch import Batch, Loader
from trainer import checkpoint
from trainer.checkpoint import CheckpointError, Meta, RunProgress, Tally
from trainer.ema import Ema
from trainer.engine import Engine
from trainer.events import Evaluated, Event, Note, Saved, Step
from trainer.metrics import Accuracy
from trainer.recipe import BatchPlan, Recipe
from trainer.schedule import lr_at
from trainer.world import StopAgreement, on_main
from trainer.zero_state import TrainingState, gather_state, scatter_moments, scatter_weights


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says why and what to change."""


class Transform(Protocol):
    """What is done to whole batches on the device."""

    def train(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and soft targets (B, K)."""
        ...

    def evaluate(self, batch: Batch) -> Tensor:
        """Images (B, 3, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What a trainer works on; it constructs none of it."""

    recipe: Recipe
    plan: BatchPlan
    train: Loader
    evaluation: Loader
    transform: Transform
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor]
    """The loss of images (B, 3, H, W), logits (B, K) and targets (B, K)."""
    emit: Callable[[Event], None]
    stop: StopAgreement
    checkpoints: Path
    data_fingerprint: str
    environment: dict[str, str | int]
    description: ModelDescription | None = None


class Trainer:
    """Runs a job on an engine.

    Attributes:
        progress: what is done so far.
        tally: images, seconds and waiting so far, earlier processes of the run included.
        result: the last evaluation, of the EMA weights if there are any; None before the first.
    """

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._engine = engine
        ema = job.recipe.ema
        self._ema = Ema(engine, ema.decay, warmup=ema.warmup) if ema.decay > 0 else None
        self._steps_per_epoch = job.train.batches_per_epoch // job.plan.accumulation
        self._started = time.perf_counter()
        self._loss = torch.zeros((), device=engine.device)
        self._logged = Tally()
        self.progress = RunProgress()
        self.tally = Tally()
        self.result: Evaluated | None = None

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint; world size and ZeRO stage may differ from its maker's.

        Raises:
            CheckpointError: if it was made by another recipe or from other data.
        """
        state, meta = checkpoint.read(path)
        for name, mine in (
            ("results_fingerprint", self._job.recipe.results_fingerprint()),
            ("data_fingerprint", self._job.data_fingerprint),
        ):
            if getattr(meta, name) != mine:
                what = "recipe" if name == "results_fingerprint" else "training data"
                raise CheckpointError(
                    f"{path} was made with another {what}; choose another run.name,"
                    f" or restore the {what} to go on"
                )
        if self._ema is not None:
            self._ema.load(state.ema)
        scatter_weights(self._engine, state.model)
        scatter_moments(self._engine, state)
        self.progress, self.tally, self.result = meta.progress, meta.tally, meta.evaluated
        self._logged = replace(meta.tally)

    def fit(self) -> bool:
        """Train to the end of the recipe; False if told to stop before (progress is saved)."""
        total, patience = self._job.recipe.schedule.total_epochs, self._job.recipe.run.patience
        while self.progress.epoch < total and not self.progress.is_stale(patience):
            if not self._train_epoch() or not self._end_epoch():
                return False
        return self.result is not None or self._evaluate()

    def _train_epoch(self) -> bool:
        """Do the rest of the epoch; False if told to stop."""
        run, job = self._job.recipe.run, self._job
        self._engine.train()
        start = self.progress.step_in_epoch * job.plan.accumulation
        batches = job.train.batches(self.progress.epoch, start=start)
        last = job.recipe.schedule.total_epochs * self._steps_per_epoch
        for done in range(self.progress.step_in_epoch + 1, self._steps_per_epoch + 1):
            self._train_step(batches)
            self.progress = replace(self.progress, step_in_epoch=done, step=self.progress.step + 1)
            if self.progress.step % run.log_every == 0 or self.progress.step == last:
                self._log_step()
            if job.stop.poll():
                self._stop()
                return False
            if run.save_every_steps and self.progress.step % run.save_every_steps == 0:
                self._save()
        return True

    def _train_step(self, batches: Iterator[Batch]) -> None:
        """One optimizer step: forward and backward of each micro-batch, then the update."""
        began = time.perf_counter()
        job, step = self._job, self.progress.step
        lr = self._lr(step)
        self._loss = torch.zeros((), device=self._engine.device)
        for micro in range(job.plan.accumulation):
            asked = time.perf_counter()
            batch = next(batches)
            self.tally.wait_s += time.perf_counter() - asked
            images, targets = job.transform.train(batch, self.progress.epoch)
            torch.manual_seed(_model_seed(job.recipe.run.seed, step, micro, dist.get_rank()))
            loss = job.criterion(images, self._engine.forward(images), targets)
            self._engine.backward(loss)
            self._engine.step(lr)
            self._loss += loss.detach() / job.plan.accumulation
        if self._ema is not None:
            self._ema.update(step)
        self.tally.images += job.recipe.batch.global_size
        self.tally.train_s += time.perf_counter() - began

    def _end_epoch(self) -> bool:
        """Evaluate and save where the recipe says so; False if told to stop."""
        run, epoch = self._job.recipe.run, self.progress.epoch + 1
        self._note_replaced()
        is_last = epoch == self._job.recipe.schedule.total_epochs
        evaluated = None
        if is_last or epoch % run.evaluate_every == 0:
            if not self._evaluate():
                self._stop()
                return False
            evaluated = self.result
        self.progress = self.progress.after_epoch(evaluated)
        if self.progress.is_stale(run.patience):
            text = f"complete: {run.patience} evaluations in a row without a better top-1"
            self._job.emit(Note(step=self.progress.step, text=text))
            is_last = True
        if is_last or epoch % run.save_every == 0:
            self._save(evaluated=evaluated)
        return True

    def _note_replaced(self) -> None:
        """Say how many unreadable training images gray ones stood in for, if any (collective)."""
        count = torch.tensor([self._job.train.replaced], device=self._engine.device)
        dist.all_reduce(count)
        if count.item():
            text = f"{count.item()} unreadable training images replaced so far by gray ones"
            self._job.emit(Note(step=self.progress.step, text=text))

    def _evaluate(self) -> bool:
        """Evaluate the weights, and their average if there is one; False if told to stop."""
        result = self._accuracy(ema=False)
        if result is not None and self._ema is not None:
            with self._ema.swapped_in():
                result = self._accuracy(ema=True)
        self.result = result
        return result is not None

    @torch.no_grad()
    def _accuracy(self, *, ema: bool) -> Evaluated | None:
        self._engine.eval()
        accuracy = Accuracy(self._engine.device)
        for batch in self._job.evaluation.batches(0):
            images = self._job.transform.evaluate(batch)
            accuracy.update(self._engine.forward(images), batch.labels)
            if self._job.stop.poll():
                return None
        top1, top5, count = accuracy.compute()
        step, epoch = self.progress.step, self.progress.epoch
        event = Evaluated(step=step, epoch=epoch, top1=top1, top5=top5, count=count, ema=ema)
        self._job.emit(event)
        return event

    def _stop(self) -> None:
        self._save()
        text = f"told to stop: saved at step {self.progress.step}; the same command goes on"
        self._job.emit(Note(step=self.progress.step, text=text))

    def _save(self, *, evaluated: Evaluated | None = None) -> None:
        """Write a checkpoint (collective).

        Raises:
            CheckpointError: on every rank, if rank 0 could not write it.
        """
        began = time.perf_counter()
        self._check_finite(self._global_loss())
        self.tally.wall_s += began - self._started
        self._started = began
        state = gather_state(self._engine)
        average = self._ema.gather() if self._ema is not None else {}
        if state is not None:
            state.ema = average
        on_main(lambda: self._write(state, self._meta(evaluated)))

    def _write(self, state: TrainingState | None, meta: Meta) -> None:
        assert state is not None  # rank 0 has it
        keep = self._job.recipe.run.keep_checkpoints
        path = checkpoint.write(self._job.checkpoints, state, meta, keep=keep)
        step, epoch = meta.progress.step, meta.progress.epoch
        self._job.emit(Saved(step=step, epoch=epoch, path=str(path)))

    def _meta(self, evaluated: Evaluated | None) -> Meta:
        return Meta(
            progress=self.progress,
            results_fingerprint=self._job.recipe.results_fingerprint(),
            data_fingerprint=self._job.data_fingerprint,
            tally=self.tally,
            evaluated=evaluated,
            environment=self._job.environment,
            model=self._job.description,
        )

    def _log_step(self) -> None:
        loss = self._global_loss()
        skipped = self._check_finite(loss)
        recent = self.tally.since(self._logged)
        self._logged = replace(self.tally)
        self._job.emit(
            Step(
                step=self.progress.step,
                epoch=self.progress.epoch,
                loss=None if skipped else loss,
                lr=self._lr(self.progress.step - 1),
                images_per_s=recent.images_per_s,
                data_wait_s=recent.wait_s,
                grad_norm=self._engine.grad_norm(),
            )
        )

    def _lr(self, step: int) -> float:
        recipe = self._job.recipe
        return lr_at(
            step,
            lr=recipe.optim.lr,
            config=recipe.schedule,
            steps_per_epoch=self._steps_per_epoch,
        )

    def _global_loss(self) -> float:
        """Mean loss of the last step's global batch (collective)."""
        loss = self._loss.clone()
        dist.all_reduce(loss)
        return loss.item() / dist.get_world_size()

    def _check_finite(self, loss: float) -> bool:
        """Whether the last step's loss was not finite and the engine skipped the step."""
        if math.isfinite(loss):
            return False
        if self._engine.stage == 0:
            raise TrainingError(
                f"the loss of step {self.progress.step} is {loss}, and zero.stage 0 has put it"
                " into the weights; the last checkpoint is sound. Lower optim.lr, set"
                " optim.clip_norm, or use zero.stage 1, which skips such steps"
            )
        return True


def _model_seed(*key: int) -> int:
    """Seed of dropout and drop path from (run seed, step, micro-batch, rank)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
