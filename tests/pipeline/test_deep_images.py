"""Images of 16 bits are the same picture to every loader: the upper 8 bits of it."""

import struct
import zlib
from contextlib import closing

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.open import open_source
from pipeline.loaders.build import build_loader
from tools import make_shards

SIZE = 64
SPEC = InputSpec(size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, interpolation="bilinear")
"""Takes the images as they are: nothing is resampled."""
TOLERANCES = {"host": 0, "reference": 0, "dali": 1}
"""DALI rounds where PIL cuts the lower 8 bits off."""
COLOUR_TYPES = {"gray": (0, 1), "rgb": (2, 3), "gray_alpha": (4, 2), "rgb_alpha": (6, 4)}
"""PNG's number, and channels."""


def deep_png(pixels, colour_type):
    """(H, W, C) uint16 pixels as a PNG of 16 bits, which PIL writes of gray alone."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    data = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(data),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    """A split of photographs in 16 bits, whose lower 8 are noise."""
    folder = tmp_path_factory.mktemp("deep") / "train" / "only"
    folder.mkdir(parents=True)
    upper = skimage.data.astronaut()[40 : 40 + SIZE, 180 : 180 + SIZE].astype(np.uint16)
    lower = np.random.default_rng(0).integers(0, 256, upper.shape, np.uint16)
    rgb = upper << 8 | lower
    opaque = np.full((SIZE, SIZE, 1), 0xFFFF, np.uint16)
    gray = rgb[..., :1]
    channels = {1: gray, 2: np.dstack([gray, opaque]), 3: rgb, 4: np.dstack([rgb, opaque])}
    for name, (number, count) in COLOUR_TYPES.items():
        (folder / f"{name}.png").write_bytes(deep_png(channels[count], number))
    (folder / "portable.pgm").write_bytes(b"P5 64 64 65535\n" + gray.astype(">u2").tobytes())
    Image.fromarray(gray[..., 0]).save(folder / "tagged.tif")
    return folder.parent


def loaded(split, loader, spec):
    """(N, size, size, 3) int32 pixels by key."""
    source = open_source(split)
    built = build_loader(
        source,
        data=DataConfig(loader=loader, threads=2),
        augment=AugmentConfig(),
        spec=spec,
        batch_size=len(source),
        accumulation=1,
        placement=Placement(),
        seed=0,
        training=False,
    )
    with closing(built):
        (batch,) = built.batches(0)
        images = batch.images.permute(0, 2, 3, 1).numpy().astype(np.int32)
        return {source.key(number): image for number, image in enumerate(images)}


def expected_of(key):
    upper = skimage.data.astronaut()[40 : 40 + SIZE, 180 : 180 + SIZE]
    return upper if "rgb" in key else np.repeat(upper[..., :1], 3, axis=2)


@pytest.mark.parametrize("loader", TOLERANCES)
@pytest.mark.parametrize("form", ["folder", "shards", "ffcv", "ffcv raw"])
def test_every_loader_takes_the_upper_8_bits_from_every_format(deep_folder, tmp_path, form, loader):
    split = deep_folder
    if form != "folder":
        command = [str(deep_folder.parent), "--output", str(tmp_path), "--split", "train"]
        options = [] if form == "shards" else ["--format", "ffcv"]
        options += ["--write-mode", "raw"] if form == "ffcv raw" else []
        assert make_shards.main([*command, *options]) == 0
        split = tmp_path / "train"
    pixels = loaded(split, loader, SPEC)
    assert len(pixels) == 6
    for key, image in pixels.items():
        difference = np.abs(image - expected_of(key)).max()
        assert difference <= (0 if "ffcv" in form else TOLERANCES[loader]), key
