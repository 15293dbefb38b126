"""FFCV files: written without FFCV's faults, read by FFCV itself and by our sources."""

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import DataError, OutputError, UnusableInputError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.ffcv_source import FfcvSource
from pipeline.formats.open import open_source
from pipeline.formats.shard_folder import INDEX_NAME
from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion, run_ffcv
from pipeline.prepare.conversion.manifest import read_manifest
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.run import convert
from pipeline.prepare.writers.ffcv_config import MIN_PAGE_BYTES, FfcvConfig
from pipeline.prepare.writers.job import WriteConfig
from tests.support.pictures import decode, encode_jpeg
from tools import check_data, make_shards

# FFCV's compiled functions die with a KeyError in a finalizer of Numba's (libffcv/ffcv#167).
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Exception ignored in. <finalize object:pytest.PytestUnraisableExceptionWarning"
)

COPY, RAW = FfcvConfig(), FfcvConfig(mode="raw")
SHUFFLED, KEPT = PlanConfig(), PlanConfig(order="kept")


def silent(images, size_bytes):
    pass


def write(folder, output, config=COPY, *, threads=2, layout=SHUFFLED, **writing):
    conversion = FfcvConversion(
        scan=scan_class_folders(folder),
        folder=output,
        split="train",
        plan_config=layout,
        beton=config,
        writing=WriteConfig(**writing),
    )
    convert(conversion, silent, run=run_ffcv(config, threads))
    return output / "train.beton"


@pytest.fixture(scope="module")
def copied(image_folder, tmp_path_factory):
    """The training images with their bytes, in one file. Read-only."""
    return write(image_folder / "train", tmp_path_factory.mktemp("beton") / "train")


@pytest.fixture
def copy(copied, tmp_path):
    """A copy of the folder of `copied`, to be damaged."""
    return shutil.copytree(copied.parent, tmp_path / "train") / copied.name


