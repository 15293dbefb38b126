"""Parquet files with the schema of Hugging Face's datasets become shards of the same images."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.formats.open import open_source
from pipeline.prepare.conversion.plan import PlanConfig, plan_shards
from pipeline.prepare.layouts import row_groups
from pipeline.prepare.layouts.find import find_layout
from tests.support.pictures import CLASSES
from tools import check_data, make_folders, make_shards

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
NAMES = {"train": "train-{:05d}-of-00002.parquet", "val": "validation-{:05d}-of-00001.parquet"}


def schema_of(names, *, image="image", label="label"):
    """What `datasets.Features.arrow_schema` is for an `Image` and a `ClassLabel`."""
    features = {
        image: {"_type": "Image"},
        label: {"names": list(names), "_type": "ClassLabel"},
    }
    return pa.schema(
        [(image, IMAGE), (label, pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def rows_of(folder):
    """All images of a split, mixed, as (bytes, file name, label)."""
    files = sorted(folder.glob("*/*"), key=lambda path: path.name[::-1])
    return [(f.read_bytes(), f.name, CLASSES.index(f.parent.name)) for f in files]


def write_rows(path, rows, schema, *, group_rows=7, **options):
    """One file, written as `Dataset.to_parquet` does: a row group after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, len(rows), group_rows):
            images, names, labels = zip(*rows[start : start + group_rows], strict=True)
            structs = [{"bytes": b, "path": n} for b, n in zip(images, names, strict=True)]
            columns = [pa.array(structs, IMAGE), pa.array(labels, pa.int64())]
            writer.write_table(pa.table(columns, schema=schema))


