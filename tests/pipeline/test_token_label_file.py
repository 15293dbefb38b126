"""A file of label maps: what is written is read; what is damaged or of other images is refused."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.counter import DrawKey
from pipeline.errors import DataError, OutputError
from pipeline.formats.open import open_source
from pipeline.formats.token_label_file import (
    LabelHeader,
    TokenLabelFile,
    labels_sha256,
)
from pipeline.loaders.build import build_loader
from pipeline.loaders.encoded import crops_of
from pipeline.loaders.token_targets import TokenLabels, TokenTargeter
from pipeline.order import sample_of
from pipeline.prepare.writers.token_label_writer import TokenLabelWriter

ROOT = Path(__file__).parents[2]
SPEC = InputSpec(
    size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9, interpolation="bicubic"
)


@pytest.fixture(scope="module")
def source(image_folder):
    return open_source(image_folder / "train")


def header_of(source, **changes):
    said = LabelHeader(
        classes=source.classes,
        samples=len(source),
        labels_sha256=labels_sha256(source),
        top=2,
        grid=(3, 4),
        view="whole",
        annotator="a test",
    )
    return dataclasses.replace(said, **changes)


def contents(source):
    rng = np.random.default_rng(0)
    shape = (len(source), 3, 4, 5)
    order = np.argsort(rng.random(shape), axis=3)[..., :2].transpose(0, 3, 1, 2)
    keys = [sample.key for sample in source.read_many(range(len(source)))]
    return keys, order, rng.normal(0, 5, order.shape).astype(np.float16)


def writer_of(path, source, **changes):
    part = path.with_name(path.name + ".part")
    return TokenLabelWriter(part, header_of(source, **changes), np.arange(len(source)))


def write(path, source, **changes):
    writer = writer_of(path, source, **changes)
    keys, classes, logits = contents(source)
    writer.add(keys[writer.done :], classes[writer.done :], logits[writer.done :])
    return writer.complete(path)


@pytest.fixture(scope="module")
def path(tmp_path_factory, source):
    return write(tmp_path_factory.mktemp("labels") / "train.token_labels", source)


def test_what_is_written_is_read(path, source):
    _, classes, logits = contents(source)
    file = TokenLabelFile(path)
    assert file.header == header_of(source)
    wanted = np.array([7, 0, 61, 7])
    records = file.read(wanted)
    assert np.array_equal(records["classes"], classes[wanted])
    assert np.array_equal(records["logits"], logits[wanted])
    file.check_source(source)


def test_a_writer_that_was_killed_anywhere_is_continued_to_the_same_bytes(path, source, tmp_path):
    whole, header = path.read_bytes(), header_of(source)
    unfinished = header.beginning(0) + whole[header.start :]
    part = tmp_path / "train.token_labels.part"
    size = header.record.itemsize
    for cut in (0, 10, header.start, header.start + 5 * size, header.start + 5 * size + 3):
        part.write_bytes(unfinished[:cut])
        assert write(tmp_path / "train.token_labels", source).read_bytes() == whole
        assert not part.exists()
    torn = bytearray(unfinished)
    torn[header.start + 9 * size : header.start + 10 * size] = bytes(size)  # a hole after a crash
    part.write_bytes(torn)
    writer = writer_of(tmp_path / "train.token_labels", source)
    writer.close()
    assert writer.done == 9


@pytest.mark.parametrize("changes", [{"annotator": "another"}, {"view": "centre"}, {"top": 1}])
def test_what_was_begun_otherwise_is_not_continued(source, tmp_path, changes):
    target = tmp_path / "train.token_labels"
    writer_of(target, source).close()
    with pytest.raises(OutputError, match=r"\.part: was begun with another .* or delete it"):
        writer_of(target, source, **changes)


def damaged(path, tmp_path, change):
    data = bytearray(path.read_bytes())
    change(data)
    other = tmp_path / "damaged.token_labels"
    other.write_bytes(data)
    return other


def test_every_damaged_byte_of_a_map_is_found_when_it_is_read(path, source, tmp_path):
    header = header_of(source)
    offset = header.start + 3 * header.record.itemsize
    for byte in range(0, header.record.itemsize, 7):
        file = TokenLabelFile(
            damaged(
                path, tmp_path, lambda data, at=offset + byte: data.__setitem__(at, data[at] ^ 1)
            )
        )
        file.read(np.array([2, 4]))
        with pytest.raises(DataError, match=r"map of sample 3 is damaged"):
            file.read(np.array([3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.__setitem__(0, 0), "not a file of token labels"),
        (lambda data: data.__setitem__(40, data[40] ^ 1), "checksum of its header does not hold"),
        (lambda data: data.__delitem__(slice(-1, None)), r"bytes long, and 62 maps take"),
        (lambda data: data.clear(), "not a file of token labels"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_when_it_is_opened(path, tmp_path, change, message):
    with pytest.raises(DataError, match=rf"damaged\.token_labels: .*{message}"):
        TokenLabelFile(damaged(path, tmp_path, change))


def test_no_file_is_refused_in_words(tmp_path):
    with pytest.raises(DataError, match=r"none\.token_labels: cannot be read: .*make_token_labels"):
        TokenLabelFile(tmp_path / "none.token_labels")


def test_maps_of_other_images_are_refused(path, source, image_folder, tmp_path):
    with pytest.raises(DataError, match="holds maps of 62 images of 5 classes, and not of these"):
        TokenLabels(path, open_source(image_folder / "val"))
    keys, classes, logits = contents(source)
    other = tmp_path / "other.token_labels"
    writer = writer_of(other, source)
    writer.add([*keys[:5], "elsewhere", *keys[6:]], classes, logits)
    labels = TokenLabels(writer.complete(other), source)
    labels.maps(np.array([4, 6]))
    with pytest.raises(DataError, match=rf"map that should be of {keys[5]} is of another image"):
        labels.maps(np.array([4, 5]))


def test_a_file_that_is_cut_off_while_it_is_read_is_named(source, tmp_path):
    """In a process of its own: reading what a map in memory has lost would end it by SIGBUS."""
    path = write(tmp_path / "train.token_labels", source)
    program = """
