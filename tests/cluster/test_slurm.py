"""The Slurm scripts on a real cluster of two nodes: preempted, queued again, and completed."""

import sys
from pathlib import Path

import pytest

from tests.support.cluster_runs import ROOT, Files, assert_same_run, events, wait_for_step
from tests.support.slurm import Slurm, missing_programs, slurm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing_programs()), reason=f"needs {', '.join(missing_programs())} of slurm-wlm"
    ),
]

TIMEOUT_S = 900


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"), images=800, per_gpu=10)


def submit(cluster: Slurm, script: str, files: Files, runs: Path, *more: str) -> str:
    """Submit a run to the partition whose jobs are preempted; return the job's number."""
    nodes = ("--partition=low", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1")
    cluster.environment.update(PYTHON=sys.executable, RANKS_PER_NODE="1", MASTER_ADDR="127.0.0.1")
    return cluster.ask(
        *("sbatch", "--parsable", *nodes, "--gpus-per-node=0", f"--chdir={ROOT}"),
        *(f"--output={runs}.log", str(ROOT / "cluster" / script), *files.arguments(runs), *more),
    )


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """The same run on two ranks of this machine, without Slurm."""
    return files.undisturbed(tmp_path_factory.mktemp("undisturbed"))


# A torchrun of one rank takes both cores for it, which rounds sums in another order.
@pytest.mark.parametrize(("script", "tolerance"), [("slurm.sbatch", 0), ("torchrun.sbatch", 1e-5)])
def test_preempted_by_another_job_it_goes_on_and_ends_like_an_undisturbed_run(
    cluster, files, undisturbed, tmp_path, script, tolerance
):
    runs = tmp_path / "runs"
    job = submit(cluster, script, files, runs)
    wait_for_step(runs, 8, said=lambda: Path(f"{runs}.log").read_text()[-3000:])
    other = cluster.ask(
        *("sbatch", "--parsable", "--partition=high", "--nodes=2", "--ntasks-per-node=1"),
        *(f"--output={tmp_path}/other.log", "--wrap", "srun hostname"),
    )
    cluster.wait(other, "COMPLETED 0", timeout_s=TIMEOUT_S)
    cluster.wait(job, "COMPLETED 1", timeout_s=TIMEOUT_S)
    assert_same_run(runs, undisturbed, tolerance=tolerance)
    assert "told to stop: saved at step" in Path(f"{runs}.log").read_text()
    assert any("going on from" in str(note["text"]) for note in events(runs, "note"))


def test_a_recipe_that_cannot_be_used_ends_the_job_with_its_code(cluster, files, tmp_path):
    for script in ("slurm.sbatch", "torchrun.sbatch"):
        job = submit(cluster, script, files, tmp_path / script, "model.nam=x")
        cluster.wait(job, "FAILED 0", timeout_s=TIMEOUT_S)
        assert "ExitCode=2:0" in cluster.ask("scontrol", "show", "job", job)
