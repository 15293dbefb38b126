"""The compiled operations against PIL's, timm's and torchvision's own functions on photographs."""

import math
import random

import numpy as np
import pytest
import timm.data.auto_augment as timm_operations
import torchvision.transforms.functional as torchvision_operations
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from skimage import data
from sklearn.datasets import load_sample_image

native = pytest.importorskip("millstream_native")
Operation = native.Operation

FILL = (124, 116, 104)
FILTERS = {0: Image.Resampling.NEAREST, 1: Image.Resampling.BILINEAR, 2: Image.Resampling.BICUBIC}
# Width and height.
SIZES = [(224, 224), (97, 61), (30, 41), (3, 3), (2, 5), (1, 1), (1, 40), (40, 1)]


@pytest.fixture(scope="module")
def pool():
    with native.Pool(2) as pool:
        yield pool


@pytest.fixture(params=[False, True], ids=["vectors", "portable"])
def instructions(request):
    """Each processor takes one of the two forms of the code; both are tested where both run."""
    native._native.use_portable_operations(is_portable=request.param)
    yield
    native._native.use_portable_operations(is_portable=False)


@pytest.fixture(scope="module")
def photographs():
    return [
        data.astronaut(),
        data.coffee(),
        data.chelsea(),
        load_sample_image("china.jpg"),
        load_sample_image("flower.jpg"),
    ]


def small(photograph, size):
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


def transform(image, matrix, resample):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, FILTERS[resample], fillcolor=FILL
    )


def rotation(size, degrees):
    """Image.rotate's own matrix."""
    angle = -math.radians(degrees % 360.0)
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
    d, e = round(-math.sin(angle), 15), a
    x, y = size[0] / 2, size[1] / 2
    return [a, b, a * -x + b * -y + 0.0 + x, d, e, d * -x + e * -y + 0.0 + y]


# timm's name of an operation, its argument drawn with `rng`, and what the native form is given.
POINTWISE = {
    "AutoContrast": (lambda rng: (), lambda arg, size: (Operation.AUTO_CONTRAST, ())),
    "Equalize": (lambda rng: (), lambda arg, size: (Operation.EQUALIZE, ())),
    "Invert": (lambda rng: (), lambda arg, size: (Operation.INVERT, ())),
    "Posterize": (lambda rng: (rng.randint(1, 8),), lambda arg, size: (Operation.POSTERIZE, arg)),
    "Solarize": (lambda rng: (rng.randint(0, 256),), lambda arg, size: (Operation.SOLARIZE, arg)),
    "SolarizeAdd": (
        lambda rng: (rng.randint(0, 128),),
        lambda arg, size: (Operation.SOLARIZE_ADD, arg),
    ),
    "Brightness": (
        lambda rng: (rng.uniform(-0.5, 3),),
        lambda arg, size: (Operation.BRIGHTNESS, arg),
    ),
    "Contrast": (lambda rng: (rng.uniform(-0.5, 3),), lambda arg, size: (Operation.CONTRAST, arg)),
    "Color": (lambda rng: (rng.uniform(-0.5, 3),), lambda arg, size: (Operation.COLOR, arg)),
    "Sharpness": (
        lambda rng: (rng.uniform(-0.5, 3),),
        lambda arg, size: (Operation.SHARPNESS, arg),
    ),
    "Desaturate": (
        lambda rng: (rng.uniform(0.5, 1),),
        lambda arg, size: (Operation.COLOR, (min(1.0, max(0.0, 1.0 - arg[0])),)),
    ),
    "GaussianBlur": (
        lambda rng: (rng.uniform(0.1, 2),),
        lambda arg, size: (Operation.GAUSSIAN_BLUR, arg),
    ),
}
WARPS = {
    "ShearX": (
        lambda rng: (rng.uniform(-0.3, 0.3),),
        lambda arg, size: (Operation.AFFINE, (1, arg[0], 0, 0, 1, 0)),
    ),
    "ShearY": (
        lambda rng: (rng.uniform(-0.3, 0.3),),
        lambda arg, size: (Operation.AFFINE, (1, 0, 0, arg[0], 1, 0)),
    ),
    "TranslateX": (
        lambda rng: (rng.uniform(-30, 30),),
        lambda arg, size: (Operation.AFFINE, (1, 0, arg[0], 0, 1, 0)),
    ),
    "TranslateYRel": (
        lambda rng: (rng.uniform(-0.45, 0.45),),
        lambda arg, size: (Operation.AFFINE, (1, 0, 0, 0, 1, arg[0] * size[1])),
    ),
    "TranslateXRel": (
        lambda rng: (rng.uniform(-0.45, 0.45),),
        lambda arg, size: (Operation.AFFINE, (1, 0, arg[0] * size[0], 0, 1, 0)),
    ),
    "Rotate": (
        lambda rng: (rng.uniform(-30, 30),),
        lambda arg, size: (Operation.AFFINE, rotation(size, arg[0])),
    ),
}