def export(image_folder, target, *, names=CLASSES, data=True, change=None, **options):
    """The folder's splits as a repository of the hub has them; `change` is done to each row."""
    folder = target / "data" if data else target
    for split, pattern in NAMES.items():
        rows = [change(row) if change else row for row in rows_of(image_folder / split)]
        count = int(pattern[-9:-8])
        for number in range(count):
            part = rows[number * len(rows) // count : (number + 1) * len(rows) // count]
            write_rows(folder / pattern.format(number), part, schema_of(names), **options)
    return target


@pytest.fixture(scope="module")
def theirs(image_folder, tmp_path_factory):
    """Read-only."""
    return export(image_folder, tmp_path_factory.mktemp("hub") / "tiny")


def make(source, output, *options):
    return make_shards.main([str(source), "--output", str(output), "--workers", "1", *options])


def shards_of(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*/*.tar")}


def images_of(folder):
    """Bytes of each image by its key."""
    source = open_source(folder)
    samples = source.read_many(range(len(source)))
    return {sample.key: (sample.label, sample.data.tobytes()) for sample in samples}


WRITERS = [
    {"use_content_defined_chunking": True, "write_page_index": True},
    {"compression": "zstd", "use_dictionary": False},
    {"compression": "none", "group_rows": 1000, "data_page_version": "2.0"},
    {"compression": "gzip", "use_dictionary": True, "group_rows": 1, "write_page_checksum": True},
]


@pytest.mark.parametrize("options", WRITERS, ids=lambda o: str(o.get("compression", "datasets")))
def test_they_become_the_shards_of_the_folders(image_folder, tmp_path, options):
    source = export(image_folder, tmp_path / "hub", data=options == WRITERS[0], **options)
    assert make(source, tmp_path / "mine", "--order", "kept") == 0
    assert make(image_folder, tmp_path / "expected", "--order", "kept") == 0
    assert shards_of(tmp_path / "mine") == shards_of(tmp_path / "expected")
    assert make(source, tmp_path / "mixed", "--shard-samples", "10") == 0
    for split in ("train", "val"):
        assert images_of(tmp_path / "mixed" / split) == images_of(tmp_path / "expected" / split)


def test_a_finished_conversion_is_left_alone_and_damage_is_mended(theirs, tmp_path, capsys):
    folder = tmp_path / "mine"
    assert make(theirs, folder, "--shard-samples", "10") == 0
    expected = shards_of(folder)
    assert make(theirs, folder, "--shard-samples", "10") == 0
    assert "already complete: 62 images" in capsys.readouterr().out
    shard = folder / "train" / "train-000003.tar"
    shard.write_bytes(shard.read_bytes()[:-20000] + bytes(20000))
    assert check_data.main([str(folder), "--repair", str(theirs), "--workers", "1"]) == 0
    assert shards_of(folder) == expected


def test_a_conversion_that_was_stopped_goes_on(theirs, tmp_path, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert make(theirs, whole, "--shard-samples", "10") == 0
    assert make(theirs, halves, "--shard-samples", "10", "--part", "0/2") == 0
    there = shards_of(halves)
    assert 0 < len(there) < len(shards_of(whole))
    assert make(theirs, halves, "--shard-samples", "10") == 0
    assert shards_of(halves) == shards_of(whole)


def test_they_become_the_class_folders_again(image_folder, theirs, tmp_path):
    assert make_folders.main([str(theirs), "--output", str(tmp_path / "folders")]) == 0
    for split in ("train", "val"):
        made = {f.stem: f.read_bytes() for f in (tmp_path / "folders" / split).glob("*/*")}
        given = {f.stem: f.read_bytes() for f in (image_folder / split).glob("*/*")}
        assert made == given


@pytest.mark.parametrize("path", [None, "image.jpg", ""])
def test_rows_without_names_of_their_own_get_the_number_of_the_row(image_folder, tmp_path, path):
    source = export(image_folder, tmp_path / "hub", change=lambda row: (row[0], path, row[2]))
    assert make(source, tmp_path / "mine") == 0
    given = rows_of(image_folder / "train")
    made = images_of(tmp_path / "mine" / "train")
    for row, (data, _, label) in enumerate(given):
        file, place = divmod(row, 31)
        key = f"{CLASSES[label]}/train-{file:05d}-of-00002-{place:06d}"
        assert made[key] == (label, data)
    folders = tmp_path / "folders"
    assert make_folders.main([str(source), "--output", str(folders), "--split", "val"]) == 0
    written = {hashlib.sha256(f.read_bytes()).digest() for f in folders.glob("val/*/*.jpg")}
    assert written == {hashlib.sha256(d).digest() for d, *_ in rows_of(image_folder / "val")}


def test_other_names_of_columns_are_found_and_the_fine_label_is_the_class(image_folder, tmp_path):
    rows = rows_of(image_folder / "train")
    features = {
        "img": {"_type": "Image"},
        "fine_label": {"names": list(CLASSES), "_type": "ClassLabel"},
        "coarse_label": {"names": ["a", "b"], "_type": "ClassLabel"},
    }
    images, names, labels = zip(*rows, strict=True)
    structs = [{"bytes": b, "path": n} for b, n in zip(images, names, strict=True)]
    table = pa.table(
        {"coarse_label": [0] * len(rows), "fine_label": labels, "img": pa.array(structs, IMAGE)}
    )
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "train-00000-of-00001.parquet")
    scan = find_layout(tmp_path).splits["train"]()
    assert scan.classes == CLASSES
    assert np.bincount(scan.labels).tolist() == [14, 12, 12, 9, 15]


def test_names_of_classes_may_be_given_or_are_numbers(image_folder, tmp_path):
    rows = rows_of(image_folder / "val")
    plain = schema_of(CLASSES).remove_metadata()
    write_rows(tmp_path / "train-00000-of-00001.parquet", rows, plain)
    assert find_layout(tmp_path).splits["train"]().classes == ("0", "1", "2", "3", "4")
    given = find_layout(tmp_path, classes=["a", "b", "c", "d", "e"]).splits["train"]()
    assert given.classes == ("a", "b", "c", "d", "e")


def test_a_labelled_test_split_is_val_and_one_without_labels_is_refused(
    image_folder, tmp_path, capsys
):
    rows = rows_of(image_folder / "val")
    write_rows(tmp_path / "hub/train-00000-of-00001.parquet", rows, schema_of(CLASSES))
    test = tmp_path / "hub/test-00000-of-00001.parquet"
    write_rows(test, rows, schema_of(CLASSES))
    assert len(find_layout(tmp_path / "hub").splits["val"]()) == len(rows)
    write_rows(test, [(data, name, -1) for data, name, _ in rows], schema_of(CLASSES))
    assert make(tmp_path / "hub", tmp_path / "mine") == 2
    error = capsys.readouterr().err
    assert "Parquet (test-00000-of-00001.parquet has images without classes)" in error
    assert "has no split val (there is train); --val-fraction 0.05 holds out some" in error
    assert make(tmp_path / "hub", tmp_path / "mine", "--val-fraction", "0.2") == 0
    assert make(tmp_path / "hub", tmp_path / "train", "--split", "train") == 0
    (tmp_path / "hub/train-00000-of-00001.parquet").unlink()
    assert make(tmp_path / "hub", tmp_path / "val", "--split", "val") == 2
    error = capsys.readouterr().err
    assert f"{test}: column label: none of the 22 rows of this split has a class (the" in error


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ((b"text", "a.jpg", 1), "  train: train-00000-of-00001.parquet:group 1:row 2:a.jpg: "),
        ((None, "/home/me/a.jpg", 1), "row 2:a.jpg: no image: the row has no bytes of an image"),
        ((b"", "a.jpg", 1), "group 1:row 2:a.jpg: "),
        (
            (b"x", "a.jpg", -1),
            "row 2:a.jpg: no label: column label has -1, and the classes are 0 to",
        ),
        ((b"x", "a.jpg", None), "row 2:a.jpg: no label: column label has null, and the classes"),
        ((b"x", "a.jpg", 5), "unknown class: column label has 5, and the classes are 0 to 4\n"),
        ((b"x", "../../../a\n.jpg", 9), "unknown class"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(
    image_folder, tmp_path, capsys, row, kind
):
    rows = rows_of(image_folder / "val")
    rows[9] = row
    write_rows(tmp_path / "hub/train-00000-of-00001.parquet", rows, schema_of(CLASSES))
    assert make(tmp_path / "hub", tmp_path / "mine", "--split", "train") == 2
    assert kind in capsys.readouterr().err
    skip = ("--split", "train", "--on-error", "skip")
    assert make(tmp_path / "hub", tmp_path / "mine", *skip) == 0
    assert len(open_source(tmp_path / "mine/train")) == len(rows) - 1


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        (pa.int64(), [None, -1], "column label: no row has a class (null or below 0)"),
        (pa.null(), [None, None], "column label: every row has null"),
        (pa.uint64(), [2**64 - 1, 0], "its column label goes up to 1000000; expected class"),
    ],
)
def test_labels_that_are_no_classes_are_told_with_their_column(
    tmp_path, capsys, kind, labels, words
):
    images = pa.array([{"bytes": b"x", "path": "a.jpg"}] * 2, IMAGE)
    path = tmp_path / "hub" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"image": images, "label": pa.array(labels, kind)}), path)
    assert make(path.parent, tmp_path / "mine", "--split", "train") == 2
    assert f"{path}: {words}" in capsys.readouterr().err


