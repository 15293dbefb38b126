"""Targets of tokens for the batches of any loader, from a file of label maps.

A batch says which draws it holds; what was drawn for them is computed from (seed, epoch, sample)
once more, as `draw_records` does. It takes the stored images' sizes, which are noted as the loader
reads them.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.augment.config import AugmentConfig
from pipeline.augment.crop_draws import crops
from pipeline.augment.image_draws import image_augmentation, image_draws
from pipeline.augment.kernels import kernel_calls
from pipeline.augment.token_labels import (
    LabelMaps,
    TokenTargets,
    Views,
    map_targets,
    token_samples,
)
from pipeline.batch import Batch
from pipeline.config import DataConfig, InputSpec
from pipeline.counter import DrawKey
from pipeline.formats.observed_source import ObservedSource
from pipeline.formats.source import Sample, Source
from pipeline.formats.token_label_file import TokenLabelFile
from pipeline.order import sample_of


class TokenLabels:
    """The label maps of a training set.

    Attributes:
        source: the set, to be read by the loader whose batches get targets.
        file: the maps.
    """

    def __init__(self, path: Path, source: Source) -> None:
        """Open the maps of `source`.

        Raises:
            DataError: if they cannot be read, or are of other images.
        """
        self.file = TokenLabelFile(path)
        self.file.check_source(source)
        self.source = ObservedSource(source, self._note)
        self._sizes = np.ones((len(source), 2), np.int32)  # 1x1, a gray pixel, where unreadable

    def sizes(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (B, 2) heights and widths of samples that were read."""
        return self._sizes[samples].astype(np.int64)

    def maps(self, samples: NDArray[np.int64]) -> LabelMaps:
        """Return the maps of samples.

        Raises:
            DataError: if one is damaged, not there any more, or of another image.
        """
        records = self.file.read(samples)
        self.file.check_keys(records, [self.source.key(int(sample)) for sample in samples])
        return LabelMaps(records["classes"], records["logits"])

    def _note(self, index: int, sample: Sample) -> None:
        self._sizes[index] = sample.height, sample.width


class TokenTargeter:
    """Makes the targets of batches, as a recipe cuts its images."""

    def __init__(
        self,
        labels: TokenLabels,
        *,
        data: DataConfig,
        augment: AugmentConfig,
        spec: InputSpec,
        seed: int,
        grid: tuple[int, int],
        num_classes: int,
        exchange_xy: bool,
    ) -> None:
        """Prepare.

        Args:
            labels: of the training set.
            data: how images are cropped.
            augment: what is done to them then, other than mixing.
            spec: size of the images.
            seed: of the run.
            grid: rows and columns of the model's tokens.
            num_classes: width of the targets.
            exchange_xy: cut as the authors' code does, with x and y exchanged.
        """
        self._labels = labels
        self._crop = data.crop
        self._augment = augment
        self._augmentation = image_augmentation(augment, data.crop, spec)
        self._size = spec.size
        self._seed = seed
        self._grid = grid
        self._num_classes = num_classes
        self._exchange_xy = exchange_xy

    def views(self, draws: NDArray[np.int64], epoch: int) -> Views:
        """Return what training sees in `epoch` of the draws, which the loader has read."""
        heights, widths = self._labels.sizes(sample_of(draws)).T
        key: DrawKey = {"seed": self._seed, "epoch": epoch, "samples": draws}
        operations = image_draws(self._augmentation, **key, size=self._size)
        return Views(
            crops=crops(self._crop, **key, widths=widths, heights=heights),
            widths=widths,
            heights=heights,
            calls=kernel_calls(operations.chain, self._size),
            size=self._size,
        )

    def targets(self, batch: Batch, epoch: int, labels: torch.Tensor) -> TokenTargets:
        """Return the targets of a batch, on its device.

        Args:
            batch: of `epoch`.
            epoch: counted from 0.
            labels: (B, num_classes) smoothed labels.

        Raises:
            DataError: as `TokenLabels.maps`.
        """
        draws = batch.samples.numpy()
        maps, views = self._labels.maps(sample_of(draws)), self.views(draws, epoch)
        images, tokens = (
            map_targets(
                maps,
                token_samples(
                    views,
                    grid=grid,
                    places=self._labels.file.header.grid,
                    exchange_xy=self._exchange_xy,
                ),
                num_classes=self._num_classes,
                smoothing=self._augment.smoothing,
                device=batch.images.device,
            )
            for grid in ((1, 1), self._grid)
        )
        return TokenTargets(labels, images[:, 0], tokens)
