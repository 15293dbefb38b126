"""Hold the kernel of the batch transform, in Triton's interpreter, to the transform step by step.

Usage: interpreted_batch_pass.py SEED

A process of its own, see test_batch_pass.py: the interpreter is chosen when Triton is imported.
"""

import random
import sys

import torch

from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.augment.fused import batch_pass
from pipeline.batch import Batch
from pipeline.config import InputSpec

AUGMENTATIONS = (
    {},
    {"erase": 0.7, "erase_max_count": 2},
    {"erase": 0.7, "erase_mode": "rand", "erase_max_count": 3, "cutmix": 1.0},
    {"erase": 0.7, "erase_mode": "const", "mixup": 0.8, "mix_mode": "batch"},
    {"erase": 0.7, "mixup": 0.8, "cutmix": 1.0, "mix_mode": "elem", "mix_prob": 0.8},
    {"mixup": 0.8, "cutmix": 1.0},
)
PIXELS = (torch.uint8, torch.float32, torch.bfloat16, torch.float16)
MADE = (torch.float32, torch.bfloat16, torch.float16)


def compare(augment: dict[str, object], draw: random.Random, *, given, made) -> None:
    """Images, targets and strides are the same, to the bit.

    But bfloat16 to a rounding: the interpreter cuts off where GPUs round.
    """
    size, count = draw.randint(8, 24), 2 * draw.randint(1, 4)
    spec = InputSpec(
        size=size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_pct=1.0,
        interpolation="bilinear",
    )
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8).to(given)
    samples = torch.randperm(1000)[:count]
    batch = Batch(images.permute(0, 3, 1, 2), torch.randint(0, 5, (count,)), samples)
    results = [
        BatchTransform(
            AugmentConfig(**augment), spec=spec, num_classes=5, seed=1, dtype=made, fused=fused
        ).train(batch, epoch=3)
        for fused in (False, True)
    ]
    for expected, found in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        assert found.stride() == expected.stride()
        step = 2**-7 if found.dtype == torch.bfloat16 else 0.0
        torch.testing.assert_close(
            *(found, expected),
            rtol=step,
            atol=0,
            msg=lambda text: f"{augment}, {given} to {made}, {count} x {size}: {text}",
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    seed = int(sys.argv[1])
    torch.manual_seed(seed)
    chosen = random.Random(seed)
    batch_pass.runs_triton = lambda images: images.dtype in PIXELS
    for number, options in enumerate(AUGMENTATIONS):
        compare(options, chosen, given=torch.uint8, made=MADE[number % 3])
        compare(options, chosen, given=PIXELS[1 + number % 3], made=torch.float32)
