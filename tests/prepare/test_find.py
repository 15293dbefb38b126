"""Every layout that data sets come in is listed as what it is, and becomes the same shards."""

import io
import shutil
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.io

from pipeline.errors import DataError, OutputError
from pipeline.formats.open import open_source
from pipeline.prepare.conversion.manifest import read_manifest
from pipeline.prepare.layouts.find import find_layout
from pipeline.prepare.writers.folder_writer import write_class_folders
from pipeline.storage.tar_reader import TarReader, location_of, members
from tests.support.pictures import CLASSES
from tools import make_folders, make_shards

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
OFFICIAL_ORDER = (3, 0, 4, 1, 2)
"""The devkit numbers its classes neither by name nor by WordNet id."""


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            add(archive, name, data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sorted_folder(image_folder, tmp_path_factory):
    """ImageNet as class folders, the validation images with their official names. Read-only."""
    root = tmp_path_factory.mktemp("sorted") / "imagenet"
    shutil.copytree(image_folder / "train", root / "train")
    files = sorted((image_folder / "val").glob("*/*"))
    for place, number in enumerate(np.random.default_rng(0).permutation(len(files))):
        target = root / "val" / files[place].parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[place], target / f"ILSVRC2012_val_{number + 1:08d}.JPEG")
    return root


def val_files(sorted_folder):
    return sorted((sorted_folder / "val").glob("*/*"), key=lambda path: path.name)


def write_kaggle(root, sorted_folder):
    images = root / "ILSVRC" / "Data" / "CLS-LOC"
    shutil.copytree(sorted_folder / "train", images / "train")
    (images / "val").mkdir()
    (images / "test").mkdir()
    (images / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"not labelled")
    lines = ["ImageId,PredictionString"]
    for file in val_files(sorted_folder)[::-1]:
        shutil.copy(file, images / "val")
        lines.append(f"{file.stem},{file.parent.name} 85 1 499 272 {file.parent.name} 1 2 3 4 ")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    mapping = "".join(f"{name} goldfish, Carassius auratus\n" for name in CLASSES)
    (root / "LOC_synset_mapping.txt").write_text(mapping)
    return root


def write_tars(root, sorted_folder):
    root.mkdir(parents=True)
    train = {}
    for folder in sorted((sorted_folder / "train").iterdir())[::-1]:
        files = sorted(folder.iterdir(), key=lambda path: path.stat().st_size)
        train[f"{folder.name}.tar"] = tar_of({f.name: f.read_bytes() for f in files})
    (root / TRAIN_TAR).write_bytes(tar_of(train))
    val = {file.name: file.read_bytes() for file in val_files(sorted_folder)}
    (root / VAL_TAR).write_bytes(tar_of(val))
    return root


