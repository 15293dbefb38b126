"""WebDataset shards that the webdataset library wrote become the shards of the same folders."""

import hashlib
import json
import shutil

import pytest
import webdataset

from pipeline.formats.open import open_source
from tests.support.pictures import CLASSES
from tools import make_shards

NAMES = {"train": "imagenet1k-train-%04d.tar", "val": "imagenet1k-validation-%02d.tar"}
"""As timm's imagenet-1k-wds has them."""
PER_SHARD = 15


def write_shards(image_folder, target, *, numbered=False, in_folders=False):
    """What the webdataset library writes of the class folders, in another order than theirs."""
    splits = {}
    for split, pattern in NAMES.items():
        folder = target / split if in_folders else target
        folder.mkdir(parents=True, exist_ok=True)
        files = sorted((image_folder / split).glob("*/*"), key=lambda path: path.name[::-1])
        with webdataset.ShardWriter(str(folder / pattern), maxcount=PER_SHARD, verbose=0) as sink:
            for place, file in enumerate(files):
                sink.write(
                    {
                        "__key__": f"{place % PER_SHARD:05d}" if numbered else file.stem,
                        "jpg": file.read_bytes(),
                        "cls": CLASSES.index(file.parent.name),
                        "json": {"filename": file.name},
                    }
                )
        lengths = [PER_SHARD] * (len(files) // PER_SHARD) + [len(files) % PER_SHARD]
        names = [pattern % i for i in range(len(lengths))]
        splits[split] = {"name": split, "filenames": names, "shard_lengths": lengths}
    (target / "_info.json").write_text(json.dumps({"splits": splits}))
    return target


@pytest.fixture(scope="module")
def theirs(image_folder, tmp_path_factory):
    """Read-only."""
    return write_shards(image_folder, tmp_path_factory.mktemp("theirs") / "imagenet-1k-wds")


@pytest.fixture(scope="module")
def class_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "classes.txt"
    path.write_text("\n".join(CLASSES) + "\n")
    return path


def make(source, output, *options):
    return make_shards.main([str(source), "--output", str(output), *options])


def shards_of(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*/*.tar")}


@pytest.mark.parametrize("in_folders", [False, True])
def test_with_the_names_of_the_classes_they_become_the_shards_of_the_folders(
    image_folder, class_file, tmp_path, in_folders
):
    source = write_shards(image_folder, tmp_path / "theirs", in_folders=in_folders)
    assert make(source, tmp_path / "mine", "--classes", str(class_file)) == 0
    assert make(image_folder, tmp_path / "expected") == 0
    assert shards_of(tmp_path / "mine") == shards_of(tmp_path / "expected")


def test_without_names_classes_are_called_by_their_numbers(theirs, tmp_path):
    assert make(theirs, tmp_path / "mine") == 0
    for split, count in (("train", 62), ("val", 22)):
        source = open_source(tmp_path / "mine" / split)
        assert source.classes == ("0", "1", "2", "3", "4")
        assert len(source) == count
        for sample in source.read_many(range(count)):
            name = sample.key.partition("/")[2].partition("_")[0]
            assert CLASSES[sample.label] == name


def test_serial_numbers_that_begin_anew_in_each_shard_lose_no_image(image_folder, tmp_path):
    source = write_shards(image_folder, tmp_path / "theirs", numbered=True)
    assert make(source, tmp_path / "mine") == 0
    assert len(open_source(tmp_path / "mine" / "train")) == 62


def test_a_finished_conversion_is_left_alone_and_another_makes_the_same(theirs, tmp_path, capsys):
    assert make(theirs, tmp_path / "mine", "--shard-samples", "10") == 0
    expected = shards_of(tmp_path / "mine")
    assert make(theirs, tmp_path / "mine", "--shard-samples", "10") == 0
    assert "already complete: 62 images" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "mine" / "train")
    assert make(theirs, tmp_path / "mine", "--shard-samples", "10") == 0
    assert shards_of(tmp_path / "mine") == expected


def test_shards_that_are_missing_or_short_are_refused(theirs, tmp_path, capsys):
    source = tmp_path / "theirs"
    shutil.copytree(theirs, source)
    (source / "imagenet1k-train-0002.tar").unlink()
    assert make(source, tmp_path / "mine") == 2
    assert "1 are missing, such as imagenet1k-train-0002.tar" in capsys.readouterr().err
    shutil.copy(source / "imagenet1k-train-0004.tar", source / "imagenet1k-train-0002.tar")
    assert make(source, tmp_path / "mine") == 2
    assert "has 2 samples, and 15 according to the description" in capsys.readouterr().err
    whole = (theirs / "imagenet1k-train-0002.tar").read_bytes()
    (source / "imagenet1k-train-0002.tar").write_bytes(whole[: len(whole) // 2])
    assert make(source, tmp_path / "mine") == 2
    assert "imagenet1k-train-0002.tar" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"cls": None}, "no label: there is no .cls"),
        ({"cls": b"cat"}, "no label: .cls holds b'cat', not a class number"),
        ({"cls": b"-1"}, "no label: .cls holds b'-1'"),
        ({"jpg": None}, "no image: a label without an image"),
    ],
)
def test_a_sample_that_lacks_a_part_is_named(image_folder, tmp_path, capsys, change, kind):
    source = tmp_path / "theirs"
    write_shards(image_folder, source)
    (source / "_info.json").unlink()
    odd = {"__key__": "odd", "jpg": b"x", "cls": b"1", **change}
    with webdataset.TarWriter(str(source / "imagenet1k-train-0009.tar")) as sink:
        sink.write({key: value for key, value in odd.items() if value is not None})
    assert make(source, tmp_path / "mine") == 2
    assert f"imagenet1k-train-0009.tar: odd: {kind}" in capsys.readouterr().err


def test_a_class_beyond_the_names_is_refused(theirs, tmp_path, capsys):
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(CLASSES[:4]) + "\n")
    assert make(theirs, tmp_path / "mine", "--classes", str(names)) == 2
    assert "unknown class: class 4, and there are 4" in capsys.readouterr().err
