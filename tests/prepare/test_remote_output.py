"""Conversions from and to an object store, over its real protocol: complete or invisible."""

import hashlib
import shutil
from dataclasses import replace
from datetime import datetime

import pytest
import s3fs

from pipeline.config import DataConfig
from pipeline.errors import OutputError
from pipeline.formats.class_folders import scan_class_folders
from pipeline.formats.open import open_source
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.parts import WHOLE
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.remote_output import staged, staging_folder
from pipeline.prepare.conversion.run import convert, run_in_turn
from pipeline.storage import locks
from pipeline.storage.remote import RemoteFolder
from pipeline.storage.retry import Retry
from tests.support.storage_servers import http_server, s3_server
from tools.cli import exits
from tools.make_shards import main as make_shards

RETRY = Retry(attempts=6, first_wait_s=0.01)
OPTIONS = ("--shard-samples", "9", "--workers", "1")


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with s3_server() as proxy:
        yield proxy


@pytest.fixture
def bucket(s3, request, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    store = s3fs.S3FileSystem(use_listings_cache=False)
    store.mkdir(name)
    s3.drop = s3.dropped = 0
    return name


@pytest.fixture(scope="module")
def local(image_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("local")
    assert make_shards([str(image_folder), "--output", str(output), *OPTIONS]) == 0
    return output


def _stored(bucket, prefix):
    store = s3fs.S3FileSystem(use_listings_cache=False)
    found = store.find(f"{bucket}/{prefix}")
    return {name.removeprefix(f"{bucket}/{prefix}/"): store.cat_file(name) for name in found}


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _conversion(image_folder, url):
    remote = RemoteFolder(url, RETRY)
    return Conversion(
        scan=scan_class_folders(image_folder / "train"),
        folder=staging_folder(remote, WHOLE),
        split="train",
        plan_config=PlanConfig(shard_bytes=0, shard_samples=9),
        remote=remote,
    )


def _silent(images, size_bytes):
    pass


def test_store_gets_the_bytes_of_a_local_conversion(bucket, image_folder, local, tmp_path):
    assert make_shards([str(image_folder), "--output", f"s3://{bucket}/out", *OPTIONS]) == 0
    assert _stored(bucket, "out") == _files(local)
    assert not list(tmp_path.rglob("*.tar"))


def test_parts_in_the_store_are_merged(bucket, image_folder, local, capsys):
    command = [str(image_folder), "--output", f"s3://{bucket}/out", *OPTIONS]
    assert make_shards([*command, "--part", "1/2"]) == 0
    assert not {"train/manifest.json", "train/index.arrow"} & _stored(bucket, "out").keys()
    assert make_shards([*command, "--merge"]) == exits.OUTPUT
    error = capsys.readouterr().err
    assert f"s3://{bucket}/out/train: 4 of 7 shards are missing" in error
    assert "run these parts (again): 0/2" in error
    assert make_shards([*command, "--part", "0/3"]) == exits.OUTPUT
    assert "is being written in 2 parts, not 3" in capsys.readouterr().err
    assert make_shards([*command, "--part", "0/2"]) == 0
    assert make_shards([*command, "--merge"]) == 0
    assert _stored(bucket, "out") == _files(local)


def test_stopped_run_leaves_whole_shards_only_and_is_continued(bucket, image_folder, local):
    def stop_after_three(jobs, progress):
        for done, problems in enumerate(run_in_turn(jobs, progress), 1):
            yield problems
            if done == 3:
                raise KeyboardInterrupt

    conversion = _conversion(image_folder, f"s3://{bucket}/out/train")
    with pytest.raises(KeyboardInterrupt), staged(conversion, WHOLE):
        convert(conversion, _silent, WHOLE, stop_after_three)
    files = _files(local / "train")
    first = _stored(bucket, "out/train")
    shards = [name for name in first if name.endswith(".tar")]
    assert len(shards) == 3
    assert all(first[name] == files[name] for name in shards)
    assert not {"index.arrow", "manifest.json"} & first.keys()

    times = _times(bucket, shards)
    written = []

    def count(jobs, progress):
        for job in jobs:
            written.append(job.name)
            yield from run_in_turn([job], progress)

    again = _conversion(image_folder, f"s3://{bucket}/out/train")
    with staged(again, WHOLE):
        convert(again, _silent, WHOLE, count)
    assert sorted([*shards, *written]) == sorted(n for n in files if n.endswith(".tar"))
    assert _times(bucket, shards) == times
    assert _stored(bucket, "out/train") == files


def test_copies_of_unusable_images_are_stored_before_their_shard_is(bucket, image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "in")
    bad = sorted(source.glob("train/*/*"))[::7]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-100])
    conversion = _conversion(source, f"s3://{bucket}/out/train")
    writing = replace(conversion.writing, on_error="quarantine")
    conversion = replace(conversion, writing=writing)

    def stop_after_all(jobs, progress):
        yield from run_in_turn(jobs, progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), staged(conversion, WHOLE):
        convert(conversion, _silent, WHOLE, stop_after_all)
    with staged(conversion, WHOLE):
        convert(conversion, _silent)
    aside = _stored(bucket, "out/train/quarantine")
    assert sorted(aside.values()) == sorted(path.read_bytes() for path in bad)


