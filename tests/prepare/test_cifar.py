"""CIFAR's archives: their pixels exactly, and never more than data out of their pickles."""

import io
import os
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvidia.dali import fn, types
from nvidia.dali.pipeline import pipeline_def

from pipeline.errors import DataError
from pipeline.formats.open import open_source
from pipeline.images.pixels import encode_png, png_size
from pipeline.prepare.layouts.array_pickle import UnsafePickleError, load_arrays
from pipeline.prepare.layouts.find import find_layout
from tests.support.pictures import decode
from tools import make_shards

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ROWS = 12


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as in the authors' files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def pickled(value, pickler=Python2Pickler):
    buffer = io.BytesIO()
    pickler(buffer, protocol=2).dump(value)
    # NumPy 2 has renamed the module; the authors' files have its old name.
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def batch(number, rows=ROWS):
    rng = np.random.default_rng(number)
    return {
        b"batch_label": b"training batch %d of 5" % number,
        b"labels": [(number + i) % 10 for i in range(rows)],
        b"data": rng.integers(0, 256, (rows, 3072), dtype=np.uint8),
        b"filenames": [b"automobile_s_%06d.png" % i for i in range(rows)],
    }


def cifar10_files():
    names = [name.encode() for name in TEN]
    meta = {b"num_cases_per_batch": ROWS, b"label_names": names, b"num_vis": 3072}
    files = {f"data_batch_{i}": batch(i) for i in range(1, 6)}
    files |= {"batches.meta": meta, "test_batch": batch(6)}
    return {f"cifar-10-batches-py/{name}": pickled(content) for name, content in files.items()}


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    path = tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz"
    return write_archive(path, {**cifar10_files(), "cifar-10-batches-py/readme.html": b"<p>"})


@pytest.fixture
def cifar100(tmp_path):
    names = [b"class%02d" % i for i in range(100)]
    contents = {"meta": {b"fine_label_names": names, b"coarse_label_names": [b"fish"] * 20}}
    for number, split in enumerate(("train", "test")):
        content = batch(number, rows=100)
        del content[b"labels"]
        content[b"fine_labels"] = list(range(100))[::-1]
        content[b"coarse_labels"] = [0] * 100
        contents[split] = content
    files = {f"cifar-100-python/{name}": pickled(content) for name, content in contents.items()}
    (tmp_path / "cifar").mkdir()
    return write_archive(tmp_path / "cifar" / "cifar-100-python.tar.gz", files)


def shards_of(source, output, *options):
    assert make_shards.main([str(source), "--output", str(output), *options]) == 0
    return {split: open_source(output / split) for split in ("train", "val")}


@pytest.mark.parametrize("options", [(), ("--format", "ffcv")], ids=["shards", "ffcv"])
def test_pixels_and_labels_are_those_of_the_arrays(cifar10, tmp_path, options):
    sources = shards_of(cifar10, tmp_path, *options)
    for split, numbers in (("train", range(1, 6)), ("val", (6,))):
        batches = [batch(number) for number in numbers]
        expected = np.concatenate([b[b"data"] for b in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([b[b"labels"] for b in batches])
        source = sources[split]
        assert source.classes == TEN
        rows = set()
        for sample in source.read_many(range(len(source))):
            row = int(sample.key.split("/")[1])
            pixels = sample.data if sample.data.ndim == 3 else decode(bytes(sample.data))
            assert np.array_equal(pixels, expected[row].transpose(1, 2, 0))
            assert labels[row] == sample.label
            assert sample.key == f"{TEN[sample.label]}/{row:05d}"
            rows.add(row)
        assert rows == set(range(len(labels)))


def test_cifar100_has_its_fine_labels(cifar100, tmp_path):
    source = shards_of(cifar100.parent, tmp_path / "out")["train"]
    assert source.classes == tuple(f"class{i:02d}" for i in range(100))
    assert [s.key for s in source.read_many([0, 99])] == ["class00/00099", "class99/00000"]


def test_an_archive_gives_the_same_shards_in_any_number_of_processes(cifar10, tmp_path):
    for workers in (1, 2):
        options = ("--workers", str(workers), "--shard-samples", "7")
        shards_of(cifar10, tmp_path / str(workers), *options)
    for file in (tmp_path / "1" / "train").iterdir():
        assert file.read_bytes() == (tmp_path / "2" / "train" / file.name).read_bytes()


def test_two_archives_are_not_mixed_up(cifar10, cifar100):
    folder = cifar100.parent
    os.link(cifar10, folder / cifar10.name)
    with pytest.raises(DataError, match="name the one to be converted"):
        find_layout(folder)
    assert find_layout(folder / cifar10.name).splits["val"]().classes == TEN


class Hostile:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def replaced(tmp_path, name, data):
    files = cifar10_files() | {f"cifar-10-batches-py/{name}": data}
    return write_archive(tmp_path / "cifar-10-python.tar.gz", files)


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta", "test_batch"])
def test_hostile_pickle_is_refused_and_not_run(tmp_path, name):
    content = batch(1) | {b"filenames": Hostile(tmp_path / "was here")}
    data = pickled(content)
    pickle.loads(data, encoding="bytes")  # the danger is real
    (tmp_path / "was here").rmdir()
    archive = replaced(tmp_path, name, data)
    split = "val" if name == "test_batch" else "train"
    with pytest.raises(DataError, match=rf"{name}: it asks for \w+\.mkdir, .* may be hostile"):
        find_layout(archive).splits[split]()
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy\nndarray.__class__\n.",
        b"c_codecs\nencode\n(S'abc'\nS'zlib'\ntR.",
        b"c_codecs\ndecode\n.",
        b"P42\n.",
        b"\x82\x01.",
    ],
)
def test_nothing_but_data_is_loaded(code):
    with pytest.raises(UnsafePickleError):
        load_arrays(code)