@pytest.fixture
def odd_folder(photographs, tmp_path):
    """Images that FFCV cannot write, or decodes to something else."""
    root = tmp_path / "odd"
    (root / "n00000001").mkdir(parents=True)
    picture = photographs[0][:90, :120]
    pictures = {
        "cmyk": encode_jpeg(np.dstack([picture, picture[..., 0] // 4])),
        "gray": encode_jpeg(picture[..., 0]),
        "plain": encode_jpeg(picture),
        "progressive": encode_jpeg(picture, progressive=True),
    }
    for name, data in pictures.items():
        (root / "n00000001" / f"{name}.JPEG").write_bytes(data)
    Image.fromarray(picture).save(root / "n00000001" / "rgb.JPEG", "PNG")
    Image.fromarray(picture).convert("P").save(root / "n00000001" / "palette.png")
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(root / "n00000001" / "deep.png")
    return root


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def pixels(sample):
    return sample.data if sample.data.ndim == 3 else decode(bytes(sample.data))


def ffcv_pixels(path, size, count):
    """Return the centres of the images, `size` pixels wide, and the labels, by FFCV's Loader."""
    from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
    from ffcv.loader import Loader, OrderOption

    loader = Loader(
        str(path),
        batch_size=count,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        pipelines={
            "image": [CenterCropRGBImageDecoder((size, size), 1.0)],
            "label": [IntDecoder()],
        },
    )
    [(images, labels)] = [(np.array(x), np.array(y)) for x, y in loader]
    del loader
    gc.collect()  # here, where what dies is known, and not in a test of something else
    return images, labels[:, 0]


def centre(picture, size):
    """FFCV's CenterCrop, with PIL's area filter."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    box = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(box.resize((size, size), Image.Resampling.BOX))


@pytest.mark.parametrize("config", [COPY, RAW], ids=lambda c: c.mode)
def test_ffcv_reads_what_was_written(image_folder, tmp_path, config):
    path = write(image_folder / "train", tmp_path / "train", config)
    source = FfcvSource(path)
    images, labels = ffcv_pixels(path, 16, len(source))
    in_file = [int(source.describe(i).split("sample ")[1].split()[0]) for i in range(len(source))]
    assert np.array_equal(labels[in_file], source.labels)
    for place, sample in zip(in_file, source.read_many(range(len(source))), strict=True):
        # FFCV's decoder uses the fast transform, and OpenCV's area filter other weights.
        expected = centre(pixels(sample), 16).astype(int)
        assert np.abs(images[place].astype(int) - expected).mean() < 4


def test_ffcv_sees_the_right_pixels_of_odd_images(odd_folder, tmp_path):
    path = write(odd_folder, tmp_path / "train", layout=KEPT)
    images, _ = ffcv_pixels(path, 45, 7)
    files = sorted((odd_folder / "n00000001").iterdir(), key=lambda p: p.stem)
    assert files[1].stem == "deep"
    for file, image in zip(files, images, strict=True):
        whole = np.asarray(Image.open(file).convert("RGB") if file.stem != "deep" else 0)
        if file.stem == "deep":
            deep = (np.asarray(Image.open(file)) >> 8).astype(np.uint8)
            whole = np.repeat(deep[..., None], 3, axis=2)
        assert np.abs(image.astype(int) - centre(whole, 45)).mean() < 4, file


def test_copying_keeps_keys_labels_sizes_and_bytes(image_folder, copied):
    folder, source = open_source(image_folder / "train"), open_source(copied.parent)
    assert isinstance(source, FfcvSource)
    assert source.classes == folder.classes
    everything = range(len(folder))
    for ours, theirs in zip(
        source.read_many(everything), folder.read_many(everything), strict=True
    ):
        assert ours._replace(data=0) == theirs._replace(data=0)
        assert bytes(ours.data) == bytes(theirs.data)


def test_copying_keeps_pixels_of_what_is_no_plain_jpeg(odd_folder, tmp_path):
    source = FfcvSource(write(odd_folder, tmp_path / "train"))
    folder = open_source(odd_folder)
    for ours, theirs in zip(source.read_many(range(7)), folder.read_many(range(7)), strict=True):
        name = theirs.key.split("/")[1]
        assert (ours.data.ndim == 1) == (name in ("gray", "plain", "progressive"))
        if name != "deep":
            assert np.array_equal(pixels(ours), decode(bytes(theirs.data)))


def test_raw_mode_keeps_the_decoded_pixels(image_folder, tmp_path):
    source = FfcvSource(write(image_folder / "val", tmp_path / "train", RAW))
    folder = open_source(image_folder / "val")
    everything = range(len(folder))
    for ours, theirs in zip(
        source.read_many(everything), folder.read_many(everything), strict=True
    ):
        assert ours.key == theirs.key
        assert np.array_equal(ours.data, decode(bytes(theirs.data)))


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (FfcvConfig(mode="jpg", max_resolution=64, quality=70), (0, 0)),
        (FfcvConfig(mode="raw", max_resolution=64), (1, 1)),
        (FfcvConfig(mode="proportion", compress_probability=0.5, max_resolution=64), (0.2, 0.8)),
        (FfcvConfig(mode="smart", smart_threshold=9000, max_resolution=64), (0.1, 0.9)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_modes_store_the_share_of_pixels_that_they_name(image_folder, tmp_path, config, shares):
    source = FfcvSource(write(image_folder / "train", tmp_path / "train", config))
    samples = source.read_many(range(len(source)))
    assert max(max(s.width, s.height) for s in samples) == 64
    assert all(pixels(s).shape == (s.height, s.width, 3) for s in samples)
    low, high = shares
    assert low <= np.mean([s.data.ndim == 3 for s in samples]) <= high


@pytest.mark.parametrize("mode", ["copy", "proportion"])
def test_any_number_of_threads_gives_the_same_bytes(image_folder, tmp_path, mode):
    folder, config = image_folder / "val", FfcvConfig(mode=mode)
    one = write(folder, tmp_path / "one" / "train", config, threads=1)
    four = write(folder, tmp_path / "four" / "train", config, threads=4)
    for name in (one.name, INDEX_NAME, "manifest.json"):
        assert (one.parent / name).read_bytes() == (four.parent / name).read_bytes()


def test_source_survives_pickling(copied):
    source = FfcvSource(copied)
    again = pickle.loads(pickle.dumps(source))
    assert [s.key for s in again.read_many([0, 9])] == [s.key for s in source.read_many([0, 9])]


def test_storage_order_is_that_of_the_bytes(copied):
    source = FfcvSource(copied)
    places = [int(source.describe(i).split("sample ")[1].split()[0]) for i in source.storage_order]
    assert places == list(range(len(source)))


def test_all_unusable_images_are_named_and_nothing_is_left(image_folder, tmp_path):
    folder = shutil.copytree(image_folder / "train", tmp_path / "images")
    bad = sorted(folder.glob("*/*"))[5::20]
    for number, file in enumerate(bad):
        file.write_bytes([b"<html>", file.read_bytes()[:900], b"\0" * 99][number % 3])
    with pytest.raises(UnusableInputError) as caught:
        write(folder, tmp_path / "train")
    named = {problem.where for problem in caught.value.problems}
    assert named == {str(file.relative_to(folder)) for file in bad}
    assert not list((tmp_path / "train").glob("*.beton*"))


def test_unusable_images_are_left_out_if_wanted(image_folder, tmp_path):
    folder = shutil.copytree(image_folder / "train", tmp_path / "images")
    bad = sorted(folder.glob("*/*"))[7]
    bad.write_bytes(b"no image")
    source = FfcvSource(write(folder, tmp_path / "train", on_error="skip"))
    expected = [s.key for s in open_source(image_folder / "train").read_many(range(62))]
    expected.remove(f"{bad.parent.name}/{bad.stem}")
    assert [s.key for s in source.read_many(range(61))] == expected
    manifest = read_manifest(tmp_path / "train")
    assert manifest is not None
    assert [left["where"] for left in manifest["left_out"]] == [f"{bad.parent.name}/{bad.name}"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_image_larger_than_a_page_gets_a_larger_page(image_folder, tmp_path, caplog):
    folder = shutil.copytree(image_folder / "val", tmp_path / "images")
    side = 1700
    assert 3 * side * side > MIN_PAGE_BYTES
    whole = Image.new("RGB", (side, side), (200, 30, 90))
    whole.save(folder / "n01440764" / "large.png")
    path = write(folder, tmp_path / "train", RAW)
    assert "beginning anew with pages of 16777216 bytes" in caplog.text
    source = FfcvSource(path)
    [large] = [s for s in source.read_many(range(len(source))) if s.key == "n01440764/large"]
    assert np.array_equal(large.data, np.asarray(whole))
    images, _ = ffcv_pixels(path, 8, len(source))
    assert (images == (200, 30, 90)).all(axis=(1, 2, 3)).sum() == 1


def test_killed_writer_leaves_nothing_under_the_final_name(image_folder, tmp_path):
    script = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import pipeline.prepare.writers.ffcv_writer as b
from tests.prepare.test_ffcv_writer import write
seen = []
original = b.encode_entry
def killed(job, config, entry):
    seen.append(entry)
    if len(seen) == 38:
        folder = Path({str(tmp_path / "train")!r})
        while not list(folder.glob("*.beton.*.part")):  # the first images are being written
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    return original(job, config, entry)
b.encode_entry = killed
write(Path({str(image_folder / "train")!r}), Path({str(tmp_path / "train")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "train").glob("*.beton.*.part"))
    assert not (tmp_path / "train" / "train.beton").exists()
    with pytest.raises(DataError, match="the conversion is not finished"):
        open_source(tmp_path / "train")
    again = write(image_folder / "train", tmp_path / "train")
    undisturbed = write(image_folder / "train", tmp_path / "other" / "train")
    assert again.read_bytes() == undisturbed.read_bytes()
    assert names(again.parent) == names(undisturbed.parent)


@pytest.mark.parametrize("room", [5_000_000, -1], ids=str)
def test_full_disk_is_reported_and_leaves_nothing(image_folder, copied, tmp_path, room):
    # A limit on the size of files acts as a full disk does: a write is cut short, the next fails.
    limit = room if room > 0 else copied.stat().st_size + room
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tools import check_data, make_shards
import pipeline.prepare.writers.ffcv_writer
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(make_shards.main([
    {str(image_folder)!r}, "--output", {str(tmp_path / "out")!r},
    "--format", "ffcv", "--split", "train",
]))
"""
    full = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert full.returncode == 74
    assert names(tmp_path / "out" / "train") == [".parts"]
    assert make_shards.main([str(image_folder), "--output", str(tmp_path / "out")]) == 73
    again = write(image_folder / "train", tmp_path / "out" / "train")
    assert again.read_bytes() == copied.read_bytes()


def test_second_run_finds_the_finished_file(image_folder, copied):
    before = copied.stat()
    write(image_folder / "train", copied.parent)
    assert copied.stat() == before
    with pytest.raises(OutputError, match="made from other options"):
        write(image_folder / "train", copied.parent, RAW)


@pytest.mark.parametrize("bytes_off", [1, 23, 24, 500, 1500, 100_000])
@pytest.mark.parametrize("with_index", [True, False])
def test_cut_off_file_is_refused(copy, bytes_off, with_index):
    if not with_index:
        (copy.parent / INDEX_NAME).unlink()
    os.truncate(copy, copy.stat().st_size - bytes_off)
    with pytest.raises(DataError, match=rf"{copy.name}: "):
        open_source(copy)


def test_file_of_a_killed_ffcv_writer_is_refused(copy):
    (copy.parent / INDEX_NAME).unlink()
    with copy.open("r+b") as file:  # it writes the header with a table at 0 first, and then pages
        file.seek(16)
        file.write(bytes(8))
    with pytest.raises(DataError, match="no table of them at the end"):
        open_source(copy)


def test_file_that_is_no_beton_is_refused(tmp_path):
    (tmp_path / "train.beton").write_bytes(b"\x1f\x8b" * 5000)
    with pytest.raises(DataError, match="not an FFCV file of version 2"):
        open_source(tmp_path / "train")


def test_flipped_bit_in_an_image_is_found_when_it_is_read(copy):
    source = FfcvSource(copy)
    data = bytes(source.read_many([20])[0].data)
    content = bytearray(copy.read_bytes())
    content[content.find(data) + 300] ^= 4
    copy.write_bytes(content)
    damaged = FfcvSource(copy)
    damaged.read_many([i for i in range(len(damaged)) if i != 20])
    with pytest.raises(DataError, match=r"sample \d+ \(n01443537/.*\): the bytes are damaged"):
        damaged.read_many([20])


def test_changed_label_is_found(copy):
    content = bytearray(copy.read_bytes())
    labels = 24 + 2 * 1041 + 16
    content[labels] ^= 1
    copy.write_bytes(content)
    with pytest.raises(DataError, match="was made for another file, or one of them is damaged"):
        open_source(copy)


@pytest.fixture
def foreign(image_folder, tmp_path):
    """A file as others write them: FFCV's own writer, fields named otherwise, no index."""
    from ffcv.fields import FloatField, IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    source = open_source(image_folder / "val")
    samples = [(0.5, pixels(s), s.label) for s in source.read_many(range(len(source)))][::-1]
    fields = {"weight": FloatField(), "pixels": RGBImageField("raw"), "y": IntField()}
    path = tmp_path / "val.beton"
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(samples)
    return path


def test_file_made_by_others_opens_with_numbered_classes(foreign, image_folder):
    source, folder = open_source(foreign.with_suffix("")), open_source(image_folder / "val")
    assert source.classes == ("0", "1", "2", "3", "4")
    assert list(source.labels) == sorted(source.labels) == list(folder.labels)
    expected = {pixels(s).tobytes(): s.label for s in folder.read_many(range(22))}
    got = source.read_many(range(22))
    assert {s.data.tobytes(): s.label for s in got} == expected
    assert [s.key for s in got][:2] == ["000000018", "000000019"]


def test_classes_of_a_file_made_by_others_can_be_given(foreign):
    names = ("ant", "bee", "cat", "dog", "eel")
    source = FfcvSource(foreign, classes=names)
    assert source.classes == pickle.loads(pickle.dumps(source)).classes == names
    with pytest.raises(DataError, match="labels up to 4, but 2 classes are given"):
        FfcvSource(foreign, classes=("a", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_resolution": 64}, "copy keeps the bytes"),
        ({"mode": "smart"}, "needs a smart_threshold"),
        ({"mode": "raw", "smart_threshold": 9}, "and no other"),
        ({"mode": "jpg", "quality": 0}, r"quality must be in 1\.\.100, got 0"),
        ({"mode": "proportion", "compress_probability": 2.0}, "compress_probability must be in"),
    ],
)
def test_options_without_effect_or_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(FfcvConfig(), **change)


def test_damaged_tables_are_refused_in_words_or_harmless(copy):
    (copy.parent / INDEX_NAME).unlink()
    content, rng = copy.read_bytes(), np.random.default_rng(0)
    rows_end, table = 24 + 2 * 1041 + 62 * 24, int.from_bytes(content[16:24], "little")
    refused = 0
    for start, end in [(0, 24), (24, rows_end), (table, len(content))] * 60:
        places = rng.integers(start, end, 2).tolist()
        with copy.open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(rng.bytes(1))
        try:
            source = FfcvSource(copy)
            assert len(source.read_many(range(len(source)))) == 62
        except DataError:
            refused += 1
        with copy.open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(content[place : place + 1])
    assert refused > 90


def flip_a_bit(file, data):
    content = bytearray(file.read_bytes())
    content[content.find(data) + len(data) // 2] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("options", [[], ["--deep"]], ids=["", "deep"])
def test_check_data_finds_nothing_in_a_sound_file(copied, options, capsys):
    assert check_data.main([str(copied.parent), *options]) == 0
    assert "62 images in 1 shard: sound" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--deep"]], ids=["", "deep"])
def test_check_data_names_the_damaged_sample(copy, image_folder, options, capsys):
    [sample] = FfcvSource(copy).read_many([33])
    flip_a_bit(copy, bytes(sample.data))
    assert check_data.main([str(copy.parent), *options]) == 2
    out = capsys.readouterr().out
    assert "1 problem" in out
    assert f"train.beton:{sample.key}: damaged sample" in out
    assert check_data.main([str(copy.parent), "--repair", str(image_folder)]) == 2
    assert "an FFCV file is made again as a whole" in capsys.readouterr().out


def test_check_data_names_a_file_that_was_cut_off(copy, capsys):
    os.truncate(copy, 9_000_000)
    assert check_data.main([str(copy.parent)]) == 2
    assert "train.beton: shard of another size: 9000000 bytes" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["copy", "raw", "jpg"])
def test_planned_size_is_about_that_of_the_file(image_folder, tmp_path, mode):
    config = FfcvConfig(mode=mode)
    conversion = FfcvConversion(
        scan=scan_class_folders(image_folder / "train"),
        folder=tmp_path / "train",
        split="train",
        beton=config,
    )
    planned = conversion.planned_bytes()
    assert not (tmp_path / "train").exists()
    [manifest] = [convert(conversion, silent, run=run_ffcv(config, 2))]
    assert manifest is not None
    assert abs(planned - manifest["bytes"]) < MIN_PAGE_BYTES
