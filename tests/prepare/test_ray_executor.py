"""Conversion on a real Ray cluster of two nodes gives the bytes of one machine."""

import hashlib
import os

import pytest
import ray
import s3fs
from ray.cluster_utils import Cluster

from pipeline.errors import WorkerError
from pipeline.formats.class_folders import FileReader, scan_class_folders
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.parts import WHOLE
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.ray_executor import run_on_ray
from pipeline.prepare.conversion.run import convert
from tests.support.storage_servers import s3_server
from tools.cli import exits
from tools.make_shards import main as make_shards

pytestmark = [
    pytest.mark.slow,
    # Ray leaves files and sockets to the garbage collector, and warns of its own future defaults.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OPTIONS = ("--shard-samples", "9")
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def s3():
    with s3_server():
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.mkdir("ray")
        yield store


@pytest.fixture(scope="module")
def cluster(s3):  # the nodes inherit where the store is
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        cluster.wait_for_nodes()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def _digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def local(image_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("local")
    assert make_shards([str(image_folder), "--output", str(output), *OPTIONS]) == 0
    return output


def test_cluster_gives_the_bytes_of_one_machine(
    cluster, image_folder, local, tmp_path, monkeypatch
):
    monkeypatch.chdir(image_folder.parent)
    output = os.path.relpath(tmp_path / "out")
    arguments = [image_folder.name, "--output", output, *OPTIONS, "--executor", "ray"]
    assert make_shards(arguments) == 0
    assert _digests(tmp_path / "out") == _digests(local)


def test_nodes_write_to_a_store_without_a_folder_in_common(
    cluster, s3, image_folder, local, tmp_path
):
    arguments = [str(image_folder), "--output", "s3://ray/out", *OPTIONS, "--executor", "ray"]
    assert make_shards(arguments) == 0
    s3.get("ray/out", str(tmp_path / "out"), recursive=True)
    assert _digests(tmp_path / "out") == _digests(local)


def test_images_that_cannot_be_used_are_listed_from_all_nodes(
    cluster, image_folder, tmp_path, capsys
):
    source = tmp_path / "imagenet"
    for split in ("train", "val"):
        for folder in (image_folder / split).iterdir():
            (source / split / folder.name).mkdir(parents=True)
            for i, file in enumerate(sorted(folder.iterdir())):
                copy = source / split / folder.name / file.name
                copy.write_bytes(file.read_bytes() if i else b"<html>")
    code = make_shards(
        [str(source), "--output", str(tmp_path / "out"), *OPTIONS, "--executor", "ray"]
    )
    assert code == exits.BAD_INPUT
    assert "10 files or folders cannot be used" in capsys.readouterr().err


def test_both_nodes_write_and_the_death_of_one_is_survived(cluster, image_folder, local, tmp_path):
    nodes = tmp_path / "nodes"
    nodes.mkdir()

    class NotingReader(FileReader):  # local, so that it is sent as a whole
        def read(self, location):
            (nodes / ray.get_runtime_context().get_node_id()).touch()
            return super().read(location)

    scan = scan_class_folders(image_folder / "train")
    object.__setattr__(scan, "reader", NotingReader(str(image_folder / "train")))
    conversion = Conversion(
        scan=scan,
        folder=tmp_path / "train",
        split="train",
        plan_config=PlanConfig(shard_bytes=0, shard_samples=2),
    )
    done = []

    def run(jobs, progress):
        for problems in run_on_ray(jobs, progress):
            done.append(problems)
            if len(done) == 8:
                cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
            yield problems

    convert(conversion, lambda images, size_bytes: None, WHOLE, run)
    assert len(list(nodes.iterdir())) == 2
    assert len(done) == 31
    expected = tmp_path / "expected"
    one_machine = Conversion(
        scan=scan_class_folders(image_folder / "train"),
        folder=expected,
        split="train",
        plan_config=conversion.plan_config,
    )
    convert(one_machine, lambda images, size_bytes: None)
    assert _digests(tmp_path / "train") == _digests(expected)


def test_missing_cluster_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(WorkerError, match=r"no Ray cluster at '127.0.0.1:1'.*ray start --head"):
        list(run_on_ray([], lambda images, size_bytes: None))
