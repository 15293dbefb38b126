"""timm's operations: drawn arguments, what PIL makes of an image with them, and the native form."""

import math

import numpy as np
import pytest
import timm.data.auto_augment as timm_operations
from PIL import Image

native = pytest.importorskip(
    "millstream_native", reason="`make env` builds it where g++ and libjpeg-turbo's header are"
)
Operation = native.Operation

FILL = (124, 116, 104)
FILTERS = {0: Image.Resampling.NEAREST, 1: Image.Resampling.BILINEAR, 2: Image.Resampling.BICUBIC}


def small(photograph, size):
    """A photograph resized to (width, height)."""
    return np.asarray(Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC))


def apply(pool, images, steps):
    """What the chain of (operation, arguments, filter) makes of a copy of `images` (B, H, W, 3)."""
    codes = np.zeros((len(images), len(steps)), np.uint8)
    args = np.zeros((len(images), len(steps), 6))
    filters = np.zeros((len(images), len(steps)), np.uint8)
    for k, (operation, values, resample) in enumerate(steps):
        codes[:, k], filters[:, k] = operation, resample
        args[:, k, : len(values)] = values
    images = np.array(images, order="C")
    native.apply_operations(pool, images, codes, args, filters, np.array(FILL, np.uint8))
    return images


def assert_equal_to_pil(pool, image, steps, expected):
    """`expected` is a function of a PIL image."""
    got = apply(pool, image[None], steps)[0]
    np.testing.assert_array_equal(got, np.asarray(expected(Image.fromarray(image))), str(steps))


def assert_warped_as_by_pil(pool, image, matrix, resample):
    """Image.transform is the oracle."""
    assert_equal_to_pil(
        pool,
        image,
        [(Operation.AFFINE, matrix, resample)],
        lambda image: image.transform(
            image.size, Image.Transform.AFFINE, matrix, FILTERS[resample], fillcolor=FILL
        ),
    )


def rotation(size, degrees):
    """Image.rotate's own matrix."""
    angle = -math.radians(degrees % 360.0)
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
    d, e = round(-math.sin(angle), 15), a
    x, y = size[0] / 2, size[1] / 2
    return [a, b, a * -x + b * -y + 0.0 + x, d, e, d * -x + e * -y + 0.0 + y]


def _nothing(_):
    return ()


def _factor(rng):
    return (rng.uniform(-0.5, 3),)


# By timm's name: the native operation, how timm's arguments are drawn, and, where they are not the
# same, the native arguments for timm's and an image's (width, height).
OPERATIONS = {
    "AutoContrast": (Operation.AUTO_CONTRAST, _nothing, None),
    "Equalize": (Operation.EQUALIZE, _nothing, None),
    "Invert": (Operation.INVERT, _nothing, None),
    "Posterize": (Operation.POSTERIZE, lambda rng: (rng.randint(1, 8),), None),
    "Solarize": (Operation.SOLARIZE, lambda rng: (rng.randint(0, 256),), None),
    "SolarizeAdd": (Operation.SOLARIZE_ADD, lambda rng: (rng.randint(0, 128),), None),
    "Brightness": (Operation.BRIGHTNESS, _factor, None),
    "Contrast": (Operation.CONTRAST, _factor, None),
    "Color": (Operation.COLOR, _factor, None),
    "Sharpness": (Operation.SHARPNESS, _factor, None),
    "Desaturate": (
        Operation.COLOR,
        lambda rng: (rng.uniform(0.5, 1),),
        lambda arg, _: (min(1.0, max(0.0, 1.0 - arg)),),
    ),
    "GaussianBlur": (Operation.GAUSSIAN_BLUR, lambda rng: (rng.uniform(0.1, 2),), None),
    "ShearX": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-0.3, 0.3),),
        lambda arg, _: (1, arg, 0, 0, 1, 0),
    ),
    "ShearY": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-0.3, 0.3),),
        lambda arg, _: (1, 0, 0, arg, 1, 0),
    ),
    "TranslateX": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-30, 30),),
        lambda arg, _: (1, 0, arg, 0, 1, 0),
    ),
    "TranslateXRel": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-0.45, 0.45),),
        lambda arg, size: (1, 0, arg * size[0], 0, 1, 0),
    ),
    "TranslateYRel": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-0.45, 0.45),),
        lambda arg, size: (1, 0, 0, 0, 1, arg * size[1]),
    ),
    "Rotate": (
        Operation.AFFINE,
        lambda rng: (rng.uniform(-30, 30),),
        lambda arg, size: rotation(size, arg),
    ),
}


def draw_step(rng, name, size):
    """A step, and the same as a function of a PIL image."""
    operation, draw, convert = OPERATIONS[name]
    args = draw(rng)
    resample = rng.choice([0, 1, 2]) if operation == Operation.AFFINE else 0
    options = {"resample": FILTERS[resample], "fillcolor": FILL}
    step = (operation, convert(*args, size) if convert else args, resample)
    return step, lambda image: timm_operations.NAME_TO_OP[name](image, *args, **options)
