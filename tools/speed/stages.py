"""Each stage of a recipe's loading alone, all of them together, and the model on cached batches.

Decoding is the loader on samples in memory, without augmentation; augmenting is what it takes more
with it. So the stages add up where they share cores, and the largest is the bottleneck where they
run beside each other. All is for one process, with the recipe's batch of one GPU.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.kernels import switch
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Batch, Loader, Placement, send
from pipeline.config import InputSpec
from pipeline.formats.source import Source
from pipeline.loaders.build import build_loader, choose
from pipeline.loaders.encoded import EncodedBatches
from tools.speed.held_source import HeldSource
from trainer.batch_plan import BatchPlan
from trainer.distillation import build_criterion
from trainer.engine.engine import Engine
from trainer.recipe import Recipe

_HELD_BATCHES = 16
_WARM_UP = 8
"""Batches: at least what loaders keep ready."""
_WARM_UP_STEPS = 2
READING, DECODING, AUGMENTING = "reading", "decoding", "augmenting"
BATCH, TRANSFER = "erasing and mixing", "transfer"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured.

    Attributes:
        stages: microseconds an image of each stage of loading, alone.
        together: images/s of the whole loading.
        model: images/s of the training step, from cached batches.
        loader: which one was used.
        threads: of its decoding.
        on_gpu: whether the model has a device of its own.
    """

    stages: dict[str, float]
    together: float
    model: float
    loader: str
    threads: int
    on_gpu: bool


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and for how long."""

    recipe: Recipe
    source: Source
    spec: InputSpec
    num_classes: int
    device: torch.device
    seconds: float
    """Of each measurement."""

    def run(self, engine: Engine, begins: Callable[[str], None]) -> Measured:
        """Measure everything; `begins` is told what comes next.

        Raises:
            ValueError: if the data set is smaller than a batch, or cannot be read.
        """
        held = self._held()
        begins(READING)
        stages = {READING: 1e6 / self._rate(self._read())}
        begins(DECODING)
        stages[DECODING] = 1e6 / self._rate(self._load(held, AugmentConfig()))
        begins(AUGMENTING)
        all_of_it = 1e6 / self._rate(self._load(held, self.recipe.augment))
        stages[AUGMENTING] = max(0.0, all_of_it - stages[DECODING])
        batches = self._ready(held)
        begins(BATCH)
        stages[BATCH] = 1e6 / self._rate(self._transform(itertools.cycle(batches)))
        if self.device.type == "cuda":
            begins(TRANSFER)
            stages[TRANSFER] = 1e6 / self._rate(self._transfer(batches[0]))
        begins("all together")
        together = self._rate(self._together())
        begins("the model")
        model = self._rate(self._train(engine, batches), warm_up=_WARM_UP_STEPS)
        return Measured(
            stages=stages,
            together=together,
            model=model,
            loader=choose(self.recipe.data, self.device),
            threads=self._encoded(self.source).threads,
            on_gpu=self.device.type == "cuda",
        )

    def _rate(self, images: Iterator[int], *, warm_up: int = _WARM_UP) -> float:
        """Return images/s of what yields the number of images in each batch, for ever."""
        with closing(images):  # pyright: ignore[reportArgumentType] # generators, all of them
            for _ in range(warm_up):
                next(images)
            self._wait()
            done, began = 0, time.perf_counter()
            while done == 0 or time.perf_counter() - began < self.seconds:
                done += next(images)
            self._wait()
            return done / (time.perf_counter() - began)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _held(self) -> HeldSource:
        count = min(len(self.source), _HELD_BATCHES * self.recipe.batch.known_per_gpu)
        chosen = np.linspace(0, len(self.source) - 1, count).astype(np.int64)
        return HeldSource(self.source, chosen)

    def _encoded(self, source: Source) -> EncodedBatches:
        return EncodedBatches(
            source,
            data=self.recipe.data,
            augment=self.recipe.augment,
            spec=self.spec,
            batch_size=self.recipe.batch.known_per_gpu,
            accumulation=1,
            placement=Placement(device=self.device),
            seed=self.recipe.run.seed,
            training=True,
        )

    def _loader(self, source: Source, augment: AugmentConfig) -> Loader:
        return build_loader(
            source,
            data=self.recipe.data,
            augment=augment,
            spec=self.spec,
            batch_size=self.recipe.batch.known_per_gpu,
            accumulation=1,
            placement=Placement(device=self.device),
            seed=self.recipe.run.seed,
            training=True,
        )

    def _read(self) -> Iterator[int]:
        with closing(self._encoded(self.source)) as encoded:
            for epoch in itertools.count():
                for batch in encoded.read(epoch, 0):
                    if batch.error is not None:
                        raise batch.error
                    yield len(batch.samples)

    def _load(self, source: Source, augment: AugmentConfig) -> Iterator[int]:
        with closing(self._loader(source, augment)) as loader:
            for epoch in itertools.count():
                for batch in loader.batches(epoch):
                    yield len(batch.labels)

    def _together(self) -> Iterator[int]:
        with closing(self._loader(self.source, self.recipe.augment)) as loader:
            batches = (batch for epoch in itertools.count() for batch in loader.batches(epoch))
            yield from self._transform(batches)

    def _transform(self, batches: Iterator[Batch]) -> Iterator[int]:
        transform = self._batch_transform()
        for batch in batches:
            transform.train(batch, 0)
            yield len(batch.labels)

    def _transfer(self, batch: Batch) -> Iterator[int]:
        images = batch.images.cpu().permute(0, 2, 3, 1).numpy()
        while True:
            send(images, self.device)
            yield len(images)

    def _ready(self, held: HeldSource) -> list[Batch]:
        """Return a few batches, which nothing overwrites."""
        with closing(self._loader(held, self.recipe.augment)) as loader:
            some = itertools.islice(loader.batches(0), 2)
            return [replace(batch, images=batch.images.clone()) for batch in some]

    def _batch_transform(self) -> BatchTransform:
        return BatchTransform(
            self.recipe.augment,
            spec=self.spec,
            num_classes=self.num_classes,
            seed=self.recipe.run.seed,
            fused=switch.ENABLED and self.device.type == "cuda",
        )

    def _train(self, engine: Engine, batches: list[Batch]) -> Iterator[int]:
        """Do training steps at a learning rate of 0."""
        criterion = build_criterion(
            self.recipe, spec=self.spec, num_classes=self.num_classes, device=self.device
        )
        transform = self._batch_transform()
        inputs: list[tuple[Tensor, Tensor]] = [transform.train(batch, 0) for batch in batches]
        engine.train()
        for images, targets in itertools.cycle(inputs):
            engine.backward(criterion(images, engine.forward(images), targets))
            engine.step(0.0)
            yield len(images)


def plan_of(recipe: Recipe) -> BatchPlan:
    """Return the plan of one process that updates after each batch.

    Raises:
        ValueError: if batches of this size cannot be mixed.
    """
    per_gpu = recipe.batch.known_per_gpu
    return BatchPlan.solve(
        global_size=per_gpu, per_gpu=per_gpu, world_size=1, even=recipe.augment.mixes
    )
