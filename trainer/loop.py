"""The training loop: epochs of optimizer steps, evaluations and checkpoints.

Everything that decides the next step is a function of (recipe, step): the order and the draws of
images, the learning rate, and model randomness, which is keyed anew for each micro-batch. So a
checkpoint needs tensors and three integers, and a resumed run repeats an undisturbed one.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.batch import Batch
from pipeline.words import counted
from trainer.ema import Ema
from trainer.engine.engine import Engine
from trainer.engine.scatter import scatter_moments, scatter_weights
from trainer.evaluation import Evaluator
from trainer.events import Evaluated, Note, Step
from trainer.job import Job, Outcome, TrainingError
from trainer.optimization.schedule import lr_at
from trainer.process.data_clock import DataClock
from trainer.process.speed import peak_memory_bytes
from trainer.process.step_profile import StepProfile
from trainer.process.world import on_main
from trainer.record import checkpoint
from trainer.record.data_wait import waiting_in_words
from trainer.record.meta import CheckpointError, RunProgress, Tally
from trainer.record.saver import Saver

MAX_SKIPPED_IN_ROW = 20
"""Steps without finite gradients that end a run; fp16's first loss scale of 2**16 takes 17."""


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
        self._evaluator = Evaluator(job, engine, self._ema)
        self._steps_per_epoch = job.train.batches_per_epoch // job.plan.accumulation
        self._started = self._counted = time.perf_counter()
        self._logged = Tally()
        self._data_clock = DataClock(engine.device)
        self._waits = [0.0] * dist.get_world_size()
        self._profile = StepProfile(
            job.recipe.run.profile if dist.get_rank() == 0 else 0,
            job.checkpoints.parent,
            lambda text: job.emit(Note(step=self.progress.step, text=text)),
        )
        self._saver = Saver(job, engine, self._ema)
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
        self._logged, self._saver.saved = replace(meta.tally), meta.progress

    def fit(self) -> Outcome:
        """Train to the end of the recipe, or until told to stop (progress is saved then).

        Checkpoints are written beside the training, one at a time; the last one is waited for.

        Raises:
            TrainingError: if gradients or weights are not finite.
            CheckpointError: if a checkpoint cannot be written.
            OSError: if the log cannot be written; progress is saved.
        """
        try:
            return self._fit()
        finally:
            self._saver.settle()  # whatever ends the run, what is being saved is whole

    def _fit(self) -> Outcome:
        total, patience = self._job.recipe.schedule.total_epochs, self._job.recipe.run.patience
        if 0 < (most := self._job.recipe.run.max_steps) <= self.progress.step:
            return self._stop(Outcome.CUT_SHORT, f"run.max_steps {most} reached")
        while self.progress.epoch < total and not self.progress.is_stale(patience):
            if early := self._train_epoch() or self._end_epoch():
                self._profile.close()
                return early
        self._profile.close()
        self._saver.finish()
        if self.result is None and not self._evaluate():
            return Outcome.STOPPED
        waited = waiting_in_words(self.tally.wait_fraction)
        self._job.emit(Note(step=self.progress.step, text=waited))
        on_main(self._raise_log_failure)
        return Outcome.COMPLETE

    def _train_epoch(self) -> Outcome | None:
        """Do the rest of the epoch; None if it was done."""
        run, job = self._job.recipe.run, self._job
        self._counted = time.perf_counter()
        self._engine.train()
        start = self.progress.step_in_epoch * job.plan.accumulation
        batches = job.train.batches(self.progress.epoch, start=start)
        whole = job.recipe.schedule.total_epochs * self._steps_per_epoch
        last = min(run.max_steps or whole, whole)
        first = self.progress.step_in_epoch + 1
        for done in range(first, self._steps_per_epoch + 1):
            # The first step of an epoch may compile for another size of images.
            self._train_step(batches, bounded=done > first)
            self.progress = replace(self.progress, step_in_epoch=done, step=self.progress.step + 1)
            step = self.progress.step
            self._saver.poll()
            self._profile.stepped(step)
            if step % run.log_every == 0 or step == last:
                self._log_step()
            self._count_time()
            if job.stop.poll():
                return self._stop(Outcome.STOPPED, "told to stop")
            if run.max_steps and step >= run.max_steps:
                return self._stop(Outcome.CUT_SHORT, f"run.max_steps {run.max_steps} reached")
            # The end of the epoch saves the same step, with its evaluation.
            ends = done == self._steps_per_epoch and self._saves_epoch()
            if run.save_every_steps and step % run.save_every_steps == 0 and not ends:
                self._count_time(wait=True)
                self._save()
                self._counted = time.perf_counter()
        self._count_time(wait=True)
        return None

    def _count_time(self, *, wait: bool = False) -> None:
        """Count the time since the last call, or since training went on, as training.

        With `wait`, what a GPU has still to do is training too, and not of what comes next.
        """
        if wait and self._engine.device.type == "cuda":
            torch.cuda.current_stream(self._engine.device).synchronize()
        now = time.perf_counter()
        self.tally.train_s += now - self._counted
        self._counted = now

    def _train_step(self, batches: Iterator[Batch], *, bounded: bool) -> None:
        """One optimizer step: forward and backward of each micro-batch, then the update."""
        job, step, doing = self._job, self.progress.step, self._job.watchdog.doing
        lr = self._lr(step)
        total, draws = torch.zeros((), device=self._engine.device), []
        for micro in range(job.plan.accumulation):
            doing(f"waiting for the images of step {step + 1}", bounded=bounded)
            with self._data_clock.waiting():
                batch = next(batches)
            doing(f"computing step {step + 1}", bounded=bounded)
            job.draws.begin(batch, epoch=self.progress.epoch, step=step, micro=micro)
            loss = job.objective(self._engine.forward, batch, self.progress)
            self._engine.backward(loss)
            self._engine.step(lr)
            total += loss.detach() / job.plan.accumulation
            draws.append(batch.samples.clone())
        job.watch.add(self.progress, total, self._engine.gradients, draws)
        if self._ema is not None:
            self._ema.update(step)
        self.tally.images += job.recipe.batch.global_size

    def _saves_epoch(self) -> bool:
        """Whether the epoch's end is saved."""
        epoch, schedule = self.progress.epoch + 1, self._job.recipe.schedule
        return epoch == schedule.total_epochs or epoch % self._job.recipe.run.save_every == 0

    def _end_epoch(self) -> Outcome | None:
        """Evaluate and save where the recipe says so; None if that was done."""
        run, epoch = self._job.recipe.run, self.progress.epoch + 1
        evaluated, saves = None, self._saves_epoch()
        if epoch == self._job.recipe.schedule.total_epochs or epoch % run.evaluate_every == 0:
            if not self._evaluate():
                return self._stop(Outcome.STOPPED, "told to stop")
            evaluated = self.result
        self._note_replaced()
        self.progress = self.progress.after_epoch(evaluated)
        if self.progress.is_stale(run.patience):
            text = f"complete: {run.patience} evaluations in a row without a better top-1"
            self._job.emit(Note(step=self.progress.step, text=text))
            saves = True
        if saves:
            self._save(evaluated=evaluated)
        if evaluated is not None:  # now, since the checkpoint says where the time went
            self._job.watchdog.doing("waiting for the report on rank 0")
            self._job.report.write()
        return None

    def _note_replaced(self) -> None:
        """Say how many unreadable training images gray ones stood in for, if any (collective)."""
        count = torch.tensor([self._job.train.replaced], device=self._engine.device)
        dist.all_reduce(count)
        if count.item():
            images = counted(int(count.item()), "unreadable training image")
            text = f"{images} replaced so far by gray ones"
            self._job.emit(Note(step=self.progress.step, text=text))

    def _evaluate(self) -> bool:
        """Evaluate the weights, and their average if there is one; False if told to stop."""
        progress, began = self.progress, time.perf_counter()
        self._job.watchdog.doing(f"evaluating after step {progress.step}")
        self.result = self._evaluator.evaluate(step=progress.step, epoch=progress.epoch)
        self.tally.eval_s += time.perf_counter() - began
        return self.result is not None

    def _stop(self, outcome: Outcome, why: str) -> Outcome:
        if self.progress != self._saver.saved:
            self._save()
        self._saver.finish()
        on_main(self._raise_log_failure)
        text = f"{why}: saved at step {self.progress.step}; the same command goes on"
        if outcome is Outcome.CUT_SHORT:
            text += " without run.max_steps"
        self._job.emit(Note(step=self.progress.step, text=text))
        return outcome

    def _raise_log_failure(self) -> None:
        """Rank 0's log stopped the run; nothing of it is lost, since the checkpoint keeps it."""
        if self._job.stop.failure is not None:
            raise OSError(
                f"the log of the run cannot be written ({self._job.stop.failure}); saved at step"
                f" {self.progress.step}. Mend that and start the same command again"
            )

    def _save(self, *, evaluated: Evaluated | None = None) -> None:
        """Copy the state, and write it beside the training (collective).

        Raises:
            CheckpointError: on every rank, if rank 0 could not write the one before.
        """
        began = time.perf_counter()
        self._job.watchdog.doing(f"saving step {self.progress.step}")
        self._job.watch.settle()
        self._check_skipped()
        self.tally.wall_s += began - self._started
        self._started = began
        self._take_waits()
        tally = replace(self.tally, wait_s=self.tally.wait_s + max(self._waits))
        self._saver.save(self.progress, tally, evaluated)
        self.tally.save_s += time.perf_counter() - began

    def _log_step(self) -> None:
        loss = self._job.watch.settle()  # waits for the device
        self._count_time()
        self._check_skipped()
        self._take_waits()
        self.tally.wait_s += max(self._waits)
        recent = self.tally.since(self._logged)
        self._logged = replace(self.tally)
        rate = recent.images_per_s / dist.get_world_size()
        self._job.emit(
            Step(
                step=self.progress.step,
                epoch=self.progress.epoch,
                loss=loss if math.isfinite(loss) else None,
                lr=self._lr(self.progress.step - 1),
                images_per_s=recent.images_per_s,
                images_per_s_per_gpu=rate,
                mfu=self._job.utilization.mfu(rate),
                peak_memory_bytes=peak_memory_bytes(self._engine.device),
                data_wait_s=max(self._waits),
                data_wait_rank=self._waits.index(max(self._waits)),
                grad_norm=self._engine.grad_norm(),
            )
        )
        self._waits = [0.0] * dist.get_world_size()

    def _take_waits(self) -> None:
        """Add what each rank has waited to its waits since the last log event (collective)."""
        taken = self._data_clock.take()
        self._waits = [sum(pair) for pair in zip(self._waits, taken, strict=True)]

    def _lr(self, step: int) -> float:
        recipe = self._job.recipe
        return lr_at(
            step,
            lr=recipe.optim.lr,
            config=recipe.schedule,
            steps_per_epoch=self._steps_per_epoch,
        )

    def _check_skipped(self) -> None:
        """End a run that does not train any more.

        Raises:
            TrainingError: if too many steps up to the last one were skipped.
        """
        skipped, step = self._engine.skipped_in_row, self.progress.step
        if skipped >= MAX_SKIPPED_IN_ROW:
            raise TrainingError(
                f"the gradients of the last {skipped} steps, up to step {step}, were not finite,"
                " and all these steps were skipped; the checkpoints are sound, and odd_steps.jsonl"
                " beside them lists the images. Lower optim.lr, set optim.clip_norm, or use"
                " precision.dtype fp32"
            )