import os, sys
import numpy as np
from pathlib import Path
from pipeline.formats.token_label_file import TokenLabelFile
file = TokenLabelFile(Path(sys.argv[1]))
everything = np.arange(file.header.samples)
file.read(everything)
os.truncate(sys.argv[1], file.header.start + 3 * file.header.record.itemsize + 5)
assert len(file.read(everything[:3])) == 3
try:
    file.read(everything)
except ValueError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"DataError {path}: has been cut off")


@pytest.mark.parametrize("repeats", [1, 3])
def test_any_batch_gets_the_crops_that_its_loader_drew(path, source, repeats):
    """In the middle of a later epoch too, with nothing remembered but the images' sizes."""
    labels = TokenLabels(path, source)
    data = DataConfig(loader="reference", crop=CropConfig(vflip=0.5), threads=1)
    augment = AugmentConfig(auto_augment="rand-m9-n2", repeats=repeats)
    settings = {"data": data, "augment": augment, "spec": SPEC, "seed": 4}
    targeter = TokenTargeter(labels, **settings, grid=(4, 4), num_classes=5, exchange_xy=False)
    loader = build_loader(
        labels.source,
        **settings,
        batch_size=6,
        accumulation=1,
        placement=Placement(),
        training=True,
    )
    batch = next(loader.batches(2, start=3))
    seen = targeter.views(batch.samples.numpy(), 2)
    key: DrawKey = {"seed": 4, "epoch": 2, "samples": batch.samples.numpy()}
    samples = source.read_many(sample_of(batch.samples.numpy()))
    for mine, drawn in zip(seen.crops, crops_of(samples, data.crop, key), strict=True):
        assert np.array_equal(mine, drawn)
    made = targeter.targets(batch, 2, torch.zeros(6, 5))
    assert made.images.shape == (6, 5)
    assert made.tokens.shape == (6, 16, 5)
    torch.testing.assert_close(made.tokens.sum(2), torch.ones(6, 16))
    loader.close()
