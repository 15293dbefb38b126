"""Storage that shrinks, vanishes, hangs or lies while an epoch runs: in words, and never a hang."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_source
from pipeline.loaders.build import build_loader
from tools import make_shards

ROOT = Path(__file__).parents[2]
LOADERS = ("host", "dali", "reference")
SPEC = InputSpec(
    size=32, mean=(0.5, 0.5, 0.5), std=(1, 1, 1), crop_pct=0.9, interpolation="bilinear"
)


def make(image_folder, scratch, *options):
    """The training split in a fresh folder of its own, which a test may damage."""
    arguments = [str(image_folder), "--output", str(scratch), "--split", "train"]
    assert make_shards.main([*arguments, *options]) == 0
    return scratch / "train"


FORMATS = {
    "shards": ("*.tar", ()),
    "ffcv": ("*.beton", ("--format", "ffcv")),
    "raw ffcv": ("*.beton", ("--format", "ffcv", "--write-mode", "raw")),
}


@pytest.fixture(params=FORMATS)
def stored(request, image_folder, tmp_path):
    """A source, and the last of its files."""
    pattern, options = FORMATS[request.param]
    folder = make(image_folder, tmp_path, *options)
    return open_source(folder), sorted(folder.glob(pattern))[-1]


def loader_of(source, *, loader="reference", report=None, **data):
    return build_loader(
        source,
        data=DataConfig(loader=loader, threads=1, **data),
        augment=AugmentConfig(),
        spec=SPEC,
        batch_size=4,
        accumulation=1,
        placement=Placement(),
        seed=0,
        training=False,
        report=report,
    )


def truncate(path):
    """What an index is for stays its name, but not its size; a map of it would be fatal."""
    with path.open("r+b") as file:
        file.truncate(4096 + 7)


def read_all(source):
    """Samples that can be read, and what is said of the others."""
    good, messages = {}, {}
    for index in range(len(source)):
        _read(source, index, good, messages)
    return good, messages


def _read(source, index, good, messages):
    try:
        (good[index],) = source.read_many([index])
    except DataError as error:
        messages[index] = str(error)


def test_a_file_cut_off_while_it_is_open_is_named(stored):
    source, path = stored
    before, _ = read_all(source)
    truncate(path)
    good, messages = read_all(source)
    assert messages
    assert all(str(path) in text and "cut off" in text for text in messages.values())
    assert good.keys() | messages.keys() == before.keys()
    for index, sample in good.items():
        np.testing.assert_array_equal(sample.data, before[index].data)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_file_cut_off_in_an_epoch_gives_gray_images_that_are_reported(stored, loader):
    source, path = stored
    reports = []
    whole = loader_of(source, loader=loader)
    with closing(whole):
        expected = [(b.images.clone(), b.labels) for b in whole.batches(0)]
    built = loader_of(source, loader=loader, on_error="replace", report=reports.append)
    with closing(built):
        batches = built.batches(0)
        got = [next(batches)]
        got = [(got[0].images.clone(), got[0].labels)]
        truncate(path)
        got += [(batch.images.clone(), batch.labels) for batch in batches]
    gray = 0
    for (images, labels), (good, same) in zip(got, expected, strict=True):
        assert labels.tolist() == same.tolist()
        for image, known in zip(images, good, strict=True):
            is_gray = bool((image == 128).all())
            assert is_gray or bool((image == known).all())
            gray += is_gray
    padding = sum(labels.tolist().count(-1) for _, labels in got)
    assert len(reports) == gray - padding == built.replaced
    for bad in reports:
        assert bad.key == source.key(bad.sample)
        assert str(path) in bad.file
        assert bad.reason


def test_a_run_does_not_die_without_a_word(image_folder, tmp_path):
    """In a process of its own: reading what a map has lost would end it by SIGBUS."""
    folder = make(image_folder, tmp_path)
    program = """
import sys
from pathlib import Path
from pipeline.formats.open import open_source
source = open_source(sys.argv[1])
source.read_many(range(len(source)))
for path in (*Path(sys.argv[1]).glob("*.tar"), *Path(sys.argv[1]).glob("*.arrow")):
    with path.open("r+b") as file:
        file.truncate(5000)
try:
    source.read_many(range(len(source)))
except ValueError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DataError ")
    assert "cut off" in done.stdout


