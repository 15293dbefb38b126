"""The compiled operations against PIL's, timm's and torchvision's own functions on photographs."""

import math
import random

import numpy as np
import pytest
import torchvision.transforms.functional as torchvision_operations
from PIL import ImageFilter

from tests.native.pil_operations import (
    FILL,
    OPERATIONS,
    Operation,
    apply,
    assert_equal_to_pil,
    draw_step,
    native,
    small,
)

# Width and height.
SIZES = [(224, 224), (97, 61), (30, 41), (3, 3), (2, 5), (1, 1), (1, 40), (40, 1)]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation_gives_timms_bytes(name, size, pool, photographs):
    rng = random.Random(f"{name} {size}")
    for photograph in photographs:
        image = small(photograph, size)
        for _ in range(3):
            step, expected = draw_step(rng, name, size)
            assert_equal_to_pil(pool, image, [step], expected)


@pytest.mark.usefixtures("instructions")
def test_chains_of_operations_give_timms_bytes(pool, photographs):
    rng = random.Random(0)
    for size in [(96, 64), (33, 47)] * 20:
        names = rng.choices(sorted(OPERATIONS), k=rng.randint(2, 4))
        pairs = [draw_step(rng, name, size) for name in names]

        def expected(image, pairs=pairs):
            for _, function in pairs:
                image = function(image)
            return image

        steps = [step for step, _ in pairs]
        assert_equal_to_pil(pool, small(rng.choice(photographs), size), steps, expected)


@pytest.mark.usefixtures("instructions")
def test_hue_and_grayscale_give_torchvisions_bytes(pool, photographs):
    rng = random.Random(1)
    for photograph in photographs:
        image = small(photograph, (80, 60))
        factor = rng.uniform(-0.5, 0.5)
        assert_equal_to_pil(
            pool,
            image,
            [(Operation.HUE, (factor,), 0)],
            lambda image, factor=factor: torchvision_operations.adjust_hue(image, factor),
        )
        assert_equal_to_pil(
            pool,
            image,
            [(Operation.GRAYSCALE, (), 0)],
            lambda image: torchvision_operations.to_grayscale(image, 3),
        )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("factor", [-0.5, 0.0, 0.31, 0.5])
