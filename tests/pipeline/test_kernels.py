"""The native kernels, called with what was drawn, make the reference's pictures to the bit."""

import numpy as np
import pytest
from PIL import Image

from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.augment.kernels import Kernel, kernel_calls
from pipeline.augment.policies.policy import parse_policy
from pipeline.augment.reference_operations import apply_draws

millstream_native = pytest.importorskip("millstream_native")

SIZE = 96
COUNT = 60


def test_kernels_have_the_numbers_of_the_native_ones():
    native = {operation.name: operation.value for operation in millstream_native.Operation}
    assert native.items() <= {kernel.name: kernel.value for kernel in Kernel}.items()


@pytest.fixture(scope="module")
def pieces(photographs):
    """(COUNT, SIZE, SIZE, 3) pieces of photographs."""
    rng = np.random.default_rng(0)
    pieces = np.empty((COUNT, SIZE, SIZE, 3), np.uint8)
    for i in range(COUNT):
        photograph = photographs[i % len(photographs)]
        top, left = (int(rng.integers(0, side - SIZE)) for side in photograph.shape[:2])
        pieces[i] = photograph[top : top + SIZE, left : left + SIZE]
    return pieces


POLICIES = (
    "rand-m9-mstd0.5-inc1",
    "rand-m12-mmax30-n4-p1",
    "rand-n5-mstd1-tweights",
    "3a",
    "original",
    "v0",
    "v0r-mstd2",
    "tv-n3-m12",
    "tv-n2-m30",
)


@pytest.mark.parametrize("text", POLICIES)
def test_native_pictures_are_the_references(pieces, text):
    augmentation = ImageAugmentation(
        policy=parse_policy(text),
        color_jitter=(0.4, 0.4, 0.4, 0.1),
        grayscale=0.1,
        mean=(0.485, 0.456, 0.406),
    )
    draws = image_draws(augmentation, seed=1, epoch=2, samples=np.arange(COUNT), size=SIZE)
    images = pieces.copy()
    pool = millstream_native.Pool(2)
    fill = np.array(augmentation.fill, np.uint8)
    millstream_native.apply_operations(pool, images, *kernel_calls(draws.chain, SIZE), fill)
    pool.close()
    for i, (piece, image) in enumerate(zip(pieces, images, strict=True)):
        expected = apply_draws(Image.fromarray(piece), draws, i, augmentation.fill)
        np.testing.assert_array_equal(image, np.asarray(expected), str(draws.chain.operations[i]))