def draw_step(rng, name, size):
    """A step, and the same as a function of a PIL image."""
    draw, translate = (POINTWISE | WARPS)[name]
    arg = draw(rng)
    resample = rng.choice([0, 1, 2]) if name in WARPS else 0
    step = (*translate(arg, size), resample)
    options = {"resample": FILTERS[resample], "fillcolor": FILL}
    return step, lambda image: timm_operations.NAME_TO_OP[name](image, *arg, **options)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", sorted(POINTWISE | WARPS))
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
        names = rng.choices(sorted(POINTWISE | WARPS), k=rng.randint(2, 4))
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


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("resample", FILTERS)
@settings(max_examples=60, deadline=None)
@given(
    matrix=st.tuples(*[st.floats(-2, 2), st.floats(-2, 2), st.floats(-60, 60)] * 2),
    width=st.integers(1, 50),
    height=st.integers(1, 50),
)
def test_any_affine_map_gives_pils_bytes(pool, resample, matrix, width, height):
    image = small(data.coffee(), (width, height))
    assert_equal_to_pil(
        pool,
        image,
        [(Operation.AFFINE, matrix, resample)],
        lambda image: transform(image, matrix, resample),
    )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("resample", FILTERS)
@settings(max_examples=30, deadline=None)
@given(
    sixteenths=st.tuples(*[st.integers(-200, 200)] * 2),
    shears=st.tuples(*[st.sampled_from([0, 1 / 8, -3 / 16, 0.15, 1e-12, -2.5])] * 2),
    noise=st.sampled_from([0, 1e-15, -1e-13, 1e-9]),
    step=st.sampled_from([1, 64, 128, 250]),
)
# Coordinates just past a row, where the filter's rows are equal and those that PIL takes are not.
@example(sixteenths=(0, -44), shears=(0, -2.5), noise=1e-15, step=1)
def test_shifts_that_meet_whole_values_give_pils_bytes(
    pool, resample, sixteenths, shears, noise, step
):
    """Near a whole number float32 must not decide: in flat areas, and with short fractions."""
    image = small(data.chelsea(), (60, 44)) // step * step
    across, down = sixteenths[0] / 16 + noise, sixteenths[1] / 16 - noise
    for matrix in [
        (1, 0, across, 0, 1, 0),
        (1, 0, 0, 0, 1, down),
        (1, 0, across, 0, 1, down),
        (1, shears[0], across, 0, 1, 0),
        (1, 0, 0, shears[1], 1, down),
        (1, shears[0], across, shears[1], 1, down),
    ]:
        assert_equal_to_pil(
            pool,
            image,
            [(Operation.AFFINE, matrix, resample)],
            lambda image, matrix=matrix: transform(image, matrix, resample),
        )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0.5, -2e5, 0, 1, 0),  # beyond PIL's fixed-point numbers, and outside
        (3e4, 7, -5e5, 0.25, 1, -3),  # and partly inside
        (1e9, 0, -1e9, 0, 1e9, 0),
        (1, 1e6, -1.7e7, 0, 1, 0),  # large terms that nearly cancel
        (-1, 0, 40, 0, -1, 30),
        (0, 0, 12.3, 0, 0, 4.5),
    ],
)
def test_extreme_maps_give_pils_bytes(matrix, resample, pool, photographs):
    assert_equal_to_pil(
        pool,
        small(photographs[1], (40, 30)),
        [(Operation.AFFINE, matrix, resample)],
        lambda image: transform(image, matrix, resample),
    )


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("degrees", [-720.5, -90, -45, 1e-9, 3, 89.999, 123.4])
def test_rotations_give_image_rotates_bytes(degrees, pool, photographs):
    for size in [(64, 64), (51, 30)]:
        for resample in (1, 2):
            assert_equal_to_pil(
                pool,
                small(photographs[3], size),
                [(Operation.AFFINE, rotation(size, degrees), resample)],
                # Image.rotate copies or transposes at multiples of 90 degrees.
                lambda image, resample=resample: transform(
                    image, rotation(image.size, degrees), resample
                ),
            )
            if degrees % 90 != 0:
                assert_equal_to_pil(
                    pool,
                    small(photographs[3], size),
                    [(Operation.AFFINE, rotation(size, degrees), resample)],
                    lambda image, resample=resample: image.rotate(
                        degrees, FILTERS[resample], fillcolor=FILL
                    ),
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
