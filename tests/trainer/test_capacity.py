"""`batch.per_gpu: auto`: the largest that fits, by memory that is really limited."""

import json
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from tests.support.recipes import recipe
from tools import make_digits
from trainer import yaml_config
from trainer.batch_plan import per_gpu_sizes
from trainer.capacity.memory import available_bytes, cgroup_bytes, peak_bytes
from trainer.capacity.search import largest_per_gpu
from trainer.capacity.trial import Trial
from trainer.process.world import World, make_host_group
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]
GIB = 2**30


def test_sizes_make_up_the_share_of_a_rank():
    assert per_gpu_sizes(48, world_size=2, even=False) == [1, 2, 3, 4, 6, 8, 12, 24]
    assert per_gpu_sizes(48, world_size=2, even=True) == [2, 4, 6, 8, 12, 24]
    assert per_gpu_sizes(48, world_size=5, even=False) == []


@pytest.mark.parametrize("mebibytes", [64, 256])
def test_the_peak_is_what_was_taken_at_once_whatever_was_taken_before(mebibytes):
    def take() -> None:
        for _ in range(3):  # one after the other
            torch.ones(mebibytes * 2**18)

    torch.ones(300 * 2**18)  # freed, and perhaps kept
    assert peak_bytes(take) == pytest.approx(mebibytes * 2**20, rel=0.1)


def control_group(folder: Path, names: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in names.items():
        (folder / name).write_text(f"{content}\n")


def test_the_narrowest_control_group_counts(tmp_path):
    # As the kernel writes them: a limited group within a less limited one, version 2.
    for name, limit, used, cache in (("job", 8000, 3000, 500), ("job/step", "max", 2000, 100)):
        files = {"memory.max": limit, "memory.current": used}
        control_group(tmp_path / name, {**files, "memory.stat": f"anon 1\ninactive_file {cache}"})
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    assert cgroup_bytes(tmp_path, own) == 8000 - 3000 + 500


def test_control_groups_of_version_1_count(tmp_path):
    files = {"memory.limit_in_bytes": 9000, "memory.usage_in_bytes": 1000}
    control_group(tmp_path / "memory/docker", {**files, "memory.stat": "total_inactive_file 200"})
    own = tmp_path / "own"
    own.write_text("3:cpu,cpuacct:/docker\n2:memory:/docker\n")
    assert cgroup_bytes(tmp_path, own) == 9000 - 1000 + 200


def test_without_control_groups_nothing_is_limited(tmp_path):
    assert cgroup_bytes(tmp_path, tmp_path / "none") == float("inf")


@contextmanager
def limited(extra_bytes: int):
    """This process may take that much more than it has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken = psutil.Process().memory_info().data
    resource.setrlimit(resource.RLIMIT_DATA, (taken + extra_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_limit_of_the_process_counts():
    with limited(2 * GIB):
        assert available_bytes(local_size=1) < 2 * GIB
    assert available_bytes(local_size=1) > available_bytes(local_size=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    make_host_group()
    device = torch.device("cpu")
    yield World(rank=0, world_size=1, local_rank=0, local_size=1, device=device)
    dist.destroy_process_group()


class Wide(nn.Module):
    """Keeps 2 MiB for each image of 32 x 32, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 512, 1), nn.Conv2d(512, 2, 1)

    def forward(self, images):
        return self.second(self.first(images).relu()).mean((2, 3))


def find(world: World, size: int = 4096, **fields):
    def objective(forward, batch, progress):
        return F.cross_entropy(forward(batch.images.float()), batch.labels)

    trial = Trial(recipe(), Wide(), objective, size=32)
    return largest_per_gpu(trial, world, **{"global_size": size, "even": False, **fields})


def test_where_all_fit_all_are_taken_at_once(world):
    found = find(world, 64, kept=None)
    assert found.per_gpu == 64
    assert found.words.startswith("batch.per_gpu: auto is 64, the largest that fits of 1, 2, ...")


def test_a_limit_leaves_fewer_and_they_fit_in_it(world):
    with limited(3 * GIB):
        found = find(world, kept=None)
        less = find(world, even=True, kept=None).per_gpu
    # 2.5 GiB, less 15 % and what a start takes, at 4 to 7 MiB an image.
    assert found.per_gpu in (128, 256)
    assert less <= found.per_gpu
    assert "MiB an image" in found.words


def test_what_the_run_had_is_kept_where_it_still_fits(world):
    found = find(world, 64, kept=16)
    assert (found.per_gpu, "as before" in found.words) == (16, True)
    assert find(world, 64, kept=15).per_gpu == 64  # on another number of ranks, say
    with limited(3 * GIB):
        assert find(world, kept=4096).per_gpu < 4096


def test_no_room_and_no_size_are_told_in_words(world):
    with limited(GIB // 4), pytest.raises(ConfigError, match="finds no room for 1 images at once"):
        find(world, kept=None)
    with pytest.raises(ConfigError, match="7 is not a multiple of 2 x the 1 ranks"):
        find(world, 7, even=True, kept=None)


CONFIG = """
model: {name: dynamixer_nano, img_size: 64}
data: {root: DATA, crop: {scale: [0.6, 1.0]}}
batch: {global_size: 240, per_gpu: auto, evaluation: 100}
optim: {lr: 2.0e-3}
schedule: {epochs: 1}
augment: {mixup: 0.2, cutmix: 1.0}
run: {root: RUNS, log_every: 1, max_steps: 1}
"""


def test_what_depends_on_the_number_is_refused(tmp_path):
    path = tmp_path / "auto.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"batch.per_gpu auto does not go with augment.mix_mode"):
        yaml_config.load(Recipe, path, ["augment.mix_mode=batch"])
    with pytest.raises(ConfigError, match=r"batch\.per_gpu: expected .* or 'auto', got 'most'"):
        yaml_config.load(Recipe, path, ["batch.per_gpu=most"])
    with pytest.raises(ValueError, match=r"give a number here, such as batch\.per_gpu=64"):
        _ = yaml_config.load(Recipe, path).batch.known_per_gpu


@pytest.mark.slow
def test_a_run_in_little_memory_takes_fewer_at_once_and_gives_the_same_losses(tmp_path):
    make_digits.main([str(tmp_path / "digits")])
    found = {}
    for name, limit in (("free", resource.RLIM_INFINITY), ("limited", 2900 * 2**20)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(CONFIG.replace("DATA", f"{tmp_path}/digits").replace("RUNS", str(tmp_path)))
        done = subprocess.run(
            [sys.executable, str(ROOT / "launch.py"), "--config", str(path)],
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        found[name] = [json.loads(line) for line in lines]
    starts, losses = {}, {}
    for name, events in found.items():
        (starts[name],) = [event["per_gpu"] for event in events if event["event"] == "start"]
        losses[name] = [event["loss"] for event in events if event["event"] == "step"]
        notes = [event["text"] for event in events if event["event"] == "note"]
        assert any(text.startswith(f"batch.per_gpu: auto is {starts[name]}") for text in notes)
        written = yaml_config.load(Recipe, tmp_path / name / "recipe.yaml")
        assert written.batch.per_gpu == starts[name]
    assert starts["free"] == 240
    assert starts["limited"] < 240
    assert losses["limited"] == pytest.approx(losses["free"], rel=1e-4)
