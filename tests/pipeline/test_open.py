"""Folders and shards as sources: the same samples, and clear words where there are none."""

import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.errors import DataError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.open import open_source
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.formats.shard_source import ShardSource
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.run import convert


def _silent(images, size_bytes):
    pass


def _convert(folder, output, layout):
    scan = scan_class_folders(folder)
    return convert(Conversion(scan=scan, folder=output, split="train", plan_config=layout), _silent)


@pytest.fixture(scope="module")
def shards(image_folder, tmp_path_factory):
    """The training images in seven shards. Read-only."""
    output = tmp_path_factory.mktemp("shards") / "train"
    _convert(image_folder / "train", output, PlanConfig(shard_bytes=0, shard_samples=9))
    return output


@pytest.fixture
def copy_of_shards(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "copy")


def _assert_same_samples(one, other):
    assert len(one) == len(other)
    for a, b in zip(one.read_many(range(len(one))), other.read_many(range(len(one))), strict=True):
        assert (a.key, a.label, a.width, a.height) == (b.key, b.label, b.width, b.height)
        assert bytes(a.data) == bytes(b.data)


def test_folder_gives_the_bytes_of_its_files_in_the_order_of_classes_and_keys(image_folder):
    source = open_source(image_folder / "train")
    files = sorted((image_folder / "train").glob("*/*"), key=lambda p: (p.parent.name, p.stem))
    assert source.classes == tuple(sorted({p.parent.name for p in files}))
    samples = source.read_many(range(len(source)))
    assert [bytes(s.data) for s in samples] == [p.read_bytes() for p in files]
    assert [s.key for s in samples] == [f"{p.parent.name}/{p.stem}" for p in files]
    assert [source.classes[s.label] for s in samples] == [p.parent.name for p in files]


def test_sizes_of_samples_are_those_of_the_pictures(image_folder):
    source = open_source(image_folder / "val")
    for i, sample in enumerate(source.read_many(range(len(source)))):
        with Image.open(source.describe(i)) as image:
            assert image.size == (sample.width, sample.height)


def test_shards_hold_the_samples_of_the_folder_under_the_same_indices(image_folder, shards):
    folder, source = open_source(image_folder / "train"), open_source(shards)
    assert source.classes == folder.classes
    _assert_same_samples(source, folder)


def test_storage_order_is_the_order_of_the_members(shards):
    source = open_source(shards)
    assert source.shard_sizes == (9, 9, 9, 9, 9, 9, 8)
    places = [source.describe(int(i)) for i in source.storage_order]
    positions = [(p.split(": ")[0], int(p.rsplit(" ", 1)[1])) for p in places]
    assert positions == sorted(positions)
    assert sorted(source.storage_order) == list(range(len(source)))


def test_sources_survive_pickling(image_folder, shards):
    for source in (open_source(image_folder / "val"), open_source(shards)):
        _assert_same_samples(pickle.loads(pickle.dumps(source)), source)


def test_threads_read_the_same_samples(shards):
    source = open_source(shards)
    expected = [bytes(s.data) for s in source.read_many(range(len(source)))]
    fresh, wrong = open_source(shards), []

    def read(seed):
        order = np.random.default_rng(seed).permutation(len(fresh))
        wrong.extend(i for i in order if bytes(fresh.read_many([i])[0].data) != expected[i])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_few_open_files_are_enough(shards, monkeypatch):
    source = open_source(shards)
    assert isinstance(source, ShardSource)
    monkeypatch.setattr(source, "_max_files", 2)
    order = np.random.default_rng(0).permutation(len(source))
    for i, sample in zip(order, source.read_many(order), strict=True):
        assert sample.key == open_source(shards).read_many([i])[0].key


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        open_source(tmp_path / "nowhere")


def test_folder_without_class_folders_says_what_it_holds(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="no class folders: it has 1 loose image;"):
        open_source(tmp_path)


def test_empty_class_is_named(image_folder, tmp_path):
    copy = shutil.copytree(image_folder / "val", tmp_path / "val")
    (copy / "n09999999").mkdir()
    with pytest.raises(DataError, match="n09999999: empty class"):
        open_source(copy)


def test_folder_of_splits_is_not_taken_for_classes(image_folder):
    with pytest.raises(DataError, match="holds splits"):
        open_source(image_folder)


def test_file_that_is_no_image_is_named_when_read(image_folder, tmp_path):
    copy = shutil.copytree(image_folder / "val", tmp_path / "val")
    page = next(copy.glob("*/*.JPEG"))
    page.write_text("<!DOCTYPE html><title>404</title>")
    source = open_source(copy)
    with pytest.raises(DataError, match=rf"{page.name}: not an image: it looks like a web page"):
        source.read_many(range(len(source)))


def test_shards_without_index_are_refused(copy_of_shards):
    (copy_of_shards / INDEX_NAME).unlink()
    with pytest.raises(DataError, match=r"train-000000\.tar, \.\.\.\) but no index\.arrow"):
        open_source(copy_of_shards)


def test_missing_shard_is_named(copy_of_shards):
    (copy_of_shards / "train-000003.tar").unlink()
    with pytest.raises(DataError, match=r"train-000003.tar: this shard is missing"):
        open_source(copy_of_shards)


def test_truncated_shard_is_named(copy_of_shards):
    shard = copy_of_shards / "train-000002.tar"
    size = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(size - 500)
    with pytest.raises(DataError, match=rf"train-000002.tar: .* cut off: {size - 500} bytes"):
        open_source(copy_of_shards)


def test_index_of_another_version_is_refused(copy_of_shards):
    path = copy_of_shards / INDEX_NAME
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    about = (table.schema.metadata or {})[b"millstream"]
    other = table.replace_schema_metadata(
        {"millstream": about.replace(b'"version": 1', b'"version": 99')}
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, other.schema) as writer:
        writer.write_table(other)
    with pytest.raises(DataError, match="an index of version 99, and this program reads version 1"):
        open_source(copy_of_shards)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_damaged_index_is_refused_or_harmless(copy_of_shards, shards, share):
    path = copy_of_shards / INDEX_NAME
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 0x10
    path.write_bytes(data)
    try:
        source = open_source(copy_of_shards)
    except DataError:
        return
    _assert_same_samples(source, open_source(shards))  # padding was hit


def test_flipped_bit_in_an_image_is_found_when_it_is_read(copy_of_shards):
    source = open_source(copy_of_shards)
    where = source.describe(20)
    shard, offset = Path(where.split(": ")[0]), int(where.rsplit(" ", 1)[1])
    with shard.open("r+b") as file:
        file.seek(offset + 100)
        byte = file.read(1)[0]
        file.seek(offset + 100)
        file.write(bytes([byte ^ 1]))
    damaged = open_source(copy_of_shards)
    damaged.read_many([i for i in range(len(damaged)) if i != 20])
    with pytest.raises(DataError, match=rf"{where}: the bytes are damaged"):
        damaged.read_many([20])


def test_index_of_other_shards_of_the_same_size_is_noticed(copy_of_shards):
    one, other = copy_of_shards / "train-000000.tar", copy_of_shards / "train-000001.tar"
    size = one.stat().st_size
    one.write_bytes(other.read_bytes()[:size].ljust(size, b"\0"))
    source = open_source(copy_of_shards)
    with pytest.raises(DataError, match="the index does not fit the shard: the tar has"):
        source.read_many(source.storage_order[:9])