def devkit_files(sorted_folder):
    """meta.mat with an inner node of the tree after the classes, as the real one has 860."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(n + 1, CLASSES[c], "a fish", 0) for n, c in enumerate(OFFICIAL_ORDER)]
    rows.append((len(CLASSES) + 1, "n00001740", "entity", 5))
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, kind)[:, None]})
    numbers = {CLASSES[c]: n + 1 for n, c in enumerate(OFFICIAL_ORDER)}
    truth = "".join(f"{numbers[f.parent.name]}\n" for f in val_files(sorted_folder))
    name = f"{DEVKIT}/data"
    return {
        f"{name}/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        f"{name}/meta.mat": meta.getvalue(),
        f"{DEVKIT}/readme.txt": b"...",
    }


def add_devkit_archive(root, sorted_folder):
    with tarfile.open(root / f"{DEVKIT}.tar.gz", "w:gz") as archive:
        for name, data in devkit_files(sorted_folder).items():
            add(archive, name, data)


def add_devkit_folder(root, sorted_folder):
    for name, data in devkit_files(sorted_folder).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def add_synset_labels(root, sorted_folder):
    lines = "".join(f"{file.parent.name}\n" for file in val_files(sorted_folder))
    (root / "imagenet_2012_validation_synset_labels.txt").write_text(lines)


def add_caffe_labels(root, sorted_folder):
    files = val_files(sorted_folder)[::-1]
    lines = "".join(f"{file.name} {CLASSES.index(file.parent.name)}\n" for file in files)
    (root / "val.txt").write_text(lines)


LABELS = [add_devkit_archive, add_devkit_folder, add_synset_labels, add_caffe_labels]


@pytest.fixture
def tars(sorted_folder, tmp_path):
    return write_tars(tmp_path / "tars", sorted_folder)


@pytest.fixture(scope="module")
def expected(sorted_folder, tmp_path_factory):
    """The manifests of shards made from the sorted folder."""
    output = tmp_path_factory.mktemp("expected")
    assert make_shards.main([str(sorted_folder), "--output", str(output)]) == 0
    return [read_manifest(output / split) for split in ("train", "val")]


def convert(source, output, *options):
    assert make_shards.main([str(source), "--output", str(output), *options]) == 0
    return [read_manifest(output / split) for split in ("train", "val")]


def assert_same_shards(manifests, expected):
    for ours, theirs in zip(manifests, expected, strict=True):
        for part in ("shards", "index", "class_counts", "options"):
            assert ours[part] == theirs[part]


@pytest.mark.parametrize("inside", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_imagenet_becomes_the_shards_of_class_folders(
    sorted_folder, expected, tmp_path, inside
):
    root = write_kaggle(tmp_path / "kaggle", sorted_folder)
    assert_same_shards(convert(root / inside, tmp_path / "out"), expected)


@pytest.mark.parametrize("add_labels", LABELS)
def test_the_official_archives_become_the_shards_of_class_folders(
    sorted_folder, expected, tars, tmp_path, add_labels
):
    add_labels(tars, sorted_folder)
    assert_same_shards(convert(tars, tmp_path / "out"), expected)


def test_shards_become_the_same_shards_again(sorted_folder, expected, tmp_path):
    convert(sorted_folder, tmp_path / "one", "--order", "kept", "--shard-samples", "7")
    assert_same_shards(convert(tmp_path / "one", tmp_path / "two"), expected)


def test_copying_to_ffcv_and_back_gives_the_same_shards(sorted_folder, expected, tmp_path):
    convert(sorted_folder, tmp_path / "ffcv", "--format", "ffcv")
    assert_same_shards(convert(tmp_path / "ffcv", tmp_path / "back"), expected)


def test_raw_pixels_survive_the_way_to_shards_and_back(sorted_folder, tmp_path):
    raw = ("--format", "ffcv", "--write-mode", "raw")
    convert(sorted_folder, tmp_path / "raw", *raw)
    convert(tmp_path / "raw", tmp_path / "png")
    convert(tmp_path / "png", tmp_path / "back", *raw)
    one, back = (tmp_path / name / "val" / "val.beton" for name in ("raw", "back"))
    assert one.read_bytes() == back.read_bytes()
    assert open_source(tmp_path / "png" / "val").classes == CLASSES


def test_files_beside_a_split_are_its_beton(sorted_folder, tmp_path):
    convert(sorted_folder, tmp_path / "ffcv", "--format", "ffcv")
    (tmp_path / "plain").mkdir()
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in CLASSES))
    for split in ("train", "val"):
        file = tmp_path / "ffcv" / split / f"{split}.beton"
        shutil.copy(file, tmp_path / "plain")
    manifests = convert(tmp_path / "plain", tmp_path / "out", "--classes", str(names))
    assert [m["class_counts"] for m in manifests] == [
        {name: len(list((sorted_folder / split / name).iterdir())) for name in CLASSES}
        for split in ("train", "val")
    ]


def problems_of(scan):
    return {(problem.kind, problem.where) for problem in scan.problems}


def test_images_that_do_not_fit_kaggles_solution_are_named(sorted_folder, tmp_path):
    root = write_kaggle(tmp_path / "kaggle", sorted_folder)
    folder = root / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    (folder / "ILSVRC2012_val_00000003.JPEG").rename(folder / "stranger.JPEG")
    solution = root / "LOC_val_solution.csv"
    lines = solution.read_text().splitlines()
    lines[1] = lines[1].replace(lines[1].split(",")[1].split()[0], "n99999999")
    solution.write_text("\n".join(lines))
    scan = find_layout(root).splits["val"]()
    assert problems_of(scan) == {
        ("no label", "stranger.JPEG"),
        ("missing file", "ILSVRC2012_val_00000003"),
        ("unknown class", lines[1].split(",")[0] + ".JPEG"),
    }


@pytest.mark.parametrize("content", [None, "", "a,b\n", "ImageId,PredictionString\nx\n"])
def test_kaggle_without_usable_solution_is_refused(sorted_folder, tmp_path, content):
    root = write_kaggle(tmp_path / "kaggle", sorted_folder)
    solution = root / "LOC_val_solution.csv"
    solution.unlink()
    if content is not None:
        solution.write_text(content)
    with pytest.raises(DataError, match=r"LOC_val_solution\.csv: "):
        find_layout(root).splits["val"]()


def test_archive_without_labels_says_what_is_missing(tars):
    with pytest.raises(DataError, match=rf"put {DEVKIT}\.tar\.gz .* beside the archive"):
        find_layout(tars).splits["val"]()


def test_more_images_than_labels_are_named(sorted_folder, tars):
    add_synset_labels(tars, sorted_folder)
    labels = tars / "imagenet_2012_validation_synset_labels.txt"
    labels.write_text("\n".join(labels.read_text().split()[:-2]))
    scan = find_layout(tars).splits["val"]()
    names = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in (21, 22)]
    assert problems_of(scan) == {("no label", name) for name in names}


@pytest.mark.parametrize("damage", ["truth", "meta", "archive"])
def test_damaged_devkit_is_refused(sorted_folder, tars, damage):
    if damage == "archive":
        add_devkit_archive(tars, sorted_folder)
        path = tars / f"{DEVKIT}.tar.gz"
        path.write_bytes(path.read_bytes()[:-300])
    else:
        add_devkit_folder(tars, sorted_folder)
        name = {"truth": "ILSVRC2012_validation_ground_truth.txt", "meta": "meta.mat"}[damage]
        (tars / DEVKIT / "data" / name).write_bytes(b"7\n9\n")
    with pytest.raises(DataError, match=DEVKIT):
        find_layout(tars).splits["val"]()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.35, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR])
def test_cut_off_archive_is_refused(sorted_folder, tars, name, share):
    add_synset_labels(tars, sorted_folder)
    data = (tars / name).read_bytes().rstrip(b"\0")
    (tars / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=name):
        find_layout(tars).splits["val" if name == VAL_TAR else "train"]()


def test_archive_cut_off_between_two_members_is_refused(sorted_folder, tars):
    add_synset_labels(tars, sorted_folder)
    last = list(members(tars / VAL_TAR))[-1]
    with (tars / VAL_TAR).open("r+b") as file:
        file.truncate(last.offset - 512)
    with pytest.raises(DataError, match="no end of archive there"):
        find_layout(tars).splits["val"]()


def test_names_in_archives_never_become_paths(sorted_folder, tmp_path):
    picture = next((sorted_folder / "train").glob("*/*")).read_bytes()
    files = {
        "../../../escaped.JPEG": picture,
        "/etc/absolute.JPEG": picture,
        "n01440764/../../x.JPEG": picture,
        "...JPEG": picture,
        "with blank.JPEG": picture,
    }
    inner = tar_of(files)
    root = tmp_path / "tars"
    root.mkdir()
    (root / TRAIN_TAR).write_bytes(tar_of({"../n01440764.tar": inner, "...tar": inner}))
    scan = find_layout(root).splits["train"]()
    assert scan.classes == ("n01440764",)
    assert scan.ignored == {"...tar": 1, ".jpeg": 1}
    assert sorted(scan.keys.to_pylist()) == [
        "n01440764/absolute",
        "n01440764/escaped",
        "n01440764/with%20blank",
        "n01440764/x",
    ]
    output = tmp_path / "deep" / "out"
    arguments = [str(root), "--output", str(output), "--split", "train"]
    assert make_shards.main(arguments) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"tars", "deep"}


def test_links_and_devices_in_archives_are_not_followed(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{kind!r}.JPEG")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        add(archive, "file.JPEG", b"content")
    [member] = members(path)
    assert TarReader(str(path)).read(location_of(member)) == b"content"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_all_kinds_of_archives_are_found(tmp_path, kind):
    path, long_name = tmp_path / "a.tar", "d" * 90 + "/" + "n" * 95 + ".JPEG"
    with tarfile.open(path, "w", format=kind) as archive:
        for number, name in enumerate(("a.JPEG", long_name, "b.JPEG")):
            add(archive, name, bytes([number]) * (600 * number + 1))
    found, reader = list(members(path)), TarReader(str(path))
    assert [member.name for member in found] == ["a.JPEG", Path(long_name).name, "b.JPEG"]
    for number, member in enumerate(found):
        assert reader.read(location_of(member)) == bytes([number]) * (600 * number + 1)


def write_list(path, rows, header=True):
    lines = ["path,label"] * header + [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("header", [True, False])
def test_a_list_names_images_and_classes(image_folder, tmp_path, header):
    names = ("zebra", "ant", "bee", "cat", "dog")
    for split in ("train", "val"):
        files = sorted((image_folder / split).glob("*/*"))
        rows = [(f, names[CLASSES.index(f.parent.name)]) for f in files]
        if split == "val":
            rows = [(f.relative_to(image_folder), name) for f, name in rows[::-1]]
        write_list(tmp_path / f"{split}.csv", rows, header)
    lists = {split: tmp_path / f"{split}.csv" for split in ("train", "val")}
    layout = find_layout(image_folder, lists=lists)
    for split, scan in ((split, list_images()) for split, list_images in layout.splits.items()):
        assert scan.problems == ()
        assert scan.classes == ("ant", "bee", "cat", "dog", "zebra")
        for i in range(len(scan)):
            file = image_folder / scan.location(i)
            assert scan.keys[i].as_py() == str(file.relative_to(image_folder).with_suffix(""))
            expected_name = names[CLASSES.index(file.parent.name)]
            assert scan.classes[scan.labels[i]] == expected_name
            assert scan.sizes[i] == file.stat().st_size
        assert len(scan) == {"train": 62, "val": 22}[split]


def test_lists_in_the_source_are_found(image_folder, tmp_path):
    root = shutil.copytree(image_folder, tmp_path / "flat")
    for split in ("train", "val"):
        files = sorted((root / split).glob("*/*"))
        rows = [(f.relative_to(root), 10 + CLASSES.index(f.parent.name)) for f in files]
        write_list(root / f"{split}.csv", [*rows, (rows[0][0], 3)][-len(rows) - 1 :])
    scan = find_layout(root).splits["val"]()
    assert scan.classes == tuple(f"{label:02d}" for label in range(15))
    assert set(scan.labels.tolist()) == {10, 11, 12, 13, 14}
    kinds = [kind for kind, _ in problems_of(scan)]
    assert kinds.count("empty class") == 10
    assert kinds.count("same key") == 1


@pytest.mark.parametrize(
    ("train", "val", "given", "expected"),
    [
        ("ant bee cat", "1 bee", None, {"bee"}),  # a number is no name of a class
        ("2 0 1", "1 bee", None, {"1"}),
        ("0 1 2", "1 1", ("5", "3", "1"), {"3"}),  # nor is a position a name
        ("5 3 x", "3 x", ("5", "3", "x"), {"3", "x"}),
    ],
)
def test_labels_are_all_names_or_all_numbers(image_folder, tmp_path, train, val, given, expected):
    files = sorted((image_folder / "train").glob("*/*"))
    for split, labels in (("train", train.split()), ("val", val.split())):
        rows = [(f.relative_to(image_folder), n) for f, n in zip(files, labels, strict=False)]
        write_list(tmp_path / f"{split}.csv", rows)
    lists = {split: tmp_path / f"{split}.csv" for split in ("train", "val")}
    scan = find_layout(image_folder, lists=lists, classes=given).splits["val"]()
    assert {scan.classes[label] for label in scan.labels} == expected
    refused = [p for p in scan.problems if p.kind == "unknown class"]
    assert len(scan) + len(refused) == 2


def test_a_number_that_would_make_millions_of_classes_is_refused(image_folder, tmp_path):
    write_list(tmp_path / "train.csv", [(next(image_folder.glob("train/*/*")), 20240101)])
    with pytest.raises(DataError, match="20240101 stands for 20,240,102 classes"):
        find_layout(image_folder, lists={"train": tmp_path / "train.csv"})


def test_tables_beside_class_folders_are_not_taken_for_lists(image_folder, tmp_path):
    root = shutil.copytree(image_folder, tmp_path / "set")
    (root / "train.csv").write_text("id,width,label\n1,2,3\n")
    (root / "val.csv").write_bytes(b"\xff\xfe")
    assert len(find_layout(root).splits["train"]()) == 62


def test_lines_that_cannot_be_used_are_named(image_folder, tmp_path):
    file = next((image_folder / "train").glob("*/*")).relative_to(image_folder)
    good = [(file, "fish")]
    write_list(tmp_path / "train.csv", good)
    bad = [("gone.JPEG", "fish"), ("train", "fish"), (file, "shark"), ("only a path",)]
    write_list(tmp_path / "val.csv", [*good, *bad])
    lists = {split: tmp_path / f"{split}.csv" for split in ("train", "val")}
    scan = find_layout(image_folder, lists=lists).splits["val"]()
    assert problems_of(scan) == {
        ("unreadable file", "gone.JPEG"),
        ("not a file", "train"),
        ("unknown class", "val.csv:5"),
        ("bad line", "val.csv:6"),
    }


def test_keys_of_listed_files_stay_inside_the_archive(image_folder, tmp_path):
    shutil.copytree(image_folder / "val" / CLASSES[0], tmp_path / "pictures, old")
    files = sorted((tmp_path / "pictures, old").iterdir())
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    rows = [(f'"../../pictures, old/{files[0].name}"', 0), (f'"{files[1]}"', 0)]
    write_list(root / "train.csv", rows)
    scan = find_layout(root).splits["train"]()
    assert scan.keys.to_pylist() == [f"pictures,%20old/{f.stem}" for f in files[:2]]
    assert scan.reader.read(scan.location(1)) == files[1].read_bytes()


def test_unknown_source_is_told_what_would_be_known(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"it holds photos\. Known are: train/ and val/"):
        find_layout(tmp_path)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(DataError, match=r"photos\.zip: a file of no known kind"):
        find_layout(tmp_path / "photos.zip")


def test_a_source_one_step_aside_is_told_what_to_name(image_folder, tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "imagenet").symlink_to(image_folder)
    (tmp_path / "hub" / "data").mkdir(parents=True)
    parquet = tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    parquet.touch()
    tar = tmp_path / "hub" / "train-0000.tar"
    tar.touch()
    picture = next((image_folder / "val").glob("*/*"))
    classes = tmp_path / "classes" / "cat"
    classes.mkdir(parents=True)
    shutil.copy(picture, classes)
    make = "tools/make_shards.py"
    for source, words in (
        (image_folder / "train", f"one split of a data set; name the folder above: {make}"),
        (image_folder / "train", f"{make} {image_folder.resolve()} --split train"),
        (tmp_path / "sets", f"it holds 1 data set (imagenet); name one: {make} {tmp_path}/sets/im"),
        (parquet, f"one Parquet file; name the folder of all: {make} {tmp_path}/hub"),
        (tar, f"one archive; name the folder of all: {make} {tmp_path}/hub"),
        (picture, "one image; name the folder that holds train/ and val/"),
        (classes.parent, f"move them into {tmp_path}/classes/train, and add --val-fraction 0.05"),
    ):
        with pytest.raises(DataError) as refusal:
            find_layout(source)
        assert words in str(refusal.value)
        assert "Known are" not in str(refusal.value)


def test_missing_split_is_named(image_folder, tmp_path, capsys):
    shutil.copytree(image_folder / "train", tmp_path / "set" / "train")
    arguments = [str(tmp_path / "set"), "--output", str(tmp_path / "out")]
    assert make_shards.main(arguments) == 2
    message = "has no split val (there is train); --val-fraction 0.05 holds out some of train"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--write-mode", "raw"], "--write-mode has no effect without --format ffcv"),
        (["--format", "ffcv", "--metadata"], "--metadata has no effect without --format shards"),
        (["--format", "ffcv", "--part", "0/2"], "--part needs --format shards"),
        (["--format", "ffcv", "--write-mode", "raw", "--quality", "80"], "--quality has no effect"),
        (["--format", "ffcv", "--write-mode", "jpg", "--resize", "80"], "use --max-resolution"),
        (["--format", "ffcv", "--compress-probability", "0"], "without --write-mode proportion"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    image_folder, tmp_path, capsys, options, message
):
    arguments = [str(image_folder), "--output", str(tmp_path / "out"), *options]
    assert make_shards.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def tree(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.parametrize("options", [(), ("--format", "ffcv")], ids=["shards", "ffcv"])
def test_class_folders_come_back_from_what_was_made_of_them(sorted_folder, tmp_path, options):
    folder = shutil.copytree(sorted_folder, tmp_path / "in")
    odd = folder / "train" / CLASSES[0] / "täst 100%.dir" / "a.b c.JPEG"
    odd.parent.mkdir()
    picture = next((folder / "train" / CLASSES[0]).glob("*.JPEG"))
    shutil.copy(picture, odd)
    for split in ("train", "val"):
        (folder / split / "class 5.1 ü").mkdir()
        shutil.copy(picture, folder / split / "class 5.1 ü" / "1.jpeg")
    convert(folder, tmp_path / "made", *options)
    assert make_folders.main([str(tmp_path / "made"), "--output", str(tmp_path / "out")]) == 0
    expected = {str(Path(name).with_suffix(".jpg")): d for name, d in tree(folder).items()}
    assert tree(tmp_path / "out") == expected


def test_archives_become_class_folders(sorted_folder, tars, tmp_path):
    add_devkit_archive(tars, sorted_folder)
    assert make_folders.main([str(tars), "--output", str(tmp_path / "out")]) == 0
    expected = {str(Path(name).with_suffix(".jpg")): d for name, d in tree(sorted_folder).items()}
    assert tree(tmp_path / "out") == expected


def test_interrupted_folders_are_gone_on_with(sorted_folder, tmp_path):
    scan, output = find_layout(sorted_folder).splits["train"](), tmp_path / "train"

    def stop(images, size_bytes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_class_folders(scan, output, stop)
    assert not output.exists()
    [done] = list((tmp_path / "train.part").glob(f"{CLASSES[0]}/*_10.jpg"))
    before = done.stat()
    write_class_folders(scan, output, lambda images, size_bytes: None)
    assert (output / CLASSES[0] / done.name).stat().st_mtime_ns == before.st_mtime_ns
    assert len(tree(output)) == len(scan)
    with pytest.raises(OutputError, match="exists already"):
        write_class_folders(scan, output, stop)


@pytest.mark.parametrize(
    "key", ["../../escaped", "/absolute", "n01440764/..", "a//b", "a%2F..%2Fb", "a\0b", "x" * 300]
)
def test_hostile_keys_do_not_become_paths(sorted_folder, tmp_path, key):
    scan = find_layout(sorted_folder).splits["val"]()
    keys = [key, *scan.keys.to_pylist()[1:]]
    hostile = replace(scan, keys=pa.array(keys))
    output = tmp_path / "a" / "b" / "val"
    with suppress(DataError):
        write_class_folders(hostile, output, lambda images, size_bytes: None)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(output)]
    assert outside == []


def test_two_keys_of_one_file_are_refused(sorted_folder, tmp_path):
    scan = find_layout(sorted_folder).splits["val"]()
    keys = [*scan.keys.to_pylist()[:-2], "a%41~", "a%2541~"]
    with pytest.raises(DataError, match="two keys stand for one file"):
        write_class_folders(replace(scan, keys=pa.array(keys)), tmp_path / "val", print)


@pytest.mark.parametrize("stray", ["-1", "1.0", "one"])
def test_a_stray_label_among_numbers_makes_no_names_of_them(image_folder, tmp_path, stray):
    files = sorted((image_folder / "train").glob("*/*"))
    write_list(tmp_path / "train.csv", list(zip(files, [*"0123", stray], strict=False)))
    with pytest.raises(DataError, match=rf"4 labels are numbers, and '{stray}' is not"):
        find_layout(image_folder, lists={"train": tmp_path / "train.csv"})


def test_a_line_without_a_label_is_a_bad_line(image_folder, tmp_path):
    files = sorted((image_folder / "train").glob("*/*"))
    write_list(tmp_path / "train.csv", list(zip(files, ["0", "1", ""], strict=False)))
    layout = find_layout(image_folder, lists={"train": tmp_path / "train.csv"})
    scan = layout.splits["train"]()
    assert (len(scan), problems_of(scan)) == (2, {("bad line", "train.csv:4")})
