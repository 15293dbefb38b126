"""DALI's graph, given what was drawn, makes the reference's pictures, within a stated tolerance."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from nvidia.dali import ops
from PIL import Image

from pipeline.augment.image_draws import ImageAugmentation, image_draws
from pipeline.augment.policies.operations import Filter, Operation
from pipeline.augment.policies.policy import parse_policy
from pipeline.augment.reference_operations import apply_draws
from pipeline.config import InputSpec
from pipeline.loaders.dali_graph import Graph, define, training_plan
from pipeline.loaders.encoded import EncodedBatch

SIZE = 96
COUNT = 60
MEAN = (0.485, 0.456, 0.406)
SPEC = InputSpec(size=SIZE, mean=MEAN, std=MEAN, crop_pct=1.0, interpolation="bicubic")


class Tolerance(NamedTuple):
    """Bounds of the absolute difference, in levels, of each picture."""

    mean: float = 0.0
    p99: float = 0.0
    most: float = 255.0


EXACT = Tolerance(most=0)
AFFINE = {
    Filter.NEAREST: Tolerance(0.5, 8),  # where a coordinate is rounded to the other side
    Filter.BILINEAR: Tolerance(0.5, 1),
    Filter.BICUBIC: Tolerance(1.5, 12),  # a linear filter on an image enlarged by the cubic one
}
OTHERS = {
    Operation.Equalize: Tolerance(0.5, 1, 1),
    Operation.GaussianBlur: Tolerance(1, 4),
    Operation.GaussianBlur23: Tolerance(0.01, 0, 1),
}
RESAMPLED = ("Rotate", "Shear", "Translate")


def tolerance(operations, filters):
    """Of a chain of which at most one operation is not exact."""
    for operation, resample in zip(operations, filters, strict=True):
        if Operation(operation).name.startswith(RESAMPLED):
            return AFFINE[resample]
        if operation in OTHERS:
            return OTHERS[operation]
    return EXACT


@pytest.fixture(scope="module")
def pieces(photographs):
    """(COUNT, SIZE, SIZE, 3) pieces of photographs, the last one of a single colour."""
    rng = np.random.default_rng(0)
    pieces = np.empty((COUNT, SIZE, SIZE, 3), np.uint8)
    for i in range(COUNT):
        photograph = photographs[i % len(photographs)]
        top, left = (int(rng.integers(0, side - SIZE)) for side in photograph.shape[:2])
        pieces[i] = photograph[top : top + SIZE, left : left + SIZE]
    pieces[-1] = (200, 7, 99)
    return pieces


def test_an_image_comes_out_the_same_whatever_else_is_in_its_batch(pieces):
    """Enhancements meet in one branch, with and without a target of the image's own shape."""
    augmentation = augmentation_of({"policy": "tv-n2-m12"})
    draws, pieces = drawn(augmentation), pieces[:24]
    plan = training_plan(SPEC, augmentation, decodes=False, shifts=False)
    pictures = []
    for count in (4, 24):
        parts = [slice(first, first + count) for first in range(0, 24, count)]
        graph = Graph(plan, batch_size=count, threads=2, device=torch.device("cpu"))
        batches = (
            plan.inputs(
                EncodedBatch(np.arange(count), [], SIZE, None, draws.rows(part)), pieces[part]
            )
            for part in parts
        )
        pictures.append(np.concatenate([images.numpy().copy() for images in graph.run(batches)]))
        graph.close()
    np.testing.assert_array_equal(*pictures)
    expected = [
        np.asarray(apply_draws(Image.fromarray(piece), draws, i, augmentation.fill))
        for i, piece in enumerate(pieces)
    ]
    means = np.abs(pictures[0].astype(int) - np.stack(expected)).mean(axis=(1, 2, 3))
    assert means.max() < 1.5


def drawn(augmentation):
    return image_draws(augmentation, seed=1, epoch=2, samples=np.arange(COUNT), size=SIZE)


def differences(pieces, augmentation):
    """(COUNT, SIZE, SIZE, 3) absolute differences between the graph and the reference."""
    plan = training_plan(SPEC, augmentation, decodes=False, shifts=False)
    graph = Graph(plan, batch_size=COUNT, threads=1, device=torch.device("cpu"))
    draws = drawn(augmentation)
    batch = EncodedBatch(np.arange(COUNT), [], SIZE, None, draws)
    (images,) = graph.run(iter([plan.inputs(batch, pieces)]))
    graph.close()
    assert isinstance(images, torch.Tensor), images
    expected = [
        np.asarray(apply_draws(Image.fromarray(piece), draws, i, augmentation.fill))
        for i, piece in enumerate(pieces)
    ]
    return np.abs(images.numpy().astype(int) - np.stack(expected))


