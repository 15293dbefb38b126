"""The compiled affine maps against Image.transform: any, and those where a filter could err."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage import data

from tests.native.pil_operations import (
    FILL,
    FILTERS,
    Operation,
    assert_equal_to_pil,
    assert_warped_as_by_pil,
    rotation,
    small,
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
    assert_warped_as_by_pil(pool, image, matrix, resample)


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
        assert_warped_as_by_pil(pool, image, matrix, resample)


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
    assert_warped_as_by_pil(pool, small(photographs[1], (40, 30)), matrix, resample)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("degrees", [-720.5, -90, -45, 1e-9, 3, 89.999, 123.4])
def test_rotations_give_image_rotates_bytes(degrees, pool, photographs):
    for size, resample in itertools.product([(64, 64), (51, 30)], [1, 2]):
        image, matrix = small(photographs[3], size), rotation(size, degrees)
        assert_warped_as_by_pil(pool, image, matrix, resample)
        if degrees % 90 != 0:  # where Image.rotate copies or transposes
            assert_equal_to_pil(
                pool,
                image,
                [(Operation.AFFINE, matrix, resample)],
                lambda image, resample=resample: image.rotate(
                    degrees, FILTERS[resample], fillcolor=FILL
                ),
            )