def test_flags_that_make_addresses_of_bytes_are_refused():
    kind = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb."
    content = load_arrays(kind)  # the flags, 63, are not looked at: no type of NumPy is made
    assert not isinstance(content, np.dtype)
    with_fields = kind.replace(b"'|'\nNNN", b"'|'\nN(S'a'\ntN")
    with pytest.raises(UnsafePickleError, match="records"):
        load_arrays(with_fields)


@given(data=st.binary(max_size=200))
def test_damaged_pickles_are_refused_in_words(data):
    try:
        load_arrays(data)
    except UnsafePickleError:
        return


def test_a_dictionary_that_is_in_many_places_is_not_copied_for_each():
    content = {b"end": 1}
    for _ in range(12):  # at forty, 2^40 copies would be made
        content = {b"one": content, b"two": content}
    loaded = load_arrays(pickled(content))
    assert loaded[b"one"] is loaded[b"two"]


@pytest.mark.parametrize("pickler", [pickle._Pickler, Python2Pickler])
@pytest.mark.parametrize("dtype", ["u1", "<i8", "<i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_they_were(pickler, dtype, order):
    array = np.asarray(np.arange(60).reshape(5, 12), dtype, order=order)
    content = load_arrays(pickled({b"data": array, b"name": b"x", b"n": [1, 2]}, pickler))
    assert isinstance(content, dict)
    assert np.array_equal(content[b"data"], array)
    assert (content[b"name"], content[b"n"]) == (b"x", [1, 2])


@pytest.mark.parametrize(
    "change",
    [
        {b"data": np.zeros((ROWS, 3071), np.uint8)},
        {b"data": np.zeros((ROWS, 3072), np.int64)},
        {b"data": b"no array"},
        {b"labels": list(range(ROWS - 1))},
        {b"labels": ["a"] * ROWS},
        {b"labels": [10] * ROWS},
        {b"labels": [-1] * ROWS},
    ],
)
def test_content_that_does_not_fit_is_refused(tmp_path, change):
    archive = replaced(tmp_path, "test_batch", pickled(batch(6) | change))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: "):
        find_layout(archive).splits["val"]()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.99])
def test_cut_off_archive_is_refused(cifar10, tmp_path, share):
    data = cifar10.read_bytes()
    path = tmp_path / cifar10.name
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"not a readable archive|not in it"):
        find_layout(path).splits["train"]()


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (7, 300), (300, 200), (3, 30_000)])
def test_stored_png_has_the_pixels_and_the_size_that_was_said(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    data = encode_png(pixels)
    assert len(data) == png_size(*shape)
    assert np.array_equal(decode(data), pixels)


def test_dali_decodes_stored_pngs_exactly():
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (size, 40, 3), dtype=np.uint8) for size in (32, 900)]

    @pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def graph():
        encoded = [np.frombuffer(encode_png(picture), np.uint8) for picture in pictures]
        data = fn.external_source(lambda: encoded, dtype=types.UINT8, ndim=1)
        return fn.decoders.image(data)

    [decoded] = graph().run()
    for place, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(decoded.at(place)), picture)
