"""What is done to whole batches, once, on their device: normalise, erase, mix, soften the targets.

The numbers come from `pipeline.augment.draws`, made on the host from `Batch.samples` (which stay
there) and sent along without waiting; so a batch's pixels depend on nothing but (seed, epoch,
samples). The formulas are timm's: random erasing with per-pixel noise, mixup and cutmix with label
smoothing.

Pixels are processed as (B, H, 3W): rows of channels-last images as they lie in memory. Loops over
an innermost dimension of three channels would be several times slower on a CPU.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.augment import draws
from pipeline.batch import Batch, send
from pipeline.config import AugmentConfig, InputSpec
from pipeline.counter import Stream, uniforms

_NOISE_STARTS = 2**20
"""Places in the bank of noise where the noise of a sample can start."""


class BatchTransform:
    """Turns batches of raw pixels and labels into what the model and the loss take."""

    def __init__(
        self,
        config: AugmentConfig,
        *,
        spec: InputSpec,
        num_classes: int,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the constants.

        Args:
            config: augmentation of training batches.
            spec: size, mean and standard deviation of the images.
            num_classes: width of the targets.
            seed: of the run; it keys all draws.
            dtype: of the images; they are computed in float32.
        """
        self._config = config
        self._size = spec.size
        self._num_classes = num_classes
        self._seed = seed
        self._dtype = dtype
        std, mean = torch.tensor(spec.std), torch.tensor(spec.mean)
        self._scale = (1 / (255 * std)).repeat(spec.size)  # (3W,)
        self._shift = (-mean / std).repeat(spec.size)
        noise_length = _NOISE_STARTS - 1 + 3 * spec.size**2 if config.erase > 0 else 0
        self._noise = noise_bank(noise_length, seed=seed)

    def train(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Return augmented images and soft targets.

        Args:
            batch: raw pixels of `epoch`, all of them labelled; nothing in it is changed.
            epoch: keys the draws.

        Returns:
            images: (B, 3, H, W), normalised, channels-last.
            targets: (B, num_classes) float32; each row sums to 1.

        Raises:
            ValueError: if pairs are to be mixed in a batch of odd size.
        """
        self._move_to(batch.images.device)
        samples = batch.samples.numpy()
        pixels = self._normalize(batch.images)
        targets = soft_targets(batch.labels, self._num_classes, self._config.smoothing)
        if self._config.erase > 0:
            pixels = self._erase(pixels, samples, epoch)
        if self._config.mixup > 0 or self._config.cutmix > 0:
            pixels, targets = self._mix(pixels, targets, samples, epoch)
        return self._as_images(pixels), targets

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the (B, 3, H, W) normalised images, channels-last."""
        self._move_to(batch.images.device)
        return self._as_images(self._normalize(batch.images))

    def _normalize(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).flatten(2).float().mul_(self._scale).add_(self._shift)

    def _as_images(self, pixels: Tensor) -> Tensor:
        return pixels.to(self._dtype).unflatten(2, (self._size, 3)).permute(0, 3, 1, 2)

    def _move_to(self, device: torch.device) -> None:
        self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        self._noise = self._noise.to(device)

    def _erase(self, pixels: Tensor, samples: NDArray[np.int64], epoch: int) -> Tensor:
        boxes = draws.erase_boxes(
            self._config.erase, seed=self._seed, epoch=epoch, samples=samples, size=self._size
        )
        starts = draws.noise_offsets(_NOISE_STARTS, seed=self._seed, epoch=epoch, samples=samples)
        hit = np.flatnonzero(boxes[:, 2])
        rows, boxes, starts = (send(x, pixels.device) for x in (hit, boxes[hit], starts[hit]))
        noise = self._noise.unfold(0, pixels[0].numel(), 1)[starts]
        noise = noise.view(-1, *pixels.shape[1:])
        erased = torch.where(inside(boxes, self._size), noise, pixels[rows])
        return pixels.index_copy_(0, rows, erased)

    def _mix(
        self, pixels: Tensor, targets: Tensor, samples: NDArray[np.int64], epoch: int
    ) -> tuple[Tensor, Tensor]:
        pairs = self._config.mix_mode == "pair"
        if pairs and len(samples) % 2:
            raise ValueError(
                f"mixing neighbours needs an even number of images per batch, got {len(samples)};"
                " change batch.per_gpu, or set augment.mix_mode to 'batch'"
            )
        drawn = draws.mixes(
            self._config,
            seed=self._seed,
            epoch=epoch,
            samples=samples[::2] if pairs else samples[:1],
            size=self._size,
        )
        positions = np.arange(len(samples))
        partners = send(positions ^ 1 if pairs else positions[::-1].copy(), pixels.device)
        weights, boxes, is_cutmix = (
            send(part.repeat(2, axis=0) if pairs else part, pixels.device) for part in drawn
        )
        pasted = inside(boxes, self._size)
        weight = torch.where(is_cutmix, 1.0, weights)[:, None, None]
        pixels = torch.lerp(pixels[partners], pixels, torch.where(pasted, 0.0, weight))
        return pixels, torch.lerp(targets[partners], targets, weights[:, None])


def soft_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return (B, num_classes) float32: one-hot, `smoothing` of it spread over all classes."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def inside(boxes: Tensor, size: int) -> Tensor:
    """Return (B, size, 3 size) bool: the pixels in each of the (B, 4) boxes."""
    line = torch.arange(size, device=boxes.device)
    start, end = boxes[:, :2, None], boxes[:, :2, None] + boxes[:, 2:, None]
    rows, columns = ((line >= start) & (line < end)).unbind(1)  # (B, size) each
    return rows[:, :, None] & columns.repeat_interleave(3, dim=1)[:, None]


def noise_bank(length: int, *, seed: int) -> Tensor:
    """Return (length,) standard normal float32, by the Box-Muller transform."""
    half = np.arange((length + 1) // 2)
    u = uniforms(Stream.NOISE_BANK, seed=seed, epoch=0, samples=half, count=2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(normal[:length].astype(np.float32))