@pytest.mark.parametrize("state", ["nothing", "part", "complete"])
def test_dry_run_changes_nothing_in_the_store(bucket, image_folder, capsys, state):
    command = [str(image_folder), "--output", f"s3://{bucket}/out", *OPTIONS]
    if state != "nothing":
        assert make_shards(command + ["--part", "0/2"] * (state == "part")) == 0
    before = _stored(bucket, "out")
    assert make_shards([*command, "--dry-run"]) == 0
    assert _stored(bucket, "out") == before
    if state != "nothing":
        assert make_shards([*command, "--order", "kept", "--dry-run"]) == exits.OUTPUT
        assert "choose another --output" in capsys.readouterr().err
        assert _stored(bucket, "out") == before


def test_a_bucket_that_is_not_there_is_named(s3, image_folder, capsys):
    assert make_shards([str(image_folder), "--output", "s3://no-such-bucket/out"]) == exits.IO
    assert "s3://no-such-bucket/out/train/.parts/conversion.json" in capsys.readouterr().err


def _times(bucket, shards) -> list[datetime]:
    store = s3fs.S3FileSystem(use_listings_cache=False)
    return [store.info(f"{bucket}/out/train/{name}")["LastModified"] for name in shards]


def test_connections_dropped_during_uploads_do_no_harm(bucket, s3, image_folder, local):
    conversion = _conversion(image_folder, f"s3://{bucket}/out/train")
    s3.drop = 4
    with staged(conversion, WHOLE):
        convert(conversion, _silent)
    assert s3.dropped == 4
    assert _stored(bucket, "out/train") == _files(local / "train")


def test_finished_output_is_left_as_it_is(bucket, image_folder, capsys):
    command = [str(image_folder), "--output", f"s3://{bucket}/out", *OPTIONS]
    assert make_shards(command) == 0
    before = _stored(bucket, "out")
    assert make_shards(command) == 0
    assert make_shards([*command, "--order", "kept"]) == exits.OUTPUT
    assert f"s3://{bucket}/out/train: holds shards made from other options" in (
        capsys.readouterr().err
    )
    assert _stored(bucket, "out") == before


def test_beginning_of_another_conversion_is_refused(bucket, image_folder, capsys):
    command = [str(image_folder), "--output", f"s3://{bucket}/out", *OPTIONS]
    assert make_shards([*command, "--part", "0/2"]) == 0
    assert make_shards([*command, "--order", "kept"]) == exits.OUTPUT
    assert f"s3://{bucket}/out/train: holds the beginning of another" in capsys.readouterr().err


def test_prefix_that_holds_something_else_is_refused(bucket, image_folder, capsys):
    s3fs.S3FileSystem(use_listings_cache=False).pipe_file(f"{bucket}/out/train/notes.txt", b"x")
    assert make_shards([str(image_folder), "--output", f"s3://{bucket}/out"]) == exits.OUTPUT
    assert f"s3://{bucket}/out/train: is not empty" in capsys.readouterr().err


