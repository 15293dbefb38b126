"""Evaluation is timm's: `create_transform(..., is_training=False)` says what the pixels are."""

import io
from contextlib import closing

import numpy as np
import pytest
import skimage.data
from PIL import Image
from timm.data import create_transform

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import DataConfig, EvaluationConfig, InputSpec
from pipeline.formats.open import open_source
from pipeline.loaders.build import build_loader

MEAN = (0.485, 0.456, 0.406)
SHAPES = ((31, 23), (24, 300), (300, 24), (64, 64), (65, 64), (113, 170), (201, 90), (400, 299))
"""Heights and widths of the photographs: smaller than the input, wide, tall, square, larger."""
GEOMETRIES = ((64, 1.0), (64, 0.9), (47, 0.875), (96, 0.96))
"""Sizes of the input, and shares of the crop."""
MODES = ("center", "squash", "border")

# The reference is equal to the bit. The other two resample the part under the crop at once instead
# of the whole image, with the same filters, placed in float32. So Pillow, which makes the cheaper
# of its two passes first, may make the other one first; it rounds and cuts off between them. DALI
# does not, and repeats the border where Pillow leaves it out.
TOLERANCES = {"reference": (0, 0), "host": (0.25, 10), "dali": (0.5, 24)}
"""Mean and largest difference of a value in 0..255."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A split of JPEGs, in the order of `SHAPES`, one of them gray and one a PNG."""
    folder = tmp_path_factory.mktemp("photographs")
    sources = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)
    for number, (height, width) in enumerate(SHAPES):
        whole = Image.fromarray(sources[number % 3]())
        crop = whole.resize((min(2 * width, whole.width), min(2 * height, whole.height)))
        image = crop.crop((width // 3, height // 3, width // 3 + width, height // 3 + height))
        image = image.convert("L") if number == 5 else image
        kind = folder / "only"
        kind.mkdir(exist_ok=True)
        image.save(kind / f"{number}.JPEG", "PNG" if number == 6 else "JPEG", quality=95)
    return folder


def spec_of(mode, interpolation, size, crop_pct):
    return InputSpec(
        size=size,
        mean=MEAN,
        std=(1, 1, 1),
        crop_pct=crop_pct,
        interpolation=interpolation,
        crop_mode=mode,
    )


def evaluated(folder, loader, spec):
    """(N, size, size, 3) int32 pixels, in the order of `SHAPES`."""
    built = build_loader(
        open_source(folder),
        data=DataConfig(loader=loader, threads=2),
        augment=AugmentConfig(),
        spec=spec,
        batch_size=len(SHAPES),
        accumulation=1,
        placement=Placement(),
        seed=0,
        training=False,
    )
    with closing(built):
        (batch,) = built.batches(0)
        return batch.images.permute(0, 2, 3, 1).numpy().astype(np.int32)


def timms(folder, spec):
    transform = create_transform(
        spec.size,
        is_training=False,
        interpolation=spec.interpolation,
        mean=spec.mean,
        crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode,
        normalize=False,
    )
    images = [Image.open(folder / "only" / f"{i}.JPEG").convert("RGB") for i in range(len(SHAPES))]
    return np.stack([transform(image).permute(1, 2, 0).numpy() for image in images]).astype(
        np.int32
    )


@pytest.mark.parametrize("loader", TOLERANCES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", MODES)
def test_evaluation_gives_timms_pixels(photographs, mode, interpolation, loader):
    mean, largest = TOLERANCES[loader]
    for geometry in GEOMETRIES:
        spec = spec_of(mode, interpolation, *geometry)
        got, expected = evaluated(photographs, loader, spec), timms(photographs, spec)
        differences = np.abs(got - expected).reshape(len(SHAPES), -1)
        for shape, difference in zip(SHAPES, differences, strict=True):
            assert difference.mean() <= mean, (shape, geometry, difference.mean())
            assert difference.max() <= largest, (shape, geometry, difference.max())


def test_modes_differ_where_the_image_is_no_square(photographs):
    pixels = [timms(photographs, spec_of(mode, "bicubic", 64, 1.0)) for mode in MODES]
    for number, (height, width) in enumerate(SHAPES):
        for one, other in zip(pixels, pixels[1:] + pixels[:1], strict=True):
            assert np.array_equal(one[number], other[number]) == (height == width)


@pytest.mark.parametrize("loader", TOLERANCES)
def test_a_border_keeps_at_least_a_pixel_of_the_image(tmp_path, loader):
    """timm fails at such an image, which is nothing but a line."""
    (tmp_path / "only").mkdir()
    Image.new("RGB", (3, 900), (255, 0, 0)).save(tmp_path / "only" / "line.png")
    spec = spec_of("border", "bicubic", 32, 1.0)
    line, *_ = evaluated(tmp_path, loader, spec)
    assert (line == (255, 0, 0)).all(axis=2).sum(axis=1).tolist() == [1] * 32
    assert (line == spec.mean_colour).all(axis=2).sum(axis=1).tolist() == [31] * 32


@pytest.mark.parametrize("loader", TOLERANCES)
@pytest.mark.parametrize("mode", MODES)
def test_an_unreadable_image_is_gray_in_every_mode(tmp_path, loader, mode):
    (tmp_path / "only").mkdir()
    content = io.BytesIO()
    Image.fromarray(skimage.data.coffee()).resize((90, 40)).save(content, "JPEG")
    path = tmp_path / "only" / "cut.jpg"
    path.write_bytes(content.getvalue())
    spec = spec_of(mode, "bicubic", 32, 1.0)
    source = open_source(tmp_path)
    path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    built = build_loader(
        source,
        data=DataConfig(loader=loader, threads=1, on_error="replace"),
        augment=AugmentConfig(),
        spec=spec,
        batch_size=1,
        accumulation=1,
        placement=Placement(),
        seed=0,
        training=False,
    )
    with closing(built):
        (batch,) = built.batches(0)
        assert (batch.images == 128).all()


@pytest.mark.parametrize("crop_pct", [0, -0.5, 1.01])
def test_a_crop_of_nothing_or_of_more_than_the_image_is_refused(crop_pct):
    with pytest.raises(ValueError, match=r"crop_pct must be in \(0, 1\]"):
        EvaluationConfig(crop_pct=crop_pct)
    with pytest.raises(ValueError, match=r"crop_pct must be in \(0, 1\]"):
        spec_of("center", "bicubic", 32, crop_pct)
