"""gs:// against a server that speaks Google's protocol: written, gone on with, read again."""

import gcsfs
import pytest

from pipeline.config import DataConfig
from pipeline.formats.open import open_source
from pipeline.storage.remote import RemoteFolder
from pipeline.storage.retry import Retry
from tests.support.storage_servers import gcs_server
from tools.cli import exits
from tools.make_shards import main as make_shards

# The server's wrapper never closes its pipe, and gcsfs sends parts in one piece.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]
OPTIONS = ("--shard-samples", "9", "--workers", "1")


@pytest.fixture(scope="module")
def local(image_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("local")
    assert make_shards([str(image_folder), "--output", str(output), *OPTIONS]) == 0
    return output


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A file system with the bucket `data`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with gcs_server():
        gcsfs.GCSFileSystem.clear_instance_cache()
        system = gcsfs.GCSFileSystem(token="anon", use_listings_cache=False)
        system.mkdir("data")
        yield system
        gcsfs.GCSFileSystem.clear_instance_cache()


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _stored(store):
    return {name.removeprefix("data/out/"): store.cat_file(name) for name in store.find("data/out")}


def test_parts_become_the_bytes_of_a_local_conversion(store, image_folder, local, capsys):
    command = [str(image_folder), "--output", "gs://data/out", *OPTIONS]
    assert make_shards([*command, "--part", "0/2"]) == 0
    assert not {"train/manifest.json", "train/index.arrow"} & _stored(store).keys()
    assert make_shards([*command, "--merge"]) == exits.OUTPUT
    assert "gs://data/out/train: 3 of 7 shards are missing" in capsys.readouterr().err
    assert make_shards(command) == 0
    assert _stored(store) == _files(local)


def test_large_files_arrive_whole(store, tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * (40 << 12))  # 40 MiB: more than one request
    RemoteFolder("gs://data", Retry(attempts=3, first_wait_s=0.01)).upload(path, "large.bin")
    assert store.cat_file("data/large.bin") == path.read_bytes()


def test_images_and_shards_there_are_a_source(store, image_folder, local, tmp_path):
    store.put(str(image_folder), "data/imagenet", recursive=True)
    assert make_shards(["gs://data/imagenet", "--output", str(tmp_path / "out"), *OPTIONS]) == 0
    for path in local.rglob("*.tar"):
        assert (tmp_path / "out" / path.relative_to(local)).read_bytes() == path.read_bytes()
    store.put(str(local / "train"), "data/shards", recursive=True)
    url = "gs://data/shards"
    source = open_source(url, DataConfig(root=url, cache_dir=str(tmp_path / "cache")))
    expected = open_source(local / "train").read_many(range(62))
    for a, b in zip(source.read_many(range(62)), expected, strict=True):
        assert (a.key, a.label, a.data.tobytes()) == (b.key, b.label, b.data.tobytes())