def test_two_runs_of_one_machine_refuse_each_other(bucket, image_folder, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0)
    conversion = _conversion(image_folder, f"s3://{bucket}/out/train")
    with (
        staged(conversion, WHOLE),
        pytest.raises(OutputError, match="another process is writing shards there"),
        staged(conversion, WHOLE),
    ):
        pass


def test_large_files_are_uploaded_in_parts(bucket, tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * (40 << 12))  # 40 MiB
    RemoteFolder(f"s3://{bucket}", RETRY).upload(path, "large.bin")
    store = s3fs.S3FileSystem(use_listings_cache=False)
    assert store.info(f"{bucket}/large.bin")["ETag"].strip('"').endswith("-3")
    assert store.cat_file(f"{bucket}/large.bin") == path.read_bytes()


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_images_are_read_from_a_url(bucket, image_folder, local, tmp_path, scheme, capsys):
    hidden = tmp_path / "hidden"
    if scheme == "s3":
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.put(str(image_folder), f"{bucket}/imagenet", recursive=True)
        code = make_shards([f"s3://{bucket}/imagenet", "--output", str(hidden), *OPTIONS])
    else:
        with http_server(image_folder) as (url, faults):
            faults.drop, faults.refuse = 2, 1
            code = make_shards([url, "--output", str(hidden), *OPTIONS])
    assert code == 0, capsys.readouterr().err
    for split in ("train", "val"):
        shards = {n: c for n, c in _files(hidden / split).items() if n.endswith(".tar")}
        assert shards == {n: c for n, c in _files(local / split).items() if n.endswith(".tar")}


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_shards_at_a_url_are_converted_again(bucket, image_folder, local, tmp_path, scheme):
    large, out = tmp_path / "large", tmp_path / "out"
    assert make_shards([str(image_folder), "--output", str(large)]) == 0
    if scheme == "s3":
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.put(str(large), f"{bucket}/large", recursive=True)
        assert make_shards([f"s3://{bucket}/large", "--output", str(out), *OPTIONS]) == 0
    else:
        with http_server(large) as (url, faults):
            faults.drop = 2
            assert make_shards([url, "--output", str(out), *OPTIONS]) == 0
            faults.flip = "train-000000.tar"
            assert make_shards([url, "--output", f"{out}2", *OPTIONS]) == exits.BAD_INPUT
    for path in [*local.rglob("*.tar"), *local.rglob("*.arrow")]:
        assert (out / path.relative_to(local)).read_bytes() == path.read_bytes()


def test_shards_in_a_store_are_a_source(bucket, local, tmp_path):
    store = s3fs.S3FileSystem(use_listings_cache=False)
    store.put(str(local / "train"), f"{bucket}/out/train", recursive=True)
    url = f"s3://{bucket}/out/train"
    source = open_source(url, DataConfig(root=url, cache_dir=str(tmp_path / "cache")))
    expected = open_source(local / "train").read_many(range(62))
    for a, b in zip(source.read_many(range(62)), expected, strict=True):
        assert (a.key, a.label, a.data.tobytes()) == (b.key, b.label, b.data.tobytes())


def test_https_is_not_written_to(image_folder, capsys):
    assert make_shards([str(image_folder), "--output", "https://x/y"]) == exits.OUTPUT
    assert "https can be read, not written" in capsys.readouterr().err


def test_bucket_without_splits_says_what_is_expected(bucket, capsys):
    assert make_shards([f"s3://{bucket}/nothing"]) == exits.BAD_INPUT
    assert f"s3://{bucket}/nothing: holds no train/ or val/" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"v1.2 9\njpg nonsense 3 key.jpg\n"])
def test_a_damaged_list_of_members_in_the_store_is_named(bucket, local, capsys, content):
    store = s3fs.S3FileSystem(use_listings_cache=False)
    for path in (local / "train").iterdir():
        data = content if path.name == "train-000003.idx" else path.read_bytes()
        store.pipe_file(f"{bucket}/in/train/{path.name}", data)
    command = [f"s3://{bucket}/in", "--output", f"s3://{bucket}/out", "--split", "train"]
    assert make_shards(command) == exits.BAD_INPUT
    assert f"s3://{bucket}/in/train/train-000003.idx: damaged" in capsys.readouterr().err