def test_a_shard_that_is_filled_with_zeros_again_is_no_image(image_folder, tmp_path):
    folder = make(image_folder, tmp_path)
    source = open_source(folder)
    source.read_many([0])
    for path in folder.glob("*.tar"):
        size = path.stat().st_size
        os.truncate(path, 512)
        os.truncate(path, size)
    _, messages = read_all(source)
    assert len(messages) == len(source)


def test_a_shard_that_has_vanished_is_named(image_folder, tmp_path):
    folder = make(image_folder, tmp_path)
    source = open_source(folder)
    for path in folder.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match=r"\.tar: cannot be read: No such file"):
        source.read_many([0])


@pytest.fixture
def stalled(image_folder, tmp_path):
    """A folder one of whose images is a pipe into which nobody writes, and that image."""
    folder = tmp_path / "train"
    shutil.copytree(image_folder / "train", folder)
    source = open_source(folder)
    path = sorted(folder.rglob("*.JPEG"), key=str)[6]
    path.unlink()
    os.mkfifo(path)
    yield source, path
    with suppress(OSError):  # nobody waits
        # Lets the thread go that waits for a writer.
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("on_error", ["raise", "replace"])
def test_a_disk_that_hangs_ends_the_run_and_names_the_file(stalled, loader, on_error):
    source, path = stalled
    built = loader_of(source, loader=loader, on_error=on_error, timeout_s=0.3)
    with closing(built):
        batches = built.batches(0)
        assert next(batches).images.shape == (4, 3, 32, 32)
        with pytest.raises(DataError, match=f"{path}: the disk or server has not delivered"):
            next(batches)


def test_a_process_can_end_while_the_disk_hangs(stalled):
    _, path = stalled
    program = """
import sys
from contextlib import closing
from pathlib import Path
from pipeline.errors import DataError
from tests.pipeline.test_bad_storage import loader_of
from pipeline.formats.open import open_source
import os
path = Path(sys.argv[2])
path.unlink(); path.write_bytes(next(p for p in path.parent.glob("*.JPEG")).read_bytes())
source = open_source(sys.argv[1])
path.unlink(); os.mkfifo(path)
with closing(loader_of(source, timeout_s=0.3)) as built:
    try:
        list(built.batches(0))
    except DataError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path.parents[1]), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "has not delivered" in done.stdout


class Broken:
    """A source whose thread meets something that nobody has thought of."""

    def __init__(self, source):
        self._source = source

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def read_many(self, indices):
        if 5 in list(indices):
            raise SystemExit("a thread that dies")
        return self._source.read_many(indices)


@pytest.mark.parametrize("loader", ["host", "reference"])
def test_whatever_ends_a_reading_thread_s_work_reaches_who_waits_for_it(image_folder, loader):
    source = Broken(open_source(image_folder / "train"))
    with closing(loader_of(source, loader=loader)) as built:
        batches = built.batches(0)
        with pytest.raises(SystemExit, match="a thread that dies"):
            for _ in batches:
                pass


def test_more_bad_images_than_allowed_end_the_run(image_folder, tmp_path):
    folder = tmp_path / "train"
    shutil.copytree(image_folder / "train", folder)
    source = open_source(folder)
    paths = sorted(folder.rglob("*.JPEG"), key=str)
    for path in paths[:3]:
        path.write_bytes(b"")
    for limit in (3, 4):
        with closing(loader_of(source, on_error="replace", max_bad_samples=limit)) as built:
            for _ in range(2):  # an image that is bad in each epoch is one image
                assert len(list(built.batches(0))) == built.batches_per_epoch
    with (
        closing(loader_of(source, on_error="replace", max_bad_samples=2)) as built,
        pytest.raises(DataError, match=r"3 images cannot be read.*max_bad_samples allows 2"),
    ):
        list(built.batches(0))


@pytest.mark.parametrize("loader", LOADERS)
def test_loaders_can_be_left_closed_and_made_again(image_folder, loader):
    source = open_source(image_folder / "train")
    seen = []
    for _ in range(3):
        built = loader_of(source, loader=loader)
        batches = built.batches(0)
        seen.append(next(batches).images.clone())
        built.close()
        built.close()
    assert all(bool((images == seen[0]).all()) for images in seen)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, "timeout_s must be > 0"),
        ({"max_bad_samples": -1, "on_error": "replace"}, "max_bad_samples must be >= 0"),
        ({"max_bad_samples": 5}, "max_bad_samples 5 has no effect without on_error 'replace'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(DataConfig(), **options)
