"""Every loader keeps every clause of `pipeline.batch.Loader`, over every format."""

import gc
import io
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from pipeline.augment.config import AugmentConfig, ResolutionConfig
from pipeline.batch import IGNORE_LABEL, Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_source
from pipeline.formats.source import Sample
from pipeline.loaders.build import build_loader
from pipeline.order import NO_SAMPLE, epoch_order
from tools import make_shards

SEED = 11
COUNT = 27
CLASSES = ("n01440764", "n02102040", "n03888257")
SPEC = InputSpec(
    size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop_pct=0.8, interpolation="bicubic"
)
DATA = DataConfig(threads=2, crop=CropConfig(interpolation="random"))
LOADERS = ("host", "dali", "reference")
DECODERS = {name: replace(DATA, loader=name) for name in reversed(LOADERS)}
DECODERS["dali, host decodes"] = replace(DATA, loader="dali", decode="cpu")
AUGMENT = AugmentConfig(
    auto_augment="rand-m9-mstd0.5-inc1-n1", color_jitter=0.3, force_color_jitter=True
)
"""What the contract is tested with."""
PLAIN = AugmentConfig()
ORDER = epoch_order([COUNT], seed=SEED, epoch=0, window=0).tolist()

# Both resample with the same filter at the same places. PIL rounds to 8 bits between its vertical
# and its horizontal pass, cuts the bicubic's overshoot off there, and leaves out at the border what
# DALI repeats; so most pixels are equal, some differ by 1, few by more.
MEAN_DIFFERENCE = 0.5
MAX_DIFFERENCE = 24


class MemorySource:
    """Samples in memory; records which are read."""

    def __init__(self, samples, shard_sizes=(COUNT,), classes=CLASSES):
        self.samples = list(samples)
        self.classes = classes
        self.labels = np.array([sample.label for sample in samples])
        self.shard_sizes = shard_sizes
        self.storage_order = np.random.default_rng(5).permutation(len(self.samples))
        self.reads = []
        self._lock = threading.Lock()

    def __len__(self):
        return len(self.samples)

    def read_many(self, indices):
        with self._lock:
            self.reads += [int(index) for index in indices]
        for index in indices:
            if self.samples[index] is None:
                raise DataError(f"{self.describe(index)}: lost")
        return [self.samples[index] for index in indices]

    def key(self, index):
        return f"key {index}"

    def describe(self, index):
        return f"memory, place {index}"


def photograph(number):
    """A piece of a photograph, at least 40 pixels wide and high; one in nine is gray."""
    rng = np.random.default_rng(number)
    whole = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)[number % 3]()
    height, width = rng.integers(40, 140, 2)
    top = rng.integers(0, whole.shape[0] - height)
    left = rng.integers(0, whole.shape[1] - width)
    image = Image.fromarray(whole[top : top + height, left : left + width])
    return image.convert("L") if number % 9 == 4 else image


