"""Checkpoints: the newest and the best, whole, or said not to be."""

import json
from pathlib import Path

import pytest
import torch

from trainer.assembly.trainer import _commit
from trainer.engine.state import TrainingState
from trainer.events import Evaluated
from trainer.record import checkpoint
from trainer.record.meta import CheckpointError, Meta, RunProgress, Tally, digest


def state(value: float) -> TrainingState:
    def tensors() -> dict[str, torch.Tensor]:
        return {"weight": torch.full((3, 2), value)}

    moments = {"exp_avg": tensors(), "exp_avg_sq": tensors()}
    return TrainingState(model=tensors(), moments=moments, optimizer_step=value)


def meta(step: int, top1: float | None = None) -> Meta:
    result = None
    if top1 is not None:
        result = Evaluated(step=step, epoch=0, top1=top1, top5=top1, count=1, ema=False)
    return Meta(
        progress=RunProgress(epoch=1, step_in_epoch=2, step=step),
        results_fingerprint="r",
        data_fingerprint="d",
        tally=Tally(images=5),
        evaluated=result,
    )


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path):
    path = checkpoint.write(tmp_path, state(7.0), meta(7, top1=50.0), keep=1)
    read, told = checkpoint.read(path)
    assert told == meta(7, top1=50.0)
    assert read.optimizer_step == 7.0
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(read.moments[key]["weight"], torch.full((3, 2), 7.0))
    assert not read.ema


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step, top1 in ((1, 10.0), (2, 90.0), (3, 20.0), (4, None), (5, 30.0)):
        checkpoint.write(tmp_path, state(step), meta(step, top1), keep=2)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["step_00000002", "step_00000004", "step_00000005"]
    best = checkpoint.find_best(tmp_path)
    assert best is not None
    assert best.name == "step_00000002"


@pytest.mark.parametrize("damage", ["cut", "gone", "no meta"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage):
    for step in (1, 2):
        checkpoint.write(tmp_path, state(step), meta(step), keep=5)
    newest = tmp_path / "step_00000002"
    if damage == "cut":
        data = (newest / "model.safetensors").read_bytes()
        (newest / "model.safetensors").write_bytes(data[:-1])
    elif damage == "gone":
        (newest / "optimizer.safetensors").unlink()
    else:
        (newest / "meta.json").unlink()
    found, damaged = checkpoint.find_latest(tmp_path)
    assert found == tmp_path / "step_00000001"
    assert len(damaged) == 1
    assert "step_00000002" in damaged[0]


def test_if_no_checkpoint_is_whole_that_is_an_error_not_a_new_start(tmp_path):
    path = checkpoint.write(tmp_path, state(1), meta(1), keep=1)
    (path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        checkpoint.find_latest(tmp_path)


def rewrite(path, **changes):
    """Change `meta.json` as a flipped bit would: its checksum stays."""
    tree = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**tree, **changes}))


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    path = checkpoint.write(tmp_path, state(1), meta(1), keep=1)
    tree = json.loads((path / "meta.json").read_text())
    del tree["sha256"]
    tree["format"] = 99
    (path / "meta.json").write_text(json.dumps({**tree, "sha256": digest(tree)}))
    with pytest.raises(CheckpointError, match="format 99, and this version reads format 2"):
        checkpoint.find_latest(tmp_path)


@pytest.mark.parametrize(
    "flipped", [{"format": 3}, {"format": 1}, {"progress": {"epoch": 5, "step": 2}}]
)
def test_a_flipped_bit_in_meta_is_seen_and_the_one_before_is_taken(tmp_path, flipped):
    for step in (1, 2):
        checkpoint.write(tmp_path, state(step), meta(step, 10.0), keep=5)
    rewrite(tmp_path / "step_00000002", **flipped)
    found, damaged = checkpoint.find_latest(tmp_path)
    assert found == tmp_path / "step_00000001"
    assert "sha256" in damaged[0]
    assert checkpoint.find_best(tmp_path) == found


def test_a_checkpoint_of_format_1_is_read(tmp_path):
    path = checkpoint.write(tmp_path, state(1), meta(1), keep=1)
    tree = json.loads((path / "meta.json").read_text())
    del tree["sha256"], tree["log"]
    (path / "meta.json").write_text(json.dumps({**tree, "format": 1}))
    assert checkpoint.find_latest(tmp_path) == (path, [])
    assert checkpoint.read(path)[1] == meta(1)


def test_where_there_is_no_git_a_run_starts_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _commit() == "unknown"


def test_damaged_checkpoints_do_not_push_whole_ones_out(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoint.write(tmp_path, state(step), meta(step), keep=9)
    for step in (3, 4):
        (tmp_path / f"step_0000000{step}" / "model.safetensors").unlink()
    # The run went on from step 2; its next save is step 3, say, or one before the damaged ones.
    (tmp_path / "step_00000003").rename(tmp_path / "step_00000005")
    written = checkpoint.write(tmp_path, state(3), meta(3), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", written.name]


def test_at_every_call_that_changes_names_there_is_a_whole_checkpoint(tmp_path, monkeypatch):
    """One step saved twice, with `keep` 1: at no moment is there nothing to go on from."""
    checkpoint.write(tmp_path, state(7), meta(7), keep=1)
    seen: list[float] = []

    def watched(function):
        def call(*arguments, **keywords):
            function(*arguments, **keywords)
            latest, _ = checkpoint.find_latest(tmp_path)
            assert latest is not None
            seen.append(checkpoint.read(latest)[0].optimizer_step)

        return call

    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", watched(checkpoint.shutil.rmtree))
    checkpoint.write(tmp_path, state(8), meta(7), keep=1)
    assert seen[0] == 7
    assert seen[-1] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000007"]
