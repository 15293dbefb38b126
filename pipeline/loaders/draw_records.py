"""What was drawn for a sample, as an object that people and programs read.

The same numbers whatever the batch, the rank, the loader: they are computed from (seed, epoch,
sample) again, and nothing is decoded for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.config import AugmentConfig
from pipeline.augment.crop_draws import Crops
from pipeline.augment.erase_draws import erase_boxes
from pipeline.augment.image_draws import ImageDraws, image_augmentation, image_draws
from pipeline.augment.mix_draws import mixes
from pipeline.augment.policies.operations import RESAMPLING, Filter, Operation, argument_of
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.counter import DrawKey
from pipeline.formats.source import Sample, Source
from pipeline.loaders.encoded import crops_of, training_order
from pipeline.order import repeat_of, sample_of

Record = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class DrawnRun:
    """All that the draws of a run's training images depend on."""

    source: Source
    data: DataConfig
    augment: AugmentConfig
    spec: InputSpec
    seed: int
    global_size: int
    """Images of an optimizer step; only repeated augmentation depends on it."""
    per_gpu: int
    """Images of a micro-batch; only `mix_mode: batch` depends on it."""

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the draws of an epoch (`order.sample_of`), the tail that is dropped left out."""
        order = training_order(
            self.source,
            window=self.data.window,
            repeats=self.augment.repeats,
            global_size=self.global_size,
            seed=self.seed,
            epoch=epoch,
        )
        return order[: len(order) // self.global_size * self.global_size]

    def draws_of(self, samples: Sequence[int], epoch: int) -> NDArray[np.int64]:
        """Return the draws of `samples` in an epoch; a sample that is not used has its first one.

        Raises:
            ValueError: if there is no such sample.
        """
        for sample in samples:
            if not 0 <= sample < len(self.source):
                raise ValueError(
                    f"sample {sample}: the training set has samples 0 to {len(self.source) - 1}"
                )
        if self.augment.repeats == 1:
            return np.array(samples, np.int64)
        order = self.order(epoch)
        by_sample = sample_of(order)
        found = [np.sort(order[by_sample == sample]) for sample in samples]
        return np.concatenate(
            [
                draws if len(draws) else np.array([sample])
                for sample, draws in zip(samples, found, strict=True)
            ]
        )

    def records(self, draws: NDArray[np.int64], epoch: int) -> Iterator[Record]:
        """Yield an object for each of the draws."""
        samples = self.source.read_many(sample_of(draws))
        size = self.augment.size_at(epoch, self.spec.size)
        key: DrawKey = {"seed": self.seed, "epoch": epoch, "samples": draws}
        cropped = crops_of(samples, self.data.crop, key)
        augmentation = image_augmentation(self.augment, self.data.crop, self.spec)
        operations = image_draws(augmentation, **key, size=size)
        erased = erase_boxes(self.augment, **key, size=size)
        mixed = self._mixes(draws, epoch, size)
        for i, (draw, sample) in enumerate(zip(draws.tolist(), samples, strict=True)):
            yield {
                **_about(draw, sample, epoch),
                **_crop(self.data.crop, cropped, i),
                **_operations(operations, i),
                "erase": [box for box in erased[i].tolist() if box[2]],
                **mixed[i],
            }

    def _mixes(self, draws: NDArray[np.int64], epoch: int, size: int) -> list[Record]:
        """Return partner, weight and box of each draw; see `BatchTransform` for who they are."""
        alone: Record = {"partner": None, "weight": 1.0, "cutmix_box": None}
        if not self.augment.mixes or 0 < self.augment.mix_off_epoch <= epoch:
            return [alone] * len(draws)
        order = self.order(epoch)
        positions = {draw: position for position, draw in enumerate(order.tolist())}
        found = []
        for draw in draws.tolist():
            if draw not in positions:  # of the tail that the epoch drops
                found.append(alone)
                continue
            partner, keyed_by = self._pairing(positions[draw])
            drawn = mixes(
                self.augment, seed=self.seed, epoch=epoch, samples=order[[keyed_by]], size=size
            )
            box = drawn.boxes[0].tolist() if drawn.is_cutmix[0] else None
            partner_sample = int(sample_of(order[[partner]])[0])
            weight = float(drawn.weights[0])
            found.append({"partner": partner_sample, "weight": weight, "cutmix_box": box})
        return found

    def _pairing(self, position: int) -> tuple[int, int]:
        """Return the positions of the partner, and of the sample that keys the weight."""
        if self.augment.mix_mode == "batch":
            start = position // self.per_gpu * self.per_gpu
            return start + self.per_gpu - 1 - (position - start), start
        pair = position & ~1
        return position ^ 1, pair if self.augment.mix_mode == "pair" else position


def _about(draw: int, sample: Sample, epoch: int) -> Record:
    number, repeat = (int(of(np.array([draw]))[0]) for of in (sample_of, repeat_of))
    about: Record = {"sample": number, "epoch": epoch, "key": sample.key, "label": sample.label}
    return {**about, "repeat": repeat} if repeat else about


def _crop(config: CropConfig, cropped: Crops, i: int) -> Record:
    found: Record = {
        "box": cropped.boxes[i].tolist(),
        "flip": bool(cropped.flips[i]),
        "interpolation": "bicubic" if cropped.bicubic[i] else "bilinear",
    }
    if config.vflip:
        found["vertical_flip"] = bool(cropped.vertical_flips[i])
    if config.mode == "pad":
        found["shift"] = cropped.shifts[i].tolist()
    return found


def _operations(drawn: ImageDraws, i: int) -> Record:
    found: Record = {"ops": _chain(*(part[i] for part in drawn.chain))}
    if drawn.mixed is not None:
        chains = zip(*(part[i] for part in drawn.mixed.chains), strict=True)
        found["augmix"] = {
            "chains": [_chain(*chain) for chain in chains],
            "weights": drawn.mixed.weights[i].tolist(),
            "share": float(drawn.mixed.shares[i]),
            "blended": drawn.mixed.blended,
        }
    return found


def _chain(
    operations: NDArray[np.uint8], args: NDArray[np.float64], filters: NDArray[np.uint8]
) -> list[Record]:
    """Return what is applied, in order, with timm's names and arguments."""
    found: list[Record] = []
    for code, arg, filter_code in zip(
        operations.tolist(), args.tolist(), filters.tolist(), strict=True
    ):
        operation = Operation(code)
        if operation != Operation.NONE:
            resample = Filter(filter_code).name.lower() if operation in RESAMPLING else None
            argument = argument_of(operation, arg)
            found.append({"name": operation.name, "arg": argument, "resample": resample})
    return found