def encoded(image, file_format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_folder(root):
    for number in range(COUNT):
        folder = root / CLASSES[number * 3 // COUNT]
        folder.mkdir(parents=True, exist_ok=True)
        # Kaggle's and the official ImageNet hold PNGs named .JPEG.
        file_format = "PNG" if number % 9 == 7 else "JPEG"
        name = f"{folder.name}_{number}.JPEG"
        (folder / name).write_bytes(encoded(photograph(number), file_format))
    return root


@pytest.fixture(scope="session")
def whole_folder(tmp_path_factory):
    """A split as a folder of class folders."""
    return write_folder(tmp_path_factory.mktemp("images") / "train")


def open_folder(folder, _):
    return open_source(folder)


def open_shards(folder, scratch):
    arguments = [str(folder.parent), "--output", str(scratch), "--split", "train"]
    assert make_shards.main(arguments) == 0
    return open_source(scratch / "train")


def open_ffcv(folder, scratch):
    arguments = [str(folder.parent), "--output", str(scratch), "--split", "train"]
    assert make_shards.main([*arguments, "--format", "ffcv"]) == 0
    return open_source(scratch / "train")


def open_raw_ffcv(folder, scratch):
    arguments = [str(folder.parent), "--output", str(scratch), "--split", "train"]
    assert make_shards.main([*arguments, "--format", "ffcv", "--write-mode", "raw"]) == 0
    return open_source(scratch / "train")


def open_memory(folder, _):
    source = open_source(folder)
    return MemorySource(source.read_many(range(len(source))))


FORMATS = {
    "folder": open_folder,
    "shards": open_shards,
    "beton": open_ffcv,
    "raw beton": open_raw_ffcv,
    "memory": open_memory,
}


@pytest.fixture(scope="session", params=FORMATS)
def source(request, whole_folder, tmp_path_factory):
    return FORMATS[request.param](whole_folder, tmp_path_factory.mktemp(request.param))


@pytest.fixture(params=LOADERS)
def data(request):
    return replace(DATA, loader=request.param)


@pytest.fixture(params=DECODERS)
def any_data(request):
    return DECODERS[request.param]


@dataclass
class Got:
    """A batch that was copied before the next one was asked for."""

    images: torch.Tensor
    labels: list[int]
    samples: list[int]


@pytest.fixture
def build():
    """Builds loaders and closes them at the end of the test."""
    loaders = []

    def build(source, data, *, world=(0, 1), batch_size=4, accumulation=1, training=True, **more):
        loader = build_loader(
            source,
            data=data,
            augment=more.pop("augment", AUGMENT),
            spec=more.pop("spec", SPEC),
            batch_size=batch_size,
            accumulation=accumulation,
            placement=Placement(rank=world[0], world_size=world[1]),
            seed=SEED,
            training=training,
            **more,
        )
        loaders.append(loader)
        return loader

    yield build
    for loader in loaders:
        loader.close()


def take(batches, count=None):
    """Copies of the next `count` batches, or of all that are left."""
    got = []
    while count is None or len(got) < count:
        batch = next(batches, None)
        if batch is None:
            break
        got.append(Got(batch.images.clone(), batch.labels.tolist(), batch.samples.tolist()))
    return got


def by_sample(batches):
    """Pixels of each sample; fails if a sample comes twice."""
    pixels = {}
    for batch in batches:
        for sample, image in zip(batch.samples, batch.images, strict=True):
            if sample != NO_SAMPLE:
                assert sample not in pixels
                pixels[sample] = image
    return pixels


def assert_same(first, second):
    assert [batch.samples for batch in first] == [batch.samples for batch in second]
    assert [batch.labels for batch in first] == [batch.labels for batch in second]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)


# 1. Order


def test_samples_come_in_the_order_of_the_epoch(source, data, build):
    loader = build(source, data)
    for epoch in (0, 3):
        order = epoch_order([COUNT], seed=SEED, epoch=epoch, window=0)
        batches = take(loader.batches(epoch))
        assert [batch.samples for batch in batches] == order[:24].reshape(6, 4).tolist()


@pytest.mark.parametrize("training", [True, False])
def test_a_resumed_epoch_continues_with_the_same_pixels(source, data, build, training):
    whole = take(build(source, data, training=training).batches(2))
    for start in (0, 3, len(whole)):
        rest = take(build(source, data, training=training).batches(2, start))
        assert_same(rest, whole[start:])


def test_an_epoch_can_be_left_and_begun_again(source, any_data, build):
    loader = build(source, any_data)
    whole = take(loader.batches(1))
    for taken in (0, 1, 4):
        left = loader.batches(1)
        assert_same(take(left, taken), whole[:taken])
        assert_same(take(loader.batches(1, taken)), whole[taken:])


def test_epochs_differ_in_order_and_in_crops(source, data, build):
    loader = build(source, data)
    first, second = (take(loader.batches(epoch)) for epoch in (0, 1))
    assert [batch.samples for batch in first] != [batch.samples for batch in second]
    one, other = by_sample(first), by_sample(second)
    assert not any(torch.equal(one[sample], other[sample]) for sample in one.keys() & other.keys())


def test_evaluation_is_the_same_in_every_epoch(source, data, build):
    loader = build(source, data, training=False)
    assert_same(take(loader.batches(0)), take(loader.batches(7)))


def test_pixels_do_not_depend_on_threads_or_batch_size(source, any_data, build):
    expected = by_sample(take(build(source, replace(any_data, threads=1), batch_size=3).batches(4)))
    got = by_sample(take(build(source, replace(any_data, threads=3), batch_size=9).batches(4)))
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[sample], got[sample]) for sample in got)


