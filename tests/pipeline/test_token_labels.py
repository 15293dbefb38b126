"""Targets of tokens: the authors' numbers, and that maps go where their images' pixels go."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import roi_align

from pipeline.augment.batches import Mixing, mixed_targets
from pipeline.augment.crop_draws import Crops
from pipeline.augment.kernels import Kernel, KernelCalls, kernel_calls
from pipeline.augment.policies.operations import Filter, Operation, OperationDraws
from pipeline.augment.reference_operations import apply_operation
from pipeline.augment.token_labels import (
    LabelMaps,
    TokenTargets,
    Views,
    map_targets,
    mixed,
    token_samples,
)
from tests.support.authors_weights import DATA

VECTORS = dict(np.load(DATA / "token_label.npz"))
CPU = torch.device("cpu")
UNITS = 10**6
"""Pixels of a side of the vectors' images, whose boxes are shares of it."""
# The authors hold boxes in float32.
ATOL = 2e-6


def no_calls(count):
    shape = (count, 0)
    return KernelCalls(np.empty(shape, np.uint8), np.empty((*shape, 6)), np.empty(shape, np.uint8))


def views(boxes, *, side=UNITS, flips=None, vertical_flips=None, shifts=None, calls=None, size=64):
    boxes = np.asarray(boxes, np.int64)
    count = len(boxes)
    off = np.zeros(count, np.bool_)
    crops = Crops(
        boxes=boxes,
        flips=off if flips is None else np.asarray(flips),
        bicubic=off,
        vertical_flips=off if vertical_flips is None else np.asarray(vertical_flips),
        shifts=np.zeros((count, 2), np.int64) if shifts is None else np.asarray(shifts),
    )
    sides = np.full(count, side)
    calls = no_calls(count) if calls is None else calls
    return Views(crops=crops, widths=sides, heights=sides, calls=calls, size=size)


def authors_maps():
    logits, classes = VECTORS["topk"].transpose(1, 0, 2, 3, 4)
    return LabelMaps(classes.astype(np.int64), logits.astype(np.float64))


def targets(maps, seen, tokens, *, exchange_xy=False, num_classes=12, smoothing=0.1):
    grid = (tokens, tokens) if isinstance(tokens, int) else tokens
    samples = token_samples(seen, grid=grid, places=maps.classes.shape[2:], exchange_xy=exchange_xy)
    return map_targets(maps, samples, num_classes=num_classes, smoothing=smoothing, device=CPU)


def vector_columns(name):
    """Targets of labels, images and tokens."""
    columns = torch.from_numpy(VECTORS[name]).transpose(1, 2)
    return columns[:, 0], columns[:, 1], columns[:, 2:]


def authors_views():
    return views(np.rint(VECTORS["crop_tlhw"] * UNITS))


@pytest.mark.parametrize(
    ("name", "tokens", "exchange_xy"),
    [
        ("target_t7", 7, True),
        ("target_t14", 14, True),
        ("target_t1", 1, True),
        ("target_t14_fixed", 14, False),
        ("target_t1_fixed", 1, False),
    ],
)
def test_targets_are_the_authors_and_repaired_ones(name, tokens, exchange_xy):
    maps, seen = authors_maps(), authors_views()
    columns = [targets(maps, seen, n, exchange_xy=exchange_xy) for n in dict.fromkeys((1, tokens))]
    found = torch.cat(columns, dim=1).transpose(1, 2)
    expected = torch.from_numpy(VECTORS[name])[:, :, 1:]
    torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)