def test_hue_turns_every_kind_of_colour_as_torchvision_does(factor, pool):
    levels = np.arange(0, 256, 5, np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(52, -1, 3)
    assert_equal_to_pil(
        pool,
        image,
        [(Operation.HUE, (factor,), 0)],
        lambda image: torchvision_operations.adjust_hue(image, factor),
    )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("radius", [0, 1e-3, 0.5, 1, 2.5, 7, 30, 100])
def test_blur_of_any_radius_gives_pils_bytes(radius, pool, photographs):
    for size in [(64, 40), (5, 3), (1, 9)]:
        assert_equal_to_pil(
            pool,
            small(photographs[0], size),
            [(Operation.GAUSSIAN_BLUR, (radius,), 0)],
            lambda image: image.filter(ImageFilter.GaussianBlur(radius)),
        )


def test_posterize_to_no_bits_gives_black(pool, photographs):
    """As Pillow did up to 12; Pillow 13 refuses it, and timm's increasing form asks for it."""
    image = small(photographs[0], (20, 20))
    assert not apply(pool, image[None], [(Operation.POSTERIZE, (0,), 0)]).any()


def test_images_without_operations_stay_as_they_are(pool, photographs):
    images = np.stack([small(photograph, (31, 17)) for photograph in photographs])
    np.testing.assert_array_equal(apply(pool, images, []), images)
    np.testing.assert_array_equal(apply(pool, images, [(Operation.NOTHING, (9,), 7)] * 3), images)
    assert apply(pool, images[:0], [(Operation.INVERT, (), 0)]).shape == (0, 17, 31, 3)


@pytest.mark.parametrize("num_threads", [1, 3, 8])
def test_any_number_of_threads_gives_the_same_bytes(num_threads, pool, photographs):
    rng = random.Random(2)
    images = np.stack([small(photograph, (60, 50)) for photograph in photographs] * 6)
    codes = np.array(rng.choices(list(Operation), k=len(images) * 3), np.uint8).reshape(-1, 3)
    args = np.full((*codes.shape, 6), 0.4)
    args[codes == Operation.POSTERIZE] = args[codes == Operation.SOLARIZE_ADD] = 3
    filters = np.array(rng.choices([0, 1, 2], k=codes.size), np.uint8).reshape(codes.shape)
    results = []
    with native.Pool(num_threads) as other_pool:
        for threads in (pool, other_pool):
            results.append(images.copy())
            native.apply_operations(
                threads, results[-1], codes, args, filters, np.array(FILL, np.uint8)
            )
    np.testing.assert_array_equal(*results)


def test_operations_numbers_stay():
    assert [operation.name for operation in sorted(Operation)] == [
        "NOTHING",
        "AUTO_CONTRAST",
        "EQUALIZE",
        "INVERT",
        "POSTERIZE",
        "SOLARIZE",
        "SOLARIZE_ADD",
        "BRIGHTNESS",
        "CONTRAST",
        "COLOR",
        "SHARPNESS",
        "AFFINE",
        "GRAYSCALE",
        "GAUSSIAN_BLUR",
        "HUE",
    ]
    assert sorted(Operation) == list(range(15))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ((15, (), 0), "operation 15 is unknown; the last is 14, HUE"),
        ((Operation.POSTERIZE, (9,), 0), "POSTERIZE takes whole numbers from 0 to 8, got 9"),
        ((Operation.POSTERIZE, (1.5,), 0), "POSTERIZE takes whole numbers from 0 to 8, got 1.5"),
        ((Operation.SOLARIZE_ADD, (-1,), 0), "SOLARIZE_ADD takes whole numbers from 0 to 255"),
        ((Operation.BRIGHTNESS, (math.nan,), 0), "BRIGHTNESS takes numbers .* got -?nan"),
        ((Operation.SHARPNESS, (math.inf,), 0), "SHARPNESS takes numbers .* got inf"),
        ((Operation.HUE, (0.6,), 0), "HUE takes numbers from -0.5 to 0.5, got 0.6"),
        ((Operation.GAUSSIAN_BLUR, (-1,), 0), "GAUSSIAN_BLUR takes numbers from 0 to 100, got -1"),
        ((Operation.AFFINE, (1, 0, 0, 0, 1, math.nan), 1), "AFFINE takes numbers"),
        ((Operation.AFFINE, (1, 0, 0, 0, 1, 0), 3), r"filter 3 is unknown; they are 0 \(nearest\)"),
    ],
)
def test_bad_steps_are_refused_before_any_pixel_changes(step, message, pool):
    images = np.full((2, 4, 5, 3), 7, np.uint8)
    codes = np.array([[Operation.INVERT, 0], [0, step[0]]], np.uint8)
    args, filters = np.zeros((2, 2, 6)), np.zeros((2, 2), np.uint8)
    args[1, 1, : len(step[1])], filters[1, 1] = step[1], step[2]
    with pytest.raises(ValueError, match=f"image 1, step 1: {message}"):
        native.apply_operations(pool, images, codes, args, filters, np.zeros(3, np.uint8))
    assert (images == 7).all()


GOOD = {
    "images": np.zeros((2, 6, 5, 3), np.uint8),
    "codes": np.zeros((2, 3), np.uint8),
    "args": np.zeros((2, 3, 6)),
    "filters": np.zeros((2, 3), np.uint8),
    "fill": np.zeros(3, np.uint8),
}


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images", np.zeros((6, 5, 3), np.uint8), r"must be uint8 \(B, H, W, 3\).* got uint8 \(6,"),
        ("images", np.zeros((2, 6, 5, 3), np.float32), r"got float32 \(2, 6, 5, 3\)"),
        ("images", np.zeros((2, 3, 6, 5), np.uint8), r"got uint8 \(2, 3, 6, 5\)"),
        ("images", np.zeros((2, 6, 10, 3), np.uint8)[:, :, ::2], "not in C order"),
        ("images", np.zeros((2, 0, 5, 3), np.uint8), "1 to 16384 pixels .* got 0 x 5"),
        ("images", np.zeros((2, 1, 20000, 3), np.uint8), "1 to 16384 pixels .* got 1 x 20000"),
        ("codes", np.zeros((3, 3), np.uint8), r"for the same B images"),
        ("codes", np.zeros((2, 3), np.int64), r"got int64 \(2, 3\)"),
        ("args", np.zeros((2, 3, 5)), r"must be float64 \(B, K, 6\)"),
        ("args", np.zeros((2, 3, 6), np.float32), r"got float32"),
        ("filters", np.zeros((2, 4), np.uint8), "for codes' B and K"),
        ("filters", np.zeros((3, 2), np.uint8).T, "not in C order"),
        ("fill", np.zeros(4, np.uint8), r"must be uint8 \(3,\)"),
    ],
)
def test_bad_arrays_are_refused(name, array, message, pool):
    with pytest.raises(ValueError, match=f"^{name} .*{message}"):
        native.apply_operations(pool, **(GOOD | {name: array}))


def test_images_that_may_not_be_written_are_refused(pool):
    images = GOOD["images"].copy()
    images.flags.writeable = False
    with pytest.raises(TypeError):
        native.apply_operations(pool, **(GOOD | {"images": images}))