def test_a_start_outside_the_epoch_is_refused(source, data, build):
    loader = build(source, data)
    with pytest.raises(ValueError, match=r"start must be in \[0, 6\]"):
        loader.batches(0, 7)


# 2. Elasticity


def test_a_step_is_the_same_for_every_split_of_its_batch(source, data, build):
    def steps(world_size, accumulation):
        ranks = [
            take(
                build(
                    source, data, world=(rank, world_size), accumulation=accumulation, batch_size=2
                ).batches(5)
            )
            for rank in range(world_size)
        ]
        count = len(ranks[0]) // accumulation
        return [
            by_sample(
                batch
                for batches in ranks
                for batch in batches[step * accumulation : (step + 1) * accumulation]
            )
            for step in range(count)
        ]

    expected = steps(1, 4)
    assert [len(step) for step in expected] == [8, 8, 8]
    for split in ((2, 2), (4, 1)):
        for one, other in zip(expected, steps(*split), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[sample], other[sample]) for sample in one)


# 3. Length and 4. coverage


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_yield_equally_many_batches_and_never_share_a_sample(source, data, build, world_size):
    loaders = [build(source, data, world=(rank, world_size)) for rank in range(world_size)]
    ranks = [take(loader.batches(0)) for loader in loaders]
    assert {len(batches) for batches in ranks} == {COUNT // (4 * world_size)}
    assert {loader.batches_per_epoch for loader in loaders} == {COUNT // (4 * world_size)}
    by_sample(batch for batches in ranks for batch in batches)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_covers_each_sample_once_in_batches_of_one_shape(
    source, data, build, world_size
):
    ranks = []
    for rank in range(world_size):
        loader = build(source, data, world=(rank, world_size), batch_size=5, training=False)
        ranks.append(take(loader.batches(0)))
        assert len(ranks[-1]) == loader.batches_per_epoch
    batches = [batch for rank in ranks for batch in rank]
    assert {len(batch) for batch in ranks} == {-(-COUNT // (5 * world_size))}
    assert {batch.images.shape for batch in batches} == {(5, 3, 32, 32)}
    assert sorted(by_sample(batches)) == list(range(COUNT))
    labels = {
        sample: label
        for batch in batches
        for sample, label in zip(batch.samples, batch.labels, strict=True)
    }
    assert labels.pop(NO_SAMPLE, IGNORE_LABEL) == IGNORE_LABEL
    assert labels == dict(enumerate(source.labels.tolist()))


def test_evaluation_pixels_do_not_depend_on_the_world(source, data, build):
    def pixels(world_size):
        batches = []
        for rank in range(world_size):
            loader = build(source, data, world=(rank, world_size), batch_size=5, training=False)
            batches += take(loader.batches(0))
        return by_sample(batches)

    expected, got = pixels(1), pixels(3)
    assert all(torch.equal(expected[sample], got[sample]) for sample in range(COUNT))


# 5. Layout and 6. lifetime


@pytest.mark.parametrize("training", [True, False])
def test_batches_are_laid_out_as_promised(source, data, build, training):
    for batch in build(source, data, training=training).batches(0):
        assert batch.images.shape == (4, 3, 32, 32)
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == batch.samples.dtype == torch.int64
        assert batch.labels.shape == batch.samples.shape == (4,)


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(source, data, build):
    batches = build(source, data).batches(0)
    for batch in batches:
        copy = batch.images.clone()
        take(build(source, data).batches(1))  # time for what is read ahead to arrive
        assert torch.equal(batch.images, copy)


# 7. Errors


GARBAGE = b"<html>404 not found</html>"


BAD_BATCH = 3


def damaged_source(root, damage):
    """A folder with a damaged image in batch 3 of epoch 0; that file; its sample number."""
    number = ORDER[4 * BAD_BATCH + 1]
    path = sorted(write_folder(root).rglob("*.JPEG"))[number]
    source = open_source(root)  # which looks for files that cannot be images
    path.write_bytes(damage(path.read_bytes()))
    return source, path, number


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda _: GARBAGE,
    "empty": lambda _: b"",
    "headless": lambda content: content[:20] + bytes(len(content) - 20),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_unreadable_image_is_named_and_costs_only_its_batch(tmp_path, any_data, build, damage):
    damaged, path, _ = damaged_source(tmp_path, damage)
    loader = build(damaged, any_data)
    batches = loader.batches(0)
    assert len(take(batches, BAD_BATCH)) == BAD_BATCH
    with pytest.raises(DataError, match=path.stem):
        next(batches)
    rest = take(loader.batches(0, BAD_BATCH + 1))
    assert [batch.samples for batch in rest] == [ORDER[16:20], ORDER[20:24]]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_unreadable_image_is_replaced_by_gray_and_counted(
    tmp_path, any_data, build, damage, training, whole_folder, caplog
):
    damaged, path, number = damaged_source(tmp_path, damage)
    data = replace(any_data, on_error="replace")
    loader = build(damaged, data, augment=PLAIN, training=training)
    whole = build(open_source(whole_folder), data, augment=PLAIN, training=training)
    for epoch in (0, 1):
        got, expected = take(loader.batches(epoch)), take(whole.batches(epoch))
        assert [batch.labels for batch in got] == [batch.labels for batch in expected]
        pixels, good = by_sample(got), by_sample(expected)
        assert torch.all(pixels.pop(number) == 128)
        assert all(torch.equal(pixels[sample], good[sample]) for sample in pixels)
        assert loader.replaced == epoch + 1
    assert path.stem in caplog.text
    assert whole.replaced == 0


def test_a_lost_file_is_named(tmp_path, data, build):
    source, path, _ = damaged_source(tmp_path, bytes)
    path.unlink()
    with pytest.raises(DataError, match=path.stem):
        take(build(source, data).batches(0))


def test_errors_of_several_images_are_told_together(whole_folder, data, build):
    source = open_memory(whole_folder, None)
    for place in (3, 9):
        source.samples[place] = source.samples[place]._replace(
            data=np.frombuffer(GARBAGE, np.uint8)
        )
    loader = build(source, data, batch_size=COUNT, training=False)
    with pytest.raises(DataError, match=r"place 3 .*place 9 .*data\.on_error"):
        take(loader.batches(0))


# Between loaders and formats


@pytest.mark.parametrize("training", [True, False])
def test_formats_give_the_same_batches(source, whole_folder, data, build, training):
    expected = take(build(open_source(whole_folder), data, training=training).batches(2))
    assert_same(take(build(source, data, training=training).batches(2)), expected)


def assert_near(first, second):
    assert [batch.samples for batch in first] == [batch.samples for batch in second]
    assert [batch.labels for batch in first] == [batch.labels for batch in second]
    for one, other in zip(first, second, strict=True):
        difference = (one.images.int() - other.images.int()).abs()
        assert difference.float().mean() < MEAN_DIFFERENCE
        assert difference.max() <= MAX_DIFFERENCE


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 96])
def test_loaders_agree(source, build, training, interpolation, size):
    spec = replace(SPEC, size=size, interpolation=interpolation)
    crop = CropConfig(interpolation=interpolation)
    *others, reference = (
        take(
            build(
                source,
                replace(DATA, loader=name, crop=crop),
                augment=PLAIN,
                spec=spec,
                training=training,
            ).batches(1)
        )
        for name in LOADERS
    )
    for other in others:
        assert_near(other, reference)


@pytest.mark.parametrize("training", [True, False])
def test_raw_pixels_give_what_a_lossless_file_gives(whole_folder, data, build, training):
    """FFCV files hold both; so do their batches."""
    images = [photograph(number).convert("RGB") for number in range(COUNT)]
    samples = [
        Sample(str(number), np.frombuffer(encoded(image, "PNG"), np.uint8), 0, *image.size)
        for number, image in enumerate(images)
    ]
    raw = [
        sample._replace(data=np.asarray(image))
        for sample, image in zip(samples, images, strict=True)
    ]
    mixed = [(raw if number % 3 else samples)[number] for number in range(COUNT)]
    expected = take(build(MemorySource(samples), data, training=training).batches(0))
    for source in (MemorySource(raw), MemorySource(mixed)):
        assert_same(take(build(source, data, training=training).batches(0)), expected)


@pytest.mark.parametrize("training", [True, False])
def test_extreme_sizes_are_cropped_alike(build, training):
    sizes = [(1, 1), (1, 200), (200, 1), (3, 500), (700, 5), (33, 31), (32, 32), (1500, 1100)]
    whole = Image.fromarray(skimage.data.coffee())
    samples = [
        Sample(str(size), np.frombuffer(encoded(whole.resize(size)), np.uint8), 0, *size)
        for size in sizes
    ]
    source = MemorySource(samples, shard_sizes=(len(sizes),))
    reference, *others = (
        take(build(source, data, augment=PLAIN, training=training).batches(0))
        for data in DECODERS.values()
    )
    for other in others:
        assert_near(other, reference)


TURNED = Image.Exif()
TURNED[0x112] = 6  # to be shown turned by 90 degrees; ImageNet's labels and boxes ignore it
KINDS = {
    "turned by EXIF": lambda image: encoded(image, exif=TURNED),
    "progressive": lambda image: encoded(image, progressive=True),
    "CMYK": lambda image: encoded(image.convert("CMYK")),
    "PNG with palette": lambda image: encoded(image.convert("P"), "PNG"),
    "PNG with alpha": lambda image: encoded(image.convert("RGBA"), "PNG"),
    "WebP": lambda image: encoded(image, "WEBP"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_loaders_agree_on_what_occurs_in_imagenet(build, kind):
    image = photograph(0)
    sample = Sample("odd", np.frombuffer(kind(image), np.uint8), 0, *image.size)
    source = MemorySource([sample], shard_sizes=(1,))
    reference, *others = (
        take(build(source, data, augment=PLAIN, batch_size=1).batches(0))
        for data in DECODERS.values()
    )
    for other in others:
        assert_near(other, reference)


AUGMENTED = {
    "RandAugment, random interpolation": AugmentConfig(auto_augment="rand-m9-mstd0.5-inc1"),
    "3-Augment and jitter": AugmentConfig(auto_augment="3a", color_jitter=0.3),
    "jitter, gray and blur": AugmentConfig(
        color_jitter=(0.4, 0.4, 0.4, 0.1), grayscale=0.3, gaussian_blur=0.3
    ),
    "AugMix": AugmentConfig(auto_augment="augmix-m5-w4-d2"),
    "torchvision's": AugmentConfig(auto_augment="tv-n2-m12"),
}


@pytest.mark.parametrize("augment", AUGMENTED.values(), ids=AUGMENTED)
@pytest.mark.parametrize("mode", ["rrc", "pad", "whole"])
def test_the_host_gives_the_very_pixels_of_the_reference(source, build, augment, mode):
    data = replace(DATA, crop=CropConfig(mode=mode, interpolation="random", vflip=0.3))
    host, reference = (
        take(build(source, replace(data, loader=name), augment=augment).batches(1))
        for name in ("host", "reference")
    )
    assert_same(host, reference)


# On the same crops: where they differ by a level, solarizing makes it a hundred.
@pytest.mark.parametrize("augment", AUGMENTED.values(), ids=AUGMENTED)
@pytest.mark.parametrize("mode", ["rrc", "pad", "whole"])
def test_dali_augments_as_the_reference(whole_folder, build, augment, mode):
    source = open_memory(whole_folder, None)
    data = replace(DATA, crop=CropConfig(mode=mode, interpolation="random", vflip=0.3))
    dali, reference = (
        take(build(source, replace(DECODERS[name], crop=data.crop), augment=augment).batches(1))
        for name in ("dali, host decodes", "reference")
    )
    assert [batch.samples for batch in dali] == [batch.samples for batch in reference]
    assert [batch.labels for batch in dali] == [batch.labels for batch in reference]
    one, other = by_sample(dali), by_sample(reference)
    means = [(one[i].float() - other[i].float()).abs().mean().item() for i in one]
    assert np.median(means) < 1
    assert max(means) < 8


EXACT_IN_DALI = AugmentConfig(color_jitter=(0.4, 0.4, 0.4, 0.1), grayscale=0.3)


@pytest.mark.parametrize("mode", ["rrc", "pad", "whole"])
@pytest.mark.parametrize("training", [True, False])
def test_dali_on_the_hosts_crops_gives_the_hosts_pixels(source, build, mode, training):
    crop = CropConfig(mode=mode, interpolation="random", vflip=0.3)
    host, dali = (
        take(
            build(
                source, replace(DECODERS[name], crop=crop), augment=EXACT_IN_DALI, training=training
            ).batches(1)
        )
        for name in ("host", "dali, host decodes")
    )
    assert_same(dali, host)


def test_images_grow_as_the_schedule_says(whole_folder, any_data, build):
    resolution = ResolutionConfig(min_res=32, max_res=96, start_ramp=0, end_ramp=4)
    augment = replace(AUGMENT, resolution=resolution)
    loader = build(open_memory(whole_folder, None), any_data, augment=augment)
    for epoch, size in ((0, 32), (2, 64), (7, 96), (0, 32)):
        whole = take(loader.batches(epoch))
        assert {tuple(batch.images.shape) for batch in whole} == {(4, 3, size, size)}
        spec = replace(SPEC, size=size)
        fixed = build(open_memory(whole_folder, None), any_data, spec=spec)
        assert_same(whole, take(fixed.batches(epoch)))


def test_what_needs_the_native_part_is_refused_without_it(whole_folder, build, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    source = open_memory(whole_folder, None)
    for data, key in (("host", "data.loader host"), ("dali, host decodes", "data.decode cpu")):
        with pytest.raises(ValueError, match=f"{key} needs the native extension.*'make env'"):
            build(source, DECODERS[data])


def test_decoding_on_the_cpu_is_refused_where_it_is_no_choice():
    with pytest.raises(ValueError, match="decode 'cpu' has no effect without loader dali"):
        DataConfig(loader="reference", decode="cpu")


def test_a_window_shuffles_what_lies_together(whole_folder, data, build):
    source = open_memory(whole_folder, None)
    source.shard_sizes = (9, 9, 9)
    loader = build(source, replace(data, window=1), batch_size=9)
    stored = [set(source.storage_order[first : first + 9].tolist()) for first in (0, 9, 18)]
    for batch in take(loader.batches(0)):
        stored.remove(set(batch.samples))


# Threads and read-ahead


def test_nothing_is_read_twice_or_beyond_the_epoch(whole_folder, data, build):
    source = open_memory(whole_folder, None)
    loader = build(source, data)
    take(loader.batches(0, 2))
    assert sorted(source.reads) == sorted(ORDER[8:24])


def test_reading_runs_ahead_of_the_consumer(whole_folder, data, build):
    source = open_memory(whole_folder, None)
    batches = build(source, data, batch_size=2).batches(0)
    next(batches)
    batches.close()
    assert len(source.reads) >= 6


def threads_alive():
    return len(list(Path("/proc/self/task").iterdir()))


def test_leaving_an_epoch_leaks_no_threads(whole_folder, any_data, build):
    loader = build(open_source(whole_folder), any_data)
    take(loader.batches(0))
    running = threads_alive()
    for epoch in range(10):
        take(loader.batches(epoch), 2)
    assert threads_alive() < running + 5  # pools may grow to their full size, and no further


def test_closing_ends_all_threads(whole_folder, any_data, build):
    take(
        build(open_source(whole_folder), any_data).batches(0)
    )  # what libraries start once and keep
    running = threads_alive()
    loader = build(open_source(whole_folder), any_data)
    take(loader.batches(0), 2)
    loader.close()
    gc.collect()
    assert threads_alive() <= running


def test_a_training_set_smaller_than_a_step_is_refused(source, data, build):
    with pytest.raises(ValueError, match=r"27 images, fewer .* 2 ranks x 7 per_gpu x 2"):
        build(source, data, world=(0, 2), batch_size=7, accumulation=2)
