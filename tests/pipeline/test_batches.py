"""The batch transform against timm given the same draws."""

import itertools
from dataclasses import replace

import pytest
import scipy.stats
import timm.data.mixup
import torch

from pipeline.augment.batches import BatchTransform
from pipeline.augment.config import AugmentConfig, ResolutionConfig
from pipeline.augment.erase_draws import erase_boxes, erase_colors
from pipeline.augment.mix_draws import mixes
from pipeline.batch import Batch
from pipeline.config import InputSpec

SIZE = 32
SPEC = InputSpec(
    size=SIZE,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop_pct=1.0,
    interpolation="bilinear",
)
NUM_CLASSES = 7
SEED, EPOCH = 3, 5


def make_batch(count=8, first=0):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, NUM_CLASSES, (64,), generator=generator)
    samples = torch.randperm(1000, generator=generator)[:64]
    chosen = slice(first, first + count)
    return Batch(images[chosen].permute(0, 3, 1, 2), labels[chosen], samples[chosen])


def transform(**augment):
    return BatchTransform(AugmentConfig(**augment), spec=SPEC, num_classes=NUM_CLASSES, seed=SEED)


def normalized(batch):
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (SPEC.mean, SPEC.std))
    return (batch.images / 255 - mean) / std


def test_images_are_normalised_as_torchvision_does():
    batch = make_batch()
    images = transform().evaluate(batch)
    # Two roundings more or less in float32, of values up to 3.
    torch.testing.assert_close(images, normalized(batch), rtol=0, atol=1e-6)
    assert torch.equal(transform().train(batch, EPOCH)[0], images)


@pytest.mark.parametrize(
    "augment",
    [
        {},
        {"erase": 0.5},
        {"erase": 0.5, "erase_mode": "rand", "erase_max_count": 3},
        {"mixup": 0.8},
        {"cutmix": 1.0, "mix_mode": "batch"},
        {"mixup": 0.8, "cutmix": 1.0, "mix_mode": "elem"},
    ],
)
def test_images_are_channels_last(augment):
    images, _ = transform(**augment).train(make_batch(), EPOCH)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.float32


def test_images_come_in_the_asked_precision():
    config = AugmentConfig(erase=0.5, mixup=0.8)
    half = BatchTransform(
        config, spec=SPEC, num_classes=NUM_CLASSES, seed=SEED, dtype=torch.bfloat16
    )
    images, targets = half.train(make_batch(), EPOCH)
    full, _ = transform(erase=0.5, mixup=0.8).train(make_batch(), EPOCH)
    assert torch.equal(images, full.bfloat16())
    assert targets.dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_unmixed_targets_are_timms(smoothing):
    batch = make_batch()
    _, targets = transform(smoothing=smoothing).train(batch, EPOCH)
    expected = timm.data.mixup.mixup_target(batch.labels, NUM_CLASSES, 1.0, smoothing)
    assert torch.equal(targets, expected)


class TimmWithOurDraws(timm.data.mixup.Mixup):
    """timm's Mixup that takes its parameters from our draws."""

    def __init__(self, config, samples, **options):
        alpha = config.mixup or config.cutmix
        key = {"seed": SEED, "epoch": EPOCH, "samples": samples, "size": SIZE}
        self.drawn = mixes(config, **key)
        self.uncut = mixes(AugmentConfig(mixup=alpha), **key).weights
        super().__init__(num_classes=NUM_CLASSES, label_smoothing=config.smoothing, **options)

    def _params_per_elem(self, batch_size):
        return self.uncut.copy(), self.drawn.is_cutmix

    def _params_per_batch(self):
        return float(self.uncut[0]), bool(self.drawn.is_cutmix[0])


@pytest.fixture
def boxes_as_drawn(monkeypatch):
    """Makes timm paste the boxes that we drew, in turn."""

    def use(mixup):
        pasted = iter(mixup.drawn.boxes[mixup.drawn.is_cutmix])

        def bbox_and_lam(shape, lam, **_):
            top, left, height, width = next(pasted)
            return (top, top + height, left, left + width), 1 - height * width / SIZE**2

        monkeypatch.setattr(timm.data.mixup, "cutmix_bbox_and_lam", bbox_and_lam)

    return use


MIXES = [{"mixup": 0.8}, {"cutmix": 0.8}, {"mixup": 0.8, "cutmix": 0.8}]


