"""Shards and images at URLs: the same samples, whatever the network does, within a bounded disk."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.errors import DataError, StorageError
from pipeline.formats.open import open_source, open_split
from pipeline.formats.remote_source import RemoteShardSource
from pipeline.formats.shard_cache import CacheConfig
from pipeline.formats.shard_prefetch import ShardUse
from pipeline.loaders.build import build_loader
from pipeline.storage.remote import RemoteFolder
from pipeline.storage.retry import Retry
from tests.support.storage_servers import http_server, nginx
from tools.cli import exits
from tools.make_shards import main as make_shards

RETRY = Retry(attempts=4, first_wait_s=0.001)


@pytest.fixture(scope="module")
def shards(image_folder, tmp_path_factory):
    """train/ in seven shards, val/ in three. Read-only."""
    output = tmp_path_factory.mktemp("shards")
    assert make_shards([str(image_folder), "--output", str(output), "--shard-samples", "9"]) == 0
    return output


@pytest.fixture
def served(shards):
    with http_server(shards) as (url, faults):
        yield f"{url}/train", faults


def _shard_bytes(folder):
    return sorted(path.stat().st_size for path in folder.glob("*.tar"))


def _cache(tmp_path, limit_bytes=10**9):
    return CacheConfig(folder=tmp_path / "cache", limit_bytes=limit_bytes)


def _held(tmp_path):
    """Bytes in the cache; files may come, go and be renamed meanwhile."""
    sizes = {}
    for path in (tmp_path / "cache").glob("*/*.tar*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


def _assert_same_samples(source, other):
    assert (source.classes, len(source)) == (other.classes, len(other))
    assert source.shard_sizes == other.shard_sizes
    np.testing.assert_array_equal(source.storage_order, other.storage_order)
    everything = range(len(source))
    for a, b in zip(source.read_many(everything), other.read_many(everything), strict=True):
        assert a._replace(data=None) == b._replace(data=None)
        np.testing.assert_array_equal(a.data, b.data)


def test_remote_shards_are_the_local_ones(served, shards, tmp_path):
    source = RemoteShardSource(served[0], _cache(tmp_path), RETRY)
    _assert_same_samples(source, open_source(shards / "train"))
    _assert_same_samples(pickle.loads(pickle.dumps(source)), source)


def test_shards_in_the_cache_are_not_fetched_again(served, tmp_path):
    url, faults = served
    for _ in range(2):
        RemoteShardSource(url, _cache(tmp_path), RETRY).read_many(range(62))
    assert faults.count("train-000003.tar") == 1
    assert faults.count("index.arrow") == 1


def test_dropped_connections_are_tried_again(served, shards, tmp_path):
    url, faults = served
    faults.drop, faults.refuse = 3, 2
    retry = Retry(attempts=8, first_wait_s=0.001)
    source = RemoteShardSource(url, _cache(tmp_path), retry)
    faults.drop, faults.refuse = 4, 3
    _assert_same_samples(source, open_source(shards / "train"))


def test_server_that_stays_away_is_named_with_the_shard(served, tmp_path):
    url, faults = served
    source = RemoteShardSource(url, _cache(tmp_path), RETRY)
    faults.is_down = True
    with pytest.raises(DataError, match=rf"{url}/train-00000\d\.tar: .*503"):
        source.read_many(range(62))


def test_folder_without_manifest_is_no_finished_conversion(served, tmp_path):
    url = served[0].removesuffix("/train")
    with pytest.raises(DataError, match=rf"{url}/manifest.json: there is no such file; the conv"):
        RemoteShardSource(url, _cache(tmp_path), RETRY)


def test_unknown_scheme_is_refused(tmp_path):
    with pytest.raises(DataError, match="ftp://x/y: unknown scheme ftp://; there are s3://"):
        RemoteShardSource("ftp://x/y", _cache(tmp_path))


def test_shard_that_arrives_damaged_is_named(served, tmp_path):
    url, faults = served
    faults.flip = "train-000002.tar"
    source = RemoteShardSource(url, _cache(tmp_path), RETRY)
    with pytest.raises(DataError, match=rf"{url}/train-000002.tar: n\d+/.* arrives damaged"):
        source.read_many(range(62))
    assert faults.count("train-000002.tar") == 2


def test_copy_that_is_damaged_on_the_disk_is_fetched_again(served, shards, tmp_path):
    url, faults = served
    RemoteShardSource(url, _cache(tmp_path), RETRY).read_many(range(62))
    copy = next((tmp_path / "cache").glob("*/train-000004.tar"))
    content = bytearray(copy.read_bytes())
    content[2000] ^= 4
    copy.write_bytes(content)
    source = RemoteShardSource(url, _cache(tmp_path), RETRY)
    _assert_same_samples(source, open_source(shards / "train"))
    assert faults.count("train-000004.tar") == 2


def test_other_data_at_the_same_url_is_not_taken_from_the_cache(shards, tmp_path):
    with http_server(shards) as (url, _):
        RemoteShardSource(f"{url}/train", _cache(tmp_path), RETRY).read_many(range(62))
        (tmp_path / "site").mkdir()
        (tmp_path / "site/train").symlink_to(shards / "val")
    with http_server(tmp_path / "site") as (url, _):
        source = RemoteShardSource(f"{url}/train", _cache(tmp_path), RETRY)
        _assert_same_samples(source, open_source(shards / "val"))


def test_cache_never_holds_more_than_its_limit(served, shards, tmp_path):
    sizes = _shard_bytes(shards / "train")
    limit = sum(sizes[-3:])
    source = RemoteShardSource(served[0], _cache(tmp_path, limit), RETRY)
    local = open_source(shards / "train")
    order = source.storage_order
    with source.following(order):
        for block in np.array_split(order, 20):
            samples = source.read_many(block)
            assert _held(tmp_path) <= limit
            for sample, expected in zip(samples, local.read_many(block), strict=True):
                np.testing.assert_array_equal(sample.data, expected.data)
            del sample, samples  # views hold their shard in the cache


def test_samples_are_read_past_a_cache_whose_shards_are_all_in_use(
    served, shards, tmp_path, caplog
):
    limit = _shard_bytes(shards / "train")[-1]
    source = RemoteShardSource(served[0], _cache(tmp_path, limit), RETRY)
    _assert_same_samples(source, open_source(shards / "train"))  # holds views of all shards
    assert _held(tmp_path) <= limit
    assert [r.message.count("raise data.cache_gb") for r in caplog.records] == [1]


def test_order_that_needs_more_than_the_cache_is_refused(served, shards, tmp_path):
    sizes = _shard_bytes(shards / "train")
    source = RemoteShardSource(served[0], _cache(tmp_path, sum(sizes) - 1), RETRY)
    with (
        pytest.raises(
            DataError, match=r"needs .* GB of shards at once.*data.cache_gb.*data.window"
        ),
        source.following(np.arange(len(source))),
    ):
        pass


def test_shards_are_fetched_before_they_are_read(served, tmp_path):
    url, faults = served
    source = RemoteShardSource(url, _cache(tmp_path), RETRY)
    arrived = threading.Event()
    with source.following(source.storage_order):
        for _ in range(1000):
            if len(list((tmp_path / "cache").glob("*/*.tar"))) == 7:
                break
            arrived.wait(0.01)
        faults.is_down = True
        source.read_many(range(62))


def test_sources_that_share_a_cache_fetch_each_shard_once(served, shards, tmp_path):
    url, faults = served
    sources = [RemoteShardSource(url, _cache(tmp_path), RETRY) for _ in range(4)]
    expected = [s.data.tobytes() for s in open_source(shards / "train").read_many(range(62))]
    wrong = []

    def read(source):
        with source.following(np.arange(62)):
            found = [s.data.tobytes() for s in source.read_many(np.arange(62))]
        wrong.extend(a != b for a, b in zip(found, expected, strict=True) if a != b)

    threads = [threading.Thread(target=read, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [faults.count(f"train-{i:06d}.tar") for i in range(7)] == [1] * 7


def test_what_a_killed_process_left_in_the_cache_is_removed(served, shards, tmp_path):
    largest = _shard_bytes(shards / "train")[-1]
    source = RemoteShardSource(served[0], _cache(tmp_path, largest), RETRY)
    orphan = next((tmp_path / "cache").glob("*/index.arrow")).with_name("train-000001.tar.part")
    orphan.write_bytes(bytes(largest))
    source.read_many(source.storage_order[:1])
    assert not orphan.exists()


def test_shard_larger_than_the_cache_is_refused(served, tmp_path):
    source = RemoteShardSource(served[0], _cache(tmp_path, 1000), RETRY)
    with pytest.raises(
        DataError, match=r"more than the cache may hold, 1,000; raise data.cache_gb"
    ):
        source.read_many([0])


def test_missing_file_is_not_tried_again(served):
    url, faults = served
    with pytest.raises(FileNotFoundError):
        RemoteFolder(url, RETRY).read("nothing.tar")
    assert faults.count("nothing.tar") == 1


def test_service_that_fails_is_tried_as_often_as_said(served):
    url, faults = served
    faults.is_down = True
    with pytest.raises(StorageError, match=rf"{url}/manifest.json: .*503"):
        RemoteFolder(url, RETRY).read("manifest.json")
    assert faults.count("manifest.json") == RETRY.attempts


def _batches(source, data, *, rank, start=0):
    spec = InputSpec(
        size=32, mean=(0, 0, 0), std=(1, 1, 1), crop_pct=0.875, interpolation="bilinear"
    )
    loader = build_loader(
        source,
        data=data,
        augment=AugmentConfig(),
        spec=spec,
        batch_size=4,
        accumulation=1,
        placement=Placement(rank=rank, world_size=2, local_size=2),
        seed=3,
        training=True,
    )
    with closing(loader):
        return [(b.images.clone(), b.labels.clone()) for b in loader.batches(1, start)]


@pytest.mark.parametrize("start", [0, 3])
def test_loaders_of_all_ranks_give_the_batches_of_local_shards(served, shards, tmp_path, start):
    url = served[0]
    limit = sum(_shard_bytes(shards / "train")[-5:]) / 1e9
    remote = DataConfig(
        root=url.removesuffix("/train"),
        cache_dir=str(tmp_path / "cache"),
        cache_gb=limit,
        window=2,
        threads=1,
        loader="reference",
    )
    local = DataConfig(root=str(shards), window=2, threads=1, loader="reference")
    for rank in range(2):
        expected = _batches(open_split(local, "train"), local, rank=rank, start=start)
        found = _batches(open_split(remote, "train"), remote, rank=rank, start=start)
        assert len(found) == len(expected) > 0
        for (images, labels), (other_images, other_labels) in zip(found, expected, strict=True):
            assert images.equal(other_images)
            assert labels.equal(other_labels)
        assert 0 < _held(tmp_path) <= limit * 1e9


def test_cache_folder_without_a_url_is_refused():
    with pytest.raises(
        ValueError, match=r"cache_dir '/x' has no effect with root 'shards/imagenet'"
    ):
        DataConfig(cache_dir="/x")


@given(
    shards=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    sizes=st.lists(st.integers(1, 100), min_size=7, max_size=7),
)
def test_bytes_needed_at_once_are_those_of_shards_begun_and_not_over(shards, sizes):
    use = ShardUse(np.array(shards), np.array(sizes))
    needed = [
        sum(sizes[s] for s in set(shards[: i + 1]) & set(shards[i:])) for i in range(len(shards))
    ]
    assert use.peak_bytes() == max(needed)
    assert list(use.turns) == list(dict.fromkeys(shards))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_serves_shards_and_images(shards, image_folder, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "nginx"
    site.mkdir()
    folder.mkdir()
    shutil.copytree(shards, site / "shards")
    shutil.copytree(image_folder, site / "image net")
    with nginx(site, folder) as (plain, secure):
        source = RemoteShardSource(f"{plain}/shards/train", _cache(tmp_path), RETRY)
        _assert_same_samples(source, open_source(shards / "train"))
        tool = Path(__file__).parents[2] / "tools/make_shards.py"
        arguments = [f"{secure}/image%20net", "--output", tmp_path / "out", "--shard-samples", "9"]
        subprocess.run(
            [sys.executable, tool, *arguments],
            env={**os.environ, "SSL_CERT_FILE": str(folder / "cert.pem")},
            cwd=tool.parents[1],
            check=True,
        )
    for path in (shards / "train").glob("*.tar"):
        assert (tmp_path / "out/train" / path.name).read_bytes() == path.read_bytes()


def test_image_that_is_gone_is_left_out_but_a_server_that_fails_is_not(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Retry, "waits", lambda self: iter((0.001,) * 3))
    output = tmp_path / "out"
    lost = min((image_folder / "train").glob("*/*.JPEG"))
    with http_server(image_folder) as (url, faults):
        arguments = [url, "--output", str(output), "--on-error", "skip", "--split", "train"]
        faults.lose = lost.name
        assert make_shards(arguments) == 0
        assert "1 could not be used and is left out" in capsys.readouterr().out
        assert len(open_source(output / "train")) == 61

        shutil.rmtree(output)
        faults.lose, faults.fail = None, lost.name
        assert make_shards(arguments) == exits.IO
        assert f"{lost.name}: ClientResponseError: 503" in capsys.readouterr().err
