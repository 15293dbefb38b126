"""The reference loader does what was drawn for each image, and nothing else, in timm's order."""

import io
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pipeline.augment.config import AugmentConfig, ResolutionConfig
from pipeline.augment.crop_draws import crops
from pipeline.augment.image_draws import image_augmentation, image_draws
from pipeline.augment.reference_operations import apply_draws
from pipeline.batch import Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.formats.open import open_source
from pipeline.loaders.build import build_loader
from pipeline.order import sample_of

SEED, EPOCH = 3, 5
SPEC = InputSpec(
    size=32, mean=(0.485, 0.456, 0.406), std=(1, 1, 1), crop_pct=0.875, interpolation="bicubic"
)
EVERYTHING = AugmentConfig(
    auto_augment="rand-m9-mstd0.5-inc1",
    color_jitter=(0.4, 0.4, 0.4, 0.1),
    force_color_jitter=True,
    grayscale=0.3,
    gaussian_blur=0.3,
)
RAMP = ResolutionConfig(min_res=32, max_res=96, start_ramp=3, end_ramp=7)


@pytest.fixture(scope="module")
def source(image_folder):
    return open_source(image_folder / "train")


def batches_of(
    source, augment=EVERYTHING, *, crop=None, rank=0, world_size=1, accumulation=1, **more
):
    """All batches of an epoch, as (samples, images)."""
    data = DataConfig(loader=more.get("loader", "reference"), threads=2, crop=crop or CropConfig())
    loader = build_loader(
        source,
        data=data,
        augment=augment,
        spec=SPEC,
        batch_size=more.get("batch_size", 4),
        accumulation=accumulation,
        placement=Placement(rank=rank, world_size=world_size),
        seed=SEED,
        training=more.get("training", True),
    )
    epoch, start = more.get("epoch", EPOCH), more.get("start", 0)
    with closing(loader):
        return [(b.samples.numpy(), b.images.clone()) for b in loader.batches(epoch, start)]


def pixels_of(batches):
    return {
        int(draw): image
        for draws, images in batches
        for draw, image in zip(draws, images, strict=True)
    }


AUGMENTS = {
    "everything": EVERYTHING,
    "3a": AugmentConfig(auto_augment="3a", color_jitter=0.3),
    "augmix": AugmentConfig(auto_augment="augmix-m5", grayscale=0.5),
    "torchvision": AugmentConfig(auto_augment="tv-n2-m12"),
    "repeats": AugmentConfig(auto_augment="v0", repeats=3),
    "larger": AugmentConfig(auto_augment="rand-m9", resolution=RAMP),
}
CROPS = {
    "rrc": CropConfig(interpolation="random", vflip=0.3),
    "pad": CropConfig(mode="pad", padding=5, vflip=0.3),
    "whole": CropConfig(mode="whole", interpolation="bicubic"),
}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("name", AUGMENTS)
def test_images_are_cropped_mirrored_shifted_and_augmented_as_drawn(source, name, crop):
    augment, crop = AUGMENTS[name], CROPS[crop]
    size = 64 if augment.resolution else SPEC.size
    augmentation = image_augmentation(augment, crop, SPEC)
    changed = 0
    for draws, images in batches_of(source, augment, crop=crop)[:6]:
        key = {"seed": SEED, "epoch": EPOCH, "samples": draws}
        pictures = [decoded(source, sample) for sample in sample_of(draws)]
        sizes = [
            np.array(side) for side in zip(*(picture.size for picture in pictures), strict=True)
        ]
        cropped = crops(crop, **key, widths=sizes[0], heights=sizes[1])
        operations = image_draws(augmentation, **key, size=size)
        for i, picture in enumerate(pictures):
            part = cropped_picture(picture, cropped, i, size)
            down, right = (int(shift) for shift in cropped.shifts[i])
            shifted = Image.new("RGB", (size, size))
            shifted.paste(part, (-right, -down))
            expected = np.asarray(apply_draws(shifted, operations, i, augmentation.fill))
            np.testing.assert_array_equal(images[i].permute(1, 2, 0).numpy(), expected)
            changed += not np.array_equal(expected, np.asarray(shifted))
    assert changed > 6


def cropped_picture(picture, cropped, i, size):
    top, left, height, width = cropped.boxes[i]
    resample = Image.Resampling.BICUBIC if cropped.bicubic[i] else Image.Resampling.BILINEAR
    part = picture.crop((left, top, left + width, top + height)).resize((size, size), resample)
    part = ImageOps.mirror(part) if cropped.flips[i] else part
    return ImageOps.flip(part) if cropped.vertical_flips[i] else part


def decoded(source, sample):
    (stored,) = source.read_many([int(sample)])
    with Image.open(io.BytesIO(stored.data.tobytes())) as image:
        return image.convert("RGB")


def test_evaluation_is_not_augmented(source):
    plain = batches_of(source, AugmentConfig(), training=False)
    augmented = batches_of(source, AugmentConfig(auto_augment="v0", repeats=2), training=False)
    for (_, images), (_, others) in zip(plain, augmented, strict=True):
        assert torch.equal(images, others)


@pytest.mark.parametrize("name", ["everything", "augmix", "repeats"])
def test_augmented_pixels_do_not_depend_on_ranks_accumulation_or_a_restart(source, name):
    augment = AUGMENTS[name]
    whole = batches_of(source, augment, batch_size=8)
    expected = pixels_of(whole)
    for world_size, accumulation in ((2, 1), (1, 2), (2, 2)):
        options = {"world_size": world_size, "accumulation": accumulation}
        batch_size = 8 // (world_size * accumulation)
        got = {}
        for rank in range(world_size):
            got |= pixels_of(
                batches_of(source, augment, rank=rank, batch_size=batch_size, **options)
            )
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[draw], expected[draw]) for draw in got)
    rest = pixels_of(batches_of(source, augment, batch_size=8, start=3))
    assert rest.keys() == pixels_of(whole[3:]).keys()
    assert all(torch.equal(rest[draw], expected[draw]) for draw in rest)


def test_repeats_of_an_image_are_in_one_batch_with_pixels_of_their_own(source):
    batches = batches_of(source, AugmentConfig(repeats=3), batch_size=12)
    assert len(batches) == len(source) // 12
    for draws, images in batches:
        samples, counts = np.unique(sample_of(draws), return_counts=True)
        assert len(samples) == 4
        assert set(counts) == {3}
        assert len({image.numpy().tobytes() for image in images}) == 12
        for i in range(0, 12, 2):  # neighbours, which may be mixed
            assert sample_of(draws)[i] != sample_of(draws)[i + 1]


def test_the_size_of_images_follows_the_schedule(source):
    augment = AugmentConfig(resolution=RAMP)
    sizes = [
        batches_of(source, augment, epoch=epoch)[0][1].shape[-1] for epoch in (0, 3, 5, 6, 7, 20)
    ]
    assert sizes == [32, 32, 64, 64, 96, 96]
    evaluated = batches_of(source, augment, epoch=20, training=False)
    assert evaluated[0][1].shape[-1] == SPEC.size


def test_vertical_flips_whole_images_and_padded_ones_are_the_graphs_too(source):
    for crop in (CropConfig(vflip=0.5), CropConfig(mode="whole", vflip=0.5), CROPS["pad"]):
        reference, dali = (
            pixels_of(batches_of(source, AugmentConfig(repeats=2), crop=crop, loader=loader))
            for loader in ("reference", "dali")
        )
        assert reference.keys() == dali.keys()
        for draw, image in reference.items():
            difference = (image.float() - dali[draw].float()).abs()
            assert difference.mean() < 0.5