def test_targets_of_mixed_images_are_the_authors():
    found = TokenTargets(*vector_columns("target_t14"))
    partners, weights = torch.arange(3, -1, -1), torch.tensor([0.7], dtype=torch.float64)
    nowhere = torch.zeros(1, 4, dtype=torch.int64)
    mixing = Mixing(partners, weights, boxes=nowhere, is_cutmix=torch.tensor([False]))
    labels = mixed_targets(found.labels, partners, weights)
    made = mixed(found._replace(labels=labels), mixing)
    for mine, theirs in zip(made, vector_columns("target_t14_mixup0.7"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.fixture
def maps():
    """Maps of 5 x 7 places with 3 of 6 classes."""
    rng = np.random.default_rng(3)
    classes = rng.permuted(np.tile(np.arange(6), (4, 5, 7, 1)), axis=3)[..., :3]
    return LabelMaps(classes.transpose(0, 3, 1, 2), rng.normal(0, 3, (4, 3, 5, 7)))


def dense(maps):
    """(B, 6, H, W)."""
    logits = torch.zeros(4, 6, 5, 7, dtype=torch.float64)
    return logits.scatter_(
        1, torch.from_numpy(maps.classes.astype(np.int64)), torch.from_numpy(maps.logits)
    )


BOXES = [(0, 0, 800, 800), (30, 400, 310, 400), (700, 10, 90, 70), (100, 5, 700, 333)]


def aligned(logits, boxes, tokens):
    """torchvision's RoIAlign of (top, left, height, width) boxes of images of 800 x 800."""
    rows = []
    for number, (top, left, height, width) in enumerate(np.asarray(boxes, np.float64)):
        y, x = 5 / 800, 7 / 800
        rows.append([number, left * x, top * y, (left + width) * x, (top + height) * y])
    rois = torch.tensor(rows, dtype=torch.float64)
    rois[:, 1:] -= 0.5
    sampled = roi_align(logits, rois, tokens)  # not `aligned`: the half is in the boxes
    return sampled.flatten(2).transpose(1, 2).softmax(2)


def test_samples_are_torchvision_s_of_maps_that_are_not_square(maps):
    found = targets(maps, views(BOXES, side=800), (3, 4), num_classes=6, smoothing=0)
    torch.testing.assert_close(found, aligned(dense(maps), BOXES, (3, 4)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("exchange_xy", [False, True])
def test_flipped_images_have_the_flipped_targets_of_the_same_part(maps, exchange_xy):
    """As flipping image and map first, and cutting then."""
    flips, upside_down = np.array([True, False, True, False]), np.array([True, True, False, False])
    boxes, logits = np.array(BOXES), dense(maps)
    seen = views(boxes.copy(), side=800, flips=flips, vertical_flips=upside_down)
    for image in range(4):
        top, left, height, width = boxes[image]
        if flips[image]:
            logits[image], left = logits[image].flip(2), 800 - left - width
        if upside_down[image]:
            logits[image], top = logits[image].flip(1), 800 - top - height
        box = (top, left, height, width)
        boxes[image] = (left, top, width, height) if exchange_xy else box
    found = targets(maps, seen, (3, 4), exchange_xy=exchange_xy, num_classes=6, smoothing=0)
    torch.testing.assert_close(found, aligned(logits, boxes, (3, 4)), rtol=0, atol=1e-12)


def test_targets_of_an_image_do_not_depend_on_its_batch(maps):
    together = targets(maps, views(BOXES, side=800), 4, num_classes=6)
    for image in range(4):
        one = LabelMaps(maps.classes[image : image + 1], maps.logits[image : image + 1])
        alone = targets(one, views(BOXES[image : image + 1], side=800), 4, num_classes=6)
        torch.testing.assert_close(alone[0], together[image], rtol=0, atol=1e-15)


def drawn(operation, arg, size):
    draws = OperationDraws(
        np.array([[operation]], np.uint8), np.array([[arg]]), np.array([[Filter.NEAREST]], np.uint8)
    )
    return kernel_calls(draws, size)


def one_class_map(side):
    """Each place of the map is sure of a class of its own, so that targets tell the place."""
    classes = np.arange(side * side).reshape(1, 1, side, side)
    return LabelMaps(classes, np.full((1, 1, side, side), 50.0))


@pytest.mark.parametrize(
    ("operation", "arg"),
    [
        (Operation.Rotate, 90.0),
        (Operation.Rotate, -90.0),
        (Operation.TranslateXRel, 0.25),
        (Operation.TranslateYRel, -0.5),
        (Operation.TranslateX, 16.0),
        (Operation.NONE, np.nan),
        (Operation.Invert, np.nan),
    ],
)
def test_maps_move_as_pixels_do(operation, arg):
    """A picture whose squares have the numbers of the map's places shows what each token sees."""
    side, size = 4, 64
    numbers = np.arange(side * side, dtype=np.uint8).reshape(side, side) + 1
    picture = numbers.repeat(size // side, 0).repeat(size // side, 1)
    image = Image.fromarray(picture).convert("RGB")
    if operation not in (Operation.NONE, Operation.Invert):
        image = apply_operation(image, operation, arg, Filter.NEAREST, (0, 0, 0))
    seen = np.asarray(image)[8::16, 8::16, 0].reshape(-1).astype(int) - 1
    view = views([(0, 0, 64, 64)], side=64, calls=drawn(operation, arg, size), size=size)
    found = targets(one_class_map(side), view, side, num_classes=16, smoothing=0)[0]
    best, label = found.max(dim=1)
    for token, place in enumerate(seen.tolist()):
        if place < 0:  # from outside: nothing is known
            torch.testing.assert_close(found[token], torch.full((16,), 1 / 16).double())
        else:
            assert label[token] == place, token
            assert best[token] > 0.99


def test_operations_are_undone_from_the_last_to_the_first():
    turn, shift = drawn(Operation.Rotate, 90.0, 64), drawn(Operation.TranslateX, 16.0, 64)
    calls = KernelCalls(*(np.concatenate(parts, axis=1) for parts in zip(turn, shift, strict=True)))
    assert calls.codes.tolist() == [[Kernel.AFFINE, Kernel.AFFINE]]
    view = views([(0, 0, 64, 64)], side=64, calls=calls)
    found = targets(one_class_map(4), view, 4, num_classes=16, smoothing=0)[0]
    turned = np.rot90(np.arange(16).reshape(4, 4))
    expected = turned[:, 1:].reshape(-1).tolist()  # timm's TranslateX takes from the right
    inside = found.unflatten(0, (4, 4))[:, :3].flatten(0, 1)
    assert inside.argmax(1).tolist() == expected
    assert (found.unflatten(0, (4, 4))[:, 3] < 0.07).all()


def test_padded_crops_know_nothing_of_what_is_black():
    view = views([(0, 0, 64, 64)], side=64, shifts=[(16, -32)])
    found = targets(one_class_map(4), view, 4, num_classes=16, smoothing=0)[0].unflatten(0, (4, 4))
    assert found[:3, 2:].argmax(2).tolist() == [[4, 5], [8, 9], [12, 13]]
    assert (found[3] < 0.07).all()
    assert (found[:, :2] < 0.07).all()