def test_damage_within_a_row_group_costs_only_its_images(image_folder, tmp_path, capsys):
    rows = rows_of(image_folder / "val")
    path = tmp_path / "hub/train-00000-of-00001.parquet"
    options = {"use_dictionary": ["label"], "write_page_checksum": True, "compression": "zstd"}
    write_rows(path, rows, schema_of(CLASSES), **options)
    content = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content[chunk.data_page_offset + 5000] ^= 0xFF
    path.write_bytes(content)
    assert make(tmp_path / "hub", tmp_path / "mine", "--split", "train") == 2
    error = capsys.readouterr().err
    assert error.count("damaged: its row group cannot be read") == 7
    assert "train-00000-of-00001.parquet:group 1:row 0:" in error
    skip = ("--split", "train", "--on-error", "skip")
    assert make(tmp_path / "hub", tmp_path / "mine", *skip) == 0
    assert len(open_source(tmp_path / "mine/train")) == 15


def test_files_that_are_missing_cut_off_or_of_other_classes_are_refused(
    theirs, image_folder, tmp_path, capsys
):
    def refused(words):
        assert make(source, tmp_path / "mine") == 2
        assert words in capsys.readouterr().err

    source = tmp_path / "hub"
    shutil.copytree(theirs, source)
    first, second = sorted((source / "data").glob("train-*"))
    whole = second.read_bytes()
    second.unlink()
    refused("1 of 2 files are missing, such as train-00001-of-00002.parquet")
    second.write_bytes(whole[: len(whole) // 2])
    refused(f"{second}: not readable as Parquet: ")
    second.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:...\n")
    refused("it is a pointer of Git LFS: `git lfs pull` fetches the file")
    write_rows(second, rows_of(image_folder / "val"), schema_of(CLASSES[::-1]))
    refused(f"{second}: its columns or names of classes are not those of {first.name}")
    second.write_bytes(b"<html>404</html>")
    refused("it begins with b'<html>40', where PAR1 is expected; download it again, or remove it")
    second.write_bytes(b"")
    refused("it is empty, where PAR1 is expected")
    text = pa.schema([("image", IMAGE), ("label", pa.string()), ("id", pa.int64())])
    pq.write_table(pa.table({"image": [None], "label": ["cat"], "id": [3]}, schema=text), first)
    refused(f"{first}: column label: its labels are string, and class numbers (an integer) are")
    columns = pa.schema([("picture", pa.binary()), ("label", pa.int64())])
    pq.write_table(pa.table({"picture": [b""], "label": [0]}, schema=columns), first)
    refused("no one column of images, a struct of bytes and path,")
    write_rows(first, rows_of(image_folder / "val"), schema_of(["a", "a", "b", "c", "d"]))
    refused("5 names of classes, 4 of them different; give others with --classes FILE")


def test_a_file_that_changes_after_it_was_listed_gives_no_image(theirs, image_folder, tmp_path):
    source = tmp_path / "hub"
    shutil.copytree(theirs, source)
    scan = find_layout(source).splits["val"]()
    first = scan.location(0)
    in_a_worker = pickle.loads(pickle.dumps(scan.reader))
    assert hashlib.sha256(in_a_worker.read(first)).digest() in {
        hashlib.sha256(data).digest() for data, *_ in rows_of(image_folder / "val")
    }
    assert "validation-00000-of-00001.parquet: row group" in scan.reader.describe(first)
    [file] = (source / "data").glob("validation-*")
    file.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="was written anew"):
        scan.reader.read(first)


def test_each_row_group_is_decoded_once_for_a_window_of_shards(theirs, tmp_path, monkeypatch):
    """Also where kept groups go to temporary files, and where others take their place."""
    decoded = []
    images = row_groups._images

    def counted(path, group, column):
        decoded.append((path.name, group))
        return images(path, group, column)

    row_groups.forget()
    monkeypatch.setattr(row_groups, "_images", counted)
    monkeypatch.setattr(row_groups, "_IN_MEMORY_BYTES", 1000)
    assert make(theirs, tmp_path / "mine", "--shard-samples", "5") == 0
    assert len(decoded) == len(set(decoded)) == 5 + 5 + 4
    expected = shards_of(tmp_path / "mine")
    monkeypatch.setattr(row_groups, "_KEPT_BYTES", 1)
    assert make(theirs, tmp_path / "again", "--shard-samples", "5") == 0
    assert shards_of(tmp_path / "again") == expected


def test_a_plan_with_blocks_has_every_entry_once_and_few_blocks_at_a_time():
    blocks = np.repeat(np.arange(300), 100)
    sizes = np.full(len(blocks), 100_000)
    plan = plan_shards(sizes, PlanConfig(), blocks)
    assert sorted(plan.order.tolist()) == list(range(len(blocks)))
    in_order = blocks[plan.order]
    window = 1300  # 128 MB are 12.8 blocks
    assert all(len(set(in_order[s : s + window])) <= 26 for s in range(0, len(blocks), window))
    assert len(set(in_order[:500])) == 13  # and these are mixed
    assert np.abs(np.diff(in_order[:1300])).mean() > 30
