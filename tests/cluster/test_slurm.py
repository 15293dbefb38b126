"""The Slurm scripts on a real cluster of two nodes: preempted, queued again, and completed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.slurm import Slurm, missing_programs, slurm
from tools import make_digits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_programs()), reason=f"needs {', '.join(missing_programs())} of slurm-wlm"
    ),
]

ROOT = Path(__file__).parents[2]
RECIPE = """
model: {name: dynamixer_nano}
data: {crop: {scale: [0.6, 1.0], hflip: 0.5}}
batch: {global_size: 40, per_gpu: 10, evaluation: 50}
optim: {lr: 2.0e-3}
schedule: {epochs: 2, warmup_epochs: 1}
augment: {mixup: 0.2, cutmix: 1.0}
ema: {decay: 0.9}
run: {log_every: 1, keep_checkpoints: 1, watchdog_s: 300}
"""
TIMINGS = ("images_per_s", "data_wait_s", "data_wait_rank")
TIMEOUT_S = 900


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of a recipe and of a part of the digits."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tiny.yaml").write_text(RECIPE)
    make_digits.main([str(folder / "digits")])
    images = sorted((folder / "digits" / "train").rglob("*.jpg"), key=lambda path: path.name)
    for path in images[800:]:
        path.unlink()
    return folder


def submit(cluster: Slurm, script: str, files: Path, runs: Path) -> str:
    """Submit a run to the partition whose jobs are preempted; return the job's number."""
    nodes = ("--partition=low", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1")
    cluster.environment.update(PYTHON=sys.executable, RANKS_PER_NODE="1", MASTER_ADDR="127.0.0.1")
    return cluster.ask(
        *("sbatch", "--parsable", *nodes, "--gpus-per-node=0", f"--chdir={ROOT}"),
        *(f"--output={runs}.log", str(ROOT / "cluster" / script)),
        *("--config", str(files / "tiny.yaml")),
        *(f"data.root={files / 'digits'}", f"run.root={runs}"),
    )


def events(runs: Path, kind: str) -> list[dict[str, float]]:
    """Events of a run without their timings."""
    path = runs / "tiny" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    chosen = [event for event in parsed if event["event"] == kind]
    return [{k: v for k, v in event.items() if k not in TIMINGS} for event in chosen]


def wait_for_step(runs: Path, step: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not any(event["step"] >= step for event in events(runs, "step")):
        log = Path(f"{runs}.log")
        said = log.read_text()[-3000:] if log.exists() else ""
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """The same run on two ranks of this machine, without Slurm."""
    runs = tmp_path_factory.mktemp("undisturbed")
    arguments = ("--config", str(files / "tiny.yaml"), f"data.root={files / 'digits'}")
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", "0", str(ROOT / "launch.py"), *arguments, f"run.root={runs}"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return runs


# A torchrun of one rank takes both cores for it, which rounds sums in another order.
@pytest.mark.parametrize(("script", "tolerance"), [("slurm.sbatch", 0), ("torchrun.sbatch", 1e-5)])
def test_preempted_by_another_job_it_goes_on_and_ends_like_an_undisturbed_run(
    cluster, files, undisturbed, tmp_path, script, tolerance
):
    runs = tmp_path / "runs"
    job = submit(cluster, script, files, runs)
    wait_for_step(runs, 8)
    other = cluster.ask(
        *("sbatch", "--parsable", "--partition=high", "--nodes=2", "--ntasks-per-node=1"),
        *(f"--output={tmp_path}/other.log", "--wrap", "srun hostname"),
    )
    cluster.wait(other, "COMPLETED 0", timeout_s=TIMEOUT_S)
    cluster.wait(job, "COMPLETED 1", timeout_s=TIMEOUT_S)
    for kind in ("step", "eval"):
        for mine, theirs in zip(events(runs, kind), events(undisturbed, kind), strict=True):
            assert mine.keys() == theirs.keys()
            for name, value in mine.items():
                is_float = isinstance(value, float)
                expected = pytest.approx(theirs[name], rel=tolerance) if is_float else theirs[name]
                assert value == expected
    assert "told to stop: saved at step" in Path(f"{runs}.log").read_text()
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))


def test_a_recipe_that_cannot_be_used_ends_the_job_with_its_code(cluster, files, tmp_path):
    for script in ("slurm.sbatch", "torchrun.sbatch"):
        job = submit(cluster, script, files / "missing", tmp_path / script)
        cluster.wait(job, "FAILED 0", timeout_s=TIMEOUT_S)
        assert "ExitCode=2:0" in cluster.ask("scontrol", "show", "job", job)
