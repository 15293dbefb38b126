"""Indexes that nobody's make_shards wrote: what they name must not lead out of a folder."""

import pyarrow as pa
import pytest

from pipeline.errors import DataError
from pipeline.formats.index import SCHEMA, ShardEntry, write_index
from pipeline.formats.open import open_source
from tools.cli import exits
from tools.make_folders import main as make_folders
from tools.make_shards import main

SHARD = ShardEntry("train-000000.tar", 1, 10_240)
ROW = {
    "shard": 0,
    "offset": 512,
    "length": 100,
    "label": 0,
    "width": 8,
    "height": 8,
    "crc32": 0,
    "key": "a/b",
}


def _write(folder, *, shards=(SHARD,), **changes):
    folder.mkdir(parents=True)
    table = pa.table({name: [(ROW | changes)[name]] for name in SCHEMA.names}, schema=SCHEMA)
    write_index(folder, table=table, classes=["a"], shards=shards, has_checksums=False)
    (folder / SHARD.name).write_bytes(bytes(SHARD.size_bytes))


@pytest.mark.parametrize(
    "name", ["../train-000000.tar", "/etc/passwd", "a/b.tar", "", "..", ".", "a\0.tar"]
)
def test_a_shard_that_is_no_file_of_the_folder_is_refused(tmp_path, name):
    _write(tmp_path / "train", shards=[SHARD._replace(name=name)])
    with pytest.raises(DataError, match="is not that of a file in the same folder"):
        open_source(tmp_path / "train")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": 1}, "a label is not one of its 1 classes"),
        ({"label": -1}, "a label is not one of its 1 classes"),
        ({"shard": 1}, "a sample lies in none of its 1 shards"),
        ({"shard": -1}, "a sample lies in none of its 1 shards"),
        ({"offset": -1}, "outside its shard"),
        ({"length": 1 << 62, "offset": 1 << 62}, "outside its shard"),
        ({"shards": [SHARD, SHARD]}, "two shards have the same name"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, changes, reason):
    _write(tmp_path / "train", **changes)
    with pytest.raises(DataError, match=reason):
        open_source(tmp_path / "train")


@pytest.mark.parametrize(
    "key", ["../../evil", "/tmp/evil", "a//b", "", "a/", "a.b", "a b", "a\\b", "x" * 95]
)
@pytest.mark.parametrize("tool", [main, make_folders], ids=["make_shards", "make_folders"])
def test_a_key_that_is_no_relative_path_writes_nothing(tmp_path, capsys, tool, key):
    _write(tmp_path / "in" / "train", key=key)
    arguments = [str(tmp_path / "in"), "--split", "train", "--output", str(tmp_path / "out/deep")]
    quarantine = ["--on-error", "quarantine"] if tool is main else []
    assert tool([*arguments, *quarantine]) == exits.BAD_INPUT
    assert "cannot be a key" in capsys.readouterr().err
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"index.arrow", SHARD.name}
