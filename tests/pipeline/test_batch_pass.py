"""The batch transform in one pass: its bits are those of the transform step by step."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.offline.kernel_resources import BATCH_TYPES, compile_kernel
from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig
from pipeline.augment.fused import batch_pass_triton
from pipeline.batch import Batch
from pipeline.config import InputSpec
from tests.support.triton_interpreter import interpret

PROGRAM = Path(__file__).with_name("interpreted_batch_pass.py")
SIZE = 32
SPEC = InputSpec(
    size=SIZE,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_pct=1.0,
    interpolation="bilinear",
)


def test_the_kernel_makes_the_bits_of_the_transform():
    interpret(PROGRAM, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_kernel_makes_the_bits_of_the_transform_at_random_sizes(seed):
    interpret(PROGRAM, seed)


def make_batch(size=SIZE):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, size, size, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(8) % 3
    return Batch(images.permute(0, 3, 1, 2), labels, torch.arange(100, 108))


def transforms(augment, dtype=torch.float32):
    config = AugmentConfig(**augment)
    options = {"spec": SPEC, "num_classes": 3, "seed": 7, "dtype": dtype}
    return [BatchTransform(config, **options, fused=fused) for fused in (False, True)]


MIXES = {"mixup": 0.8, "cutmix": 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "augment",
    [
        {},
        {"erase": 0.7, "erase_min_count": 2, "erase_max_count": 4},
        {"erase": 0.7, "erase_mode": "rand", **MIXES},
        {"erase": 0.7, "erase_mode": "const", **MIXES, "mix_mode": "batch"},
        {"erase": 0.7, **MIXES, "mix_mode": "elem", "mix_prob": 0.7},
    ],
)
def test_the_plain_form_makes_the_bits_of_the_transform(augment, dtype):
    for epoch in range(3):
        apart, at_once = (t.train(make_batch(), epoch) for t in transforms(augment, dtype))
        assert all(map(torch.equal, at_once, apart))
        assert at_once[0].stride() == apart[0].stride()
        assert at_once[0].dtype == dtype


def test_the_pass_equals_the_definition_in_float64():
    """Normalised, erased with zeros, blended or pasted: each pixel by itself."""
    options = {"erase": 0.6, "erase_mode": "const", **MIXES}
    transform = transforms(options)[1]
    batch = make_batch()
    images, _ = transform.train(batch, 0)
    mixing = transform.mixing(batch, 0)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    normalised = (batch.images.double() / 255 - mean) / std
    erased = transforms({"erase": 0.6, "erase_mode": "const"})[0].train(batch, 0)[0]
    normalised[erased == 0] = 0
    for i, partner in enumerate(mixing.partners.tolist()):
        top, left, height, width = mixing.boxes[i].tolist()
        own, other, weight = normalised[i], normalised[partner], mixing.weights[i].double()
        if mixing.is_cutmix[i]:
            place = slice(top, top + height), slice(left, left + width)
            expected = own.clone()
            expected[:, place[0], place[1]] = other[:, place[0], place[1]]
        else:
            expected = weight * own + (1 - weight) * other
        # A few roundings in float32 of values up to 3.
        torch.testing.assert_close(images[i].double(), expected, rtol=0, atol=2e-6)


# opcheck's own: it looks for gradients everywhere.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_operator_keeps_the_rules_of_torch():
    images = make_batch(8).images.permute(0, 2, 3, 1).contiguous()
    boxes = torch.tensor([[[1, 1, 3, 4]]]).expand(8, 1, 4).contiguous()
    content, noise = torch.arange(8)[:, None], torch.randn(500)
    scale, shift = torch.rand(3), torch.rand(3)
    mixed = (torch.arange(8).flip(0), torch.rand(8), boxes[:, 0].contiguous())
    torch.library.opcheck(
        torch.ops.millstream.finish_batch.default,
        (images, scale, shift, boxes, content, noise, *mixed, torch.bfloat16),
    )


def test_the_kernel_spills_nothing_and_reads_pixels_in_wide_pieces():
    sizes = batch_pass_triton.constants(224, 224, 1, noise=True, mix=True)
    numbers = compile_kernel(batch_pass_triton._finish_kernel, sizes, BATCH_TYPES)
    assert numbers["spill_instructions"] == numbers["stack_bytes"] == 0
    assert numbers["registers"] < 96
    assert numbers["loads"]["LDG.E.64"] >= 2  # eight of the image's and of its partner's