AUGMENTATIONS = {
    "RandAugment": {"policy": "rand-m9-mstd3-n1-p1"},
    "RandAugment, increasing": {"policy": "rand-m9-mstd0.5-inc1-n1-p1"},
    "beyond its range": {"policy": "rand-m12-mmax30-n1-p1"},
    "3-Augment": {"policy": "3a"},
    "torchvision's": {"policy": "tv-n1-m12"},
    "jitter and grayscale": {"color_jitter": (0.4, 0.4, 0.4, 0.0), "grayscale": 0.3},
    "hue": {"color_jitter": (0.0, 0.0, 0.0, 0.5)},
    "blur": {"gaussian_blur": 0.9},
}


def augmentation_of(options):
    policy = options.get("policy")
    rest = {name: value for name, value in options.items() if name != "policy"}
    return ImageAugmentation(policy=parse_policy(policy) if policy else None, mean=MEAN, **rest)


@pytest.mark.parametrize("options", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_pictures_are_the_references_within_the_tolerance_of_their_operation(pieces, options):
    augmentation = augmentation_of(options)
    chain = drawn(augmentation).chain
    for i, difference in enumerate(differences(pieces, augmentation)):
        bound = tolerance(chain.operations[i].tolist(), chain.filters[i].tolist())
        got = Tolerance(difference.mean(), np.percentile(difference, 99), difference.max())
        what = [Operation(code).name for code in chain.operations[i]], chain.args[i]
        assert np.all(np.array(got) <= bound), (what, got, bound)


@pytest.mark.parametrize("policy", ["augmix-m5", "augmix-m5-b1-w4-d2"])
def test_mixed_chains_are_the_references_but_for_what_their_operations_differ(pieces, policy):
    augmentation = augmentation_of({"policy": policy})
    means = differences(pieces, augmentation).mean(axis=(1, 2, 3))
    assert means.mean() < 0.5
    assert means.max() < 3


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "3a", "v0", "tv-n2-m12", "augmix-m5"])
def test_what_is_drawn_at_a_place_is_among_what_the_graph_has_there(policy):
    augmentation = augmentation_of(
        {
            "policy": policy,
            "color_jitter": (0.4, 0.4, 0.4, 0.1),
            "grayscale": 0.5,
            "gaussian_blur": 0.5,
        }
    )
    chain = drawn(augmentation).chain
    assert chain.operations.shape[1] == len(augmentation.places)
    # This one's draws replace it by the blur that they draw.
    renamed = {Operation.GaussianBlurRand: Operation.GaussianBlur}
    for codes, place in zip(chain.operations.T, augmentation.places, strict=True):
        known = {renamed.get(operation, operation) for operation in place}
        assert set(codes.tolist()) <= known | {Operation.NONE}


ALL = {
    "color_jitter": (0.4, 0.4, 0.4, 0.1),
    "grayscale": 0.5,
    "gaussian_blur": 0.5,
}


def operators(pipeline):
    """(schema, device) of every operator in the definition of a pipeline."""
    pipeline._build_graph()
    return {(node._op._schema.Name(), node._op.device) for node in pipeline._ops}


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "3a", "augmix-m5", "tv-n2-m12"])
def test_every_operator_of_the_graph_runs_on_a_gpu(decodes, policy):
    """What handles pixels is there on the GPU; what is left on the CPU has a kernel there, too."""
    plan = training_plan(
        SPEC, augmentation_of({"policy": policy, **ALL}), decodes=decodes, shifts=decodes
    )

    def source() -> list[np.ndarray]:
        return []

    known = {"cpu": ops.cpu_ops(), "gpu": ops.gpu_ops(), "mixed": ops.mixed_ops()}
    of_device = {
        device: operators(
            define(plan, source, batch_size=4, threads=1, device=torch.device(device))
        )
        for device in ("cpu", "cuda")
    }
    for schema, device in of_device["cuda"]:
        assert schema in known[device], (schema, device)
    assert {schema for schema, _ in of_device["cpu"]} <= known["gpu"] | known["mixed"]
    on_gpu = {schema for schema, device in of_device["cuda"] if device != "cpu"}
    assert on_gpu >= {"Filter", "CoordTransform", "Cast", "reductions__Sum"}
    assert ("decoders__ImageSlice", "mixed") in of_device["cuda"] or not decodes
