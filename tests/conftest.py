"""Pictures for all tests: an ImageNet-style folder, made once for each run; read-only."""

import os

# Before anything imports torch: spinning threads slow each other down on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before anything imports gcsfs: it would ask over gRPC, which the test's server does not speak,
# what kind a bucket is.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_sample_images

from tests.support.forks import Forks
from tests.support.pictures import SPLIT_SIZES, write_image_folder


@pytest.fixture(scope="session")
def photographs():
    """Real photographs, (H, W, 3) uint8, that ship inside the wheels of skimage and sklearn."""
    from_skimage = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)
    return [load().astype(np.uint8) for load in (*from_skimage, skimage.data.rocket)] + [
        np.asarray(image, np.uint8) for image in load_sample_images().images
    ]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory, photographs):
    """A folder with train/ (62 images) and val/ (22) of five classes. Read-only."""
    root = tmp_path_factory.mktemp("images") / "imagenet"
    return write_image_folder(root, photographs, SPLIT_SIZES)


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Starts programs of ours as forks of one process that has imported all libraries."""
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()