@pytest.mark.parametrize("augment", MIXES)
def test_pairs_are_mixed_as_by_timm(augment, boxes_as_drawn):
    batch = make_batch(16)
    config = AugmentConfig(smoothing=0.1, **augment)
    images, targets = transform(smoothing=0.1, **augment).train(batch, EPOCH)
    # timm's partners are mirrored about the middle of the batch, ours are neighbours.
    mirrored = torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2).flip(0)])
    mixup = TimmWithOurDraws(config, batch.samples[::2].numpy(), mode="pair")
    boxes_as_drawn(mixup)
    expected = mixup(normalized(batch)[mirrored], batch.labels[mirrored])
    torch.testing.assert_close(images[mirrored], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(targets[mirrored], expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("augment", MIXES)
def test_elements_are_mixed_as_by_timm(augment, boxes_as_drawn):
    batch = make_batch(16)
    config = AugmentConfig(smoothing=0.1, mix_mode="elem", **augment)
    images, targets = transform(smoothing=0.1, mix_mode="elem", **augment).train(batch, EPOCH)
    # timm's partners are mirrored about the middle of the batch, ours are neighbours.
    mirrored = torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2).flip(0)])
    mixup = TimmWithOurDraws(config, batch.samples[mirrored].numpy(), mode="elem")
    boxes_as_drawn(mixup)
    expected = mixup(normalized(batch)[mirrored], batch.labels[mirrored])
    torch.testing.assert_close(images[mirrored], expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(targets[mirrored], expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("augment", MIXES)
def test_batches_are_mixed_as_by_timm(augment, boxes_as_drawn):
    for first in range(8):
        batch = make_batch(7, first)
        config = AugmentConfig(smoothing=0.1, mix_mode="batch", **augment)
        options = {"smoothing": 0.1, "mix_mode": "batch", **augment}
        images, targets = transform(**options).train(batch, EPOCH)
        mixup = TimmWithOurDraws(config, batch.samples[:1].numpy(), mode="batch")
        boxes_as_drawn(mixup)
        mixed = normalized(batch)
        weight = mixup._mix_batch(mixed)
        expected = timm.data.mixup.mixup_target(batch.labels, NUM_CLASSES, weight, 0.1)
        torch.testing.assert_close(images, mixed, rtol=0, atol=1e-6)
        torch.testing.assert_close(targets, expected, rtol=0, atol=1e-6)


def test_cutmix_copies_pixels_exactly():
    batch = make_batch(16)
    images, _ = transform(cutmix=1.0).train(batch, EPOCH)
    own = transform().evaluate(batch)
    partner = own[torch.arange(16) ^ 1]
    assert torch.all((images == own) | (images == partner))
    assert not torch.equal(images, own)


def test_targets_sum_to_one():
    _, targets = transform(smoothing=0.1, mixup=0.8, cutmix=1.0).train(make_batch(32), EPOCH)
    torch.testing.assert_close(targets.sum(1), torch.ones(32))


def test_erased_boxes_hold_noise_and_the_rest_is_untouched():
    batch = make_batch(64)
    images, _ = transform(erase=0.5).train(batch, EPOCH)
    key = {"seed": SEED, "epoch": EPOCH, "samples": batch.samples.numpy()}
    boxes = erase_boxes(AugmentConfig(erase=0.5), **key, size=SIZE)[:, 0]
    inside = torch.zeros(64, 3, SIZE, SIZE, dtype=torch.bool)
    for mask, (top, left, height, width) in zip(inside, boxes, strict=True):
        mask[:, top : top + height, left : left + width] = True
    own = transform().evaluate(batch)
    assert torch.equal(images == own, ~inside)
    assert scipy.stats.kstest(images[inside].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_a_gpu_erases_as_a_cpu_does(mode, monkeypatch):
    """Its form runs on a CPU too: for all images at once."""
    options = {"erase": 0.7, "erase_mode": mode, "erase_max_count": 3}
    on_cpu, _ = transform(**options).train(make_batch(64), EPOCH)
    monkeypatch.setattr(BatchTransform, "_erase_one_by_one", BatchTransform._erase_at_once)
    on_gpu, _ = transform(**options).train(make_batch(64), EPOCH)
    assert torch.equal(on_cpu, on_gpu)
    assert not torch.equal(on_cpu, transform().evaluate(make_batch(64)))


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_several_boxes_are_erased_one_over_the_other(mode):
    batch = make_batch(64)
    options = {"erase": 0.7, "erase_mode": mode, "erase_min_count": 2, "erase_max_count": 5}
    images, _ = transform(**options).train(batch, EPOCH)
    key = {"seed": SEED, "epoch": EPOCH, "samples": batch.samples.numpy()}
    boxes = erase_boxes(AugmentConfig(**options), **key, size=SIZE)
    colors = torch.from_numpy(erase_colors(**key, boxes=5))
    expected, last = transform().evaluate(batch), torch.full((64, SIZE, SIZE), -1)
    for number in range(5):
        for i, (top, left, height, width) in enumerate(boxes[:, number]):
            last[i, top : top + height, left : left + width] = number
    for i, number in itertools.product(range(64), range(5)):
        place = last[i] == number
        if mode == "pixel":
            noise = images[i][:, place]
            expected[i][:, place] = noise
            assert noise.numel() < 300 or noise.std() == pytest.approx(1, abs=0.2)
        else:
            color = colors[i, number] if mode == "rand" else torch.zeros(3)
            expected[i][:, place] = color[:, None]
    assert torch.equal(images, expected)
    assert (boxes[..., 2] > 0).sum(axis=1).max() == 5


def test_mixing_ends_with_its_last_epoch():
    options = {"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}
    batch, unmixed = make_batch(), transform(smoothing=0.1).train(make_batch(), EPOCH)
    for off, mixed in ((EPOCH + 1, True), (EPOCH, False), (EPOCH - 1, False), (0, True)):
        got = transform(**options, mix_off_epoch=off).train(batch, EPOCH)
        assert torch.equal(got[0], unmixed[0]) != mixed
        assert torch.equal(got[1], unmixed[1]) != mixed


def test_batches_of_another_size_are_augmented_at_that_size():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (8, 64, 64, 3), generator=generator, dtype=torch.uint8)
    batch = Batch(images.permute(0, 3, 1, 2), torch.arange(8) % NUM_CLASSES, torch.arange(8))
    ramp = ResolutionConfig(min_res=32, max_res=64, start_ramp=1, end_ramp=4)
    options = {"erase": 0.9, "cutmix": 1.0}
    got, _ = transform(resolution=ramp, **options).train(batch, EPOCH)
    spec = replace(SPEC, size=64)
    native = BatchTransform(AugmentConfig(**options), spec=spec, num_classes=NUM_CLASSES, seed=SEED)
    assert torch.equal(got, native.train(batch, EPOCH)[0])
    small, _ = transform(resolution=ramp, **options).train(make_batch(), EPOCH)
    assert small.shape == (8, 3, SIZE, SIZE)


def test_noise_differs_between_samples_and_epochs():
    images = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    batch = Batch(images, torch.zeros(2, dtype=torch.int64), torch.tensor([4, 9]))
    always = transform(erase=1.0)
    first, second = (always.train(batch, epoch)[0].flatten() for epoch in (0, 1))
    background = transform().evaluate(batch).flatten()
    noise = first[first != background]
    assert len(set(noise.tolist())) > 0.99 * len(noise)
    assert not set(noise.tolist()) & set(second[second != background].tolist())


@pytest.mark.parametrize(
    "augment",
    [
        {"erase": 0.5},
        {"mixup": 0.8, "cutmix": 1.0, "erase": 0.3, "erase_max_count": 3, "erase_mode": "rand"},
        {"mixup": 0.8, "cutmix": 1.0, "mix_mode": "elem", "mix_prob": 0.7},
    ],
)
def test_a_split_batch_gets_the_same_pixels(augment):
    whole = transform(**augment).train(make_batch(8), EPOCH)
    halves = [transform(**augment).train(make_batch(4, first), EPOCH) for first in (0, 4)]
    for i in range(2):
        assert torch.equal(whole[i], torch.cat([half[i] for half in halves]))


def test_nothing_is_drawn_from_global_state_and_the_batch_is_left_alone():
    options = {"erase": 0.5, "mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}
    batch = make_batch()
    state = torch.get_rng_state()
    first = transform(**options).train(batch, EPOCH)
    second = transform(**options).train(batch, EPOCH)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch.images, make_batch().images)


def test_a_batch_of_floats_is_left_alone():
    batch = make_batch()
    floats = Batch(batch.images.float(), batch.labels, batch.samples)
    assert torch.equal(transform().evaluate(floats), transform().evaluate(batch))
    assert torch.equal(floats.images, batch.images.float())


@pytest.mark.parametrize("mode", ["pair", "elem"])
def test_mixing_neighbours_refuses_an_odd_batch(mode):
    with pytest.raises(ValueError, match="even number of images per batch, got 7"):
        transform(mixup=0.8, mix_mode=mode).train(make_batch(7), EPOCH)
