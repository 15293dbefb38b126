"""What is done to whole batches, once, on their device: normalise, erase, mix, soften the targets.

The numbers are draws, made on the host from `Batch.samples` (which stay there) and sent along
without waiting; so a batch's pixels depend on nothing but (seed, epoch, samples). The formulas are
timm's: random erasing, mixup and cutmix with label smoothing.

Pixels are processed as (B, H, 3W): rows of channels-last images as they lie in memory. Loops over
an innermost dimension of three channels would be several times slower on a CPU.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.augment.config import AugmentConfig
from pipeline.augment.erase_draws import erase_boxes, erase_colors, noise_offsets
from pipeline.augment.fused.batch_pass import Erased, Mixed, box_values, finish, inside
from pipeline.augment.mix_draws import mixes
from pipeline.batch import Batch, send
from pipeline.config import InputSpec
from pipeline.counter import DrawKey, Stream, uniforms

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
        fused: bool = False,
    ) -> None:
        """Prepare the constants.

        Args:
            config: augmentation of training batches.
            spec: size, mean and standard deviation of the images.
            num_classes: width of the targets.
            seed: of the run; it keys all draws.
            dtype: of the images; they are computed in float32.
            fused: make training images in one pass, for GPUs (`pipeline.augment.fused`); the same
                numbers come out.
        """
        self._config = config
        self._num_classes = num_classes
        self._seed = seed
        self._dtype = dtype
        self._is_fused = fused
        std, mean = torch.tensor(spec.std), torch.tensor(spec.mean)
        self._scale = 1 / (255 * std)
        self._shift = -mean / std
        largest = config.resolution.max_res if config.resolution else spec.size
        has_noise = config.erase > 0 and config.erase_mode == "pixel"
        noise_length = _NOISE_STARTS - 1 + 3 * largest**2 if has_noise else 0
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
            ValueError: if neighbours are to be mixed in a batch of odd size.
        """
        self._move_to(batch.images.device)
        key: DrawKey = {"seed": self._seed, "epoch": epoch, "samples": batch.samples.numpy()}
        targets = soft_targets(batch.labels, self._num_classes, self._config.smoothing)
        mixing = self.mixing(batch, epoch)
        make = self._in_one_pass if self._is_fused else self._step_by_step
        images = make(batch.images, key, mixing)
        if mixing is not None:
            targets = mixed_targets(targets, mixing.partners, mixing.weights)
        return images, targets

    def mixing(self, batch: Batch, epoch: int) -> "Mixing | None":
        """Return how `train` mixes a batch, on its device; None where it does not.

        Raises:
            ValueError: if neighbours are to be mixed in a batch of odd size.
        """
        config, samples = self._config, batch.samples.numpy()
        if not config.mixes or 0 < config.mix_off_epoch <= epoch:
            return None
        mode = config.mix_mode
        if mode != "batch" and len(samples) % 2:
            raise ValueError(
                f"mixing neighbours needs an even number of images per batch, got {len(samples)};"
                " change batch.per_gpu, or set augment.mix_mode to 'batch'"
            )
        drawn = mixes(
            config,
            seed=self._seed,
            epoch=epoch,
            samples={"pair": samples[::2], "elem": samples, "batch": samples[:1]}[mode],
            size=batch.images.shape[2],
        )
        positions = np.arange(len(samples))
        partners = positions[::-1].copy() if mode == "batch" else positions ^ 1
        parts = (part.repeat(2, axis=0) if mode == "pair" else part for part in drawn)
        return Mixing(*(send(part, batch.images.device) for part in (partners, *parts)))

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the (B, 3, H, W) normalised images, channels-last."""
        self._move_to(batch.images.device)
        return self._as_images(self._normalize(batch.images))

    def _step_by_step(self, images: Tensor, key: DrawKey, mixing: "Mixing | None") -> Tensor:
        pixels = self._normalize(images)
        if self._config.erase > 0:
            pixels = self._erase(pixels, key)
        if mixing is not None:
            pixels = _mixed_pixels(pixels, mixing)
        return self._as_images(pixels)

    def _in_one_pass(self, images: Tensor, key: DrawKey, mixing: "Mixing | None") -> Tensor:
        erased, mixed = None, None
        if self._config.erase > 0:
            boxes = erase_boxes(self._config, **key, size=images.shape[2])
            content = self._content(key, boxes.shape[1])
            device = images.device
            erased = Erased(send(boxes, device), send(content, device), self._noise)
        if mixing is not None:
            weights = torch.where(mixing.is_cutmix, 1.0, mixing.weights)
            mixed = Mixed(
                mixing.partners,
                weights.expand(len(images)).contiguous(),
                mixing.boxes.expand(len(images), 4).contiguous(),
            )
        return finish(
            images,
            scale=self._scale,
            shift=self._shift,
            erased=erased,
            mixed=mixed,
            dtype=self._dtype,
        )

    def _normalize(self, images: Tensor) -> Tensor:
        scale, shift = (part.repeat(images.shape[3]) for part in (self._scale, self._shift))
        pixels = images.permute(0, 2, 3, 1).flatten(2).to(torch.float32, copy=True)
        return pixels.mul_(scale).add_(shift)

    def _as_images(self, pixels: Tensor) -> Tensor:
        return pixels.to(self._dtype).unflatten(2, (-1, 3)).permute(0, 3, 1, 2)

    def _move_to(self, device: torch.device) -> None:
        self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        self._noise = self._noise.to(device)

    def _erase(self, pixels: Tensor, key: DrawKey) -> Tensor:
        """Erase boxes: later ones of an image lie over earlier ones."""
        boxes = erase_boxes(self._config, **key, size=pixels.shape[1])
        content = self._content(key, boxes.shape[1])
        if pixels.device.type == "cpu":
            return self._erase_one_by_one(pixels, boxes, content)
        return self._erase_at_once(pixels, boxes, content)

    def _erase_one_by_one(
        self, pixels: Tensor, boxes: NDArray[np.int64], content: NDArray[np.generic]
    ) -> Tensor:
        """Touch nothing but what is erased."""
        size = pixels.shape[1]
        for row, number in zip(*np.nonzero(boxes[..., 2]), strict=True):
            top, left, height, width = boxes[row, number].tolist()
            place = slice(top, top + height), slice(3 * left, 3 * (left + width))
            if self._config.erase_mode == "pixel":
                start = int(content[row, number])
                values = self._noise[start : start + 3 * size**2].view(size, -1)[place]
            else:
                values = torch.from_numpy(content[row, number]).repeat(width)
            pixels[row][place] = values
        return pixels

    def _erase_at_once(
        self, pixels: Tensor, boxes: NDArray[np.int64], content: NDArray[np.generic]
    ) -> Tensor:
        """Erase the first boxes of all images, then the second ones: few launches on a GPU."""
        size = pixels.shape[1]
        for number in range(boxes.shape[1]):
            hit = np.flatnonzero(boxes[:, number, 2])
            rows, erased, values = (
                send(x, pixels.device) for x in (hit, boxes[hit, number], content[hit, number])
            )
            values = box_values(values, self._noise, size)
            values = torch.where(inside(erased, size), values, pixels[rows])
            pixels = pixels.index_copy_(0, rows, values)
        return pixels

    def _content(self, key: DrawKey, boxes: int) -> NDArray[np.generic]:
        """Return what each box is erased with: (B, boxes) places of noise, or (B, boxes, 3)."""
        if self._config.erase_mode == "pixel":
            return noise_offsets(_NOISE_STARTS, **key, boxes=boxes)
        if self._config.erase_mode == "rand":
            return erase_colors(**key, boxes=boxes)
        return np.zeros((len(key["samples"]), boxes, 3), np.float32)


class Mixing(NamedTuple):
    """How the B images of a batch are mixed: (B, ...), or (1, ...) where it is alike for all.

    Attributes:
        partners: (B,) positions of those that they are mixed with.
        weights: float32 share of the own image in the target.
        boxes: (., 4) pasted from the partner; empty where images are blended.
        is_cutmix: bool, paste rather than blend.
    """

    partners: Tensor
    weights: Tensor
    boxes: Tensor
    is_cutmix: Tensor


def mixed_targets(targets: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Return (B, ...) targets, `weights` of them (B, or 1) their own and the rest the partners'."""
    weights = weights.to(targets.dtype).view(-1, *[1] * (targets.ndim - 1))
    return torch.lerp(targets[partners], targets, weights)


def _mixed_pixels(pixels: Tensor, mixing: Mixing) -> Tensor:
    """Return (B, H, 3W): blended, or with the partners' boxes."""
    pasted = inside(mixing.boxes, pixels.shape[1])
    weight = torch.where(mixing.is_cutmix, 1.0, mixing.weights)[:, None, None]
    return torch.lerp(pixels[mixing.partners], pixels, torch.where(pasted, 0.0, weight))


def soft_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return (B, num_classes) float32: one-hot, `smoothing` of it spread over all classes."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def noise_bank(length: int, *, seed: int) -> Tensor:
    """Return (length,) standard normal float32, by the Box-Muller transform."""
    half = np.arange((length + 1) // 2)
    u = uniforms(Stream.NOISE_BANK, seed=seed, epoch=0, samples=half, count=2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return torch.from_numpy(normal[:length].astype(np.float32))
