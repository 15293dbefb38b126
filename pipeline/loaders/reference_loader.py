"""Reference loader: the same batches, decoded and resized by PIL on threads.

It is the oracle of the other loaders, and what runs where there is no DALI. It is written to be
obviously right: what PIL does with the drawn crop, image by image.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import Resampling

from pipeline.augment.reference_operations import apply_draws
from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.loaders.encoded import GRAY, EncodedBatch, EncodedBatches
from pipeline.loaders.look_ahead import look_ahead
from pipeline.loaders.pil_images import PIL_ERRORS, open_image
from pipeline.loaders.regions import centre_offset, resized_shapes

_DECODE_AHEAD = 2
"""Batches being decoded beside the one in use."""


class ReferenceLoader:
    """Decodes with PIL; keeps the contract of `pipeline.batch.Loader`.

    Attributes:
        batches_per_epoch: micro-batches of this rank.
        replaced: images replaced by gray ones so far, since they could not be decoded.
    """

    def __init__(self, batches: EncodedBatches, *, spec: InputSpec, device: torch.device) -> None:
        """Start the decoding threads.

        Args:
            batches: what to decode.
            spec: size of the images, and the evaluation resize.
            device: where the images go.
        """
        self.batches_per_epoch = batches.batches_per_epoch
        self.replaced = 0
        self._batches = batches
        self._centre = evaluation_crop(spec)
        self._device = device
        self._pool = ThreadPoolExecutor(batches.threads, thread_name_prefix="decode")

    def batches(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""
        return self._decode(self._batches.read(epoch, start))

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, encoded: Generator[EncodedBatch]) -> Generator[Batch]:
        begun = (
            (batch, [self._pool.submit(self._image, batch, i) for i in range(len(batch.samples))])
            for batch in encoded
        )
        with closing(encoded), closing(look_ahead(begun, _DECODE_AHEAD)) as decoded:
            for batch, images in decoded:
                yield self._collect(batch, images)

    def _image(self, batch: EncodedBatch, position: int) -> NDArray[np.uint8] | str:
        """Return the (size, size, 3) image at `position`, or why there is none."""
        try:
            image = open_image(batch.samples[position])
        except PIL_ERRORS as error:
            return str(error)
        if batch.crops is None:
            return np.asarray(self._centre(image))
        return self._train_image(batch, position, image)

    def _train_image(
        self, batch: EncodedBatch, position: int, image: Image.Image
    ) -> NDArray[np.uint8]:
        """Crop, resize, mirror and augment the image as drawn."""
        crops, operations, size = batch.crops, batch.operations, batch.size
        assert crops is not None
        assert operations is not None
        top, left, height, width = crops.boxes[position].tolist()
        image = image.crop((left, top, left + width, top + height)).resize(
            (size, size),
            Resampling.BICUBIC if crops.bicubic[position] else Resampling.BILINEAR,
        )
        if crops.flips[position]:
            image = ImageOps.mirror(image)
        if crops.vertical_flips[position]:
            image = ImageOps.flip(image)
        down, right = crops.shifts[position].tolist()
        image = image.crop((right, down, right + size, down + size))  # black beyond the border
        fill = self._batches.augmentation.fill
        return np.asarray(apply_draws(image, operations, position, fill))

    def _collect(self, batch: EncodedBatch, results: list[NDArray[np.uint8] | str]) -> Batch:
        if batch.error is not None:
            raise batch.error
        reasons = {place: image for place, image in enumerate(results) if isinstance(image, str)}
        self.replaced += self._batches.note_unread(batch)
        self.replaced += self._batches.replace_or_raise(batch, reasons)
        gray = np.full((batch.size, batch.size, 3), GRAY, np.uint8)
        images = np.stack([gray if isinstance(image, str) else image for image in results])
        images[list(batch.unread)] = GRAY
        return Batch(
            images=send(images, self._device).permute(0, 3, 1, 2),
            labels=send(batch.labels, self._device),
            samples=torch.from_numpy(batch.draws),
        )


def evaluation_crop(spec: InputSpec) -> Callable[[Image.Image], Image.Image]:
    """What evaluation does to an RGB image: it is resized, then the centre cropped or bordered."""
    resample = Resampling.BICUBIC if spec.interpolation == "bicubic" else Resampling.BILINEAR

    def crop(image: Image.Image) -> Image.Image:
        (resized,) = resized_shapes(np.array([(image.height, image.width)]), spec)
        top, left = centre_offset(resized, spec.size).tolist()
        height, width = resized.tolist()
        result = Image.new("RGB", (spec.size, spec.size), spec.mean_colour)
        result.paste(image.resize((width, height), resample), (-left, -top))
        return result

    return crop
