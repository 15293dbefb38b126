"""The small parts of the trainer: parameter groups, loss, event log, run folder, checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.build import build_model
from trainer import checkpoint
from trainer.checkpoint import CheckpointError, Meta, Progress, Tally
from trainer.events import Evaluated, Event, Jsonl, Note, Saved, Step
from trainer.loss import soft_target_cross_entropy
from trainer.optim import parameter_groups
from trainer.recipe import BatchConfig, ModelConfig, OptimConfig, Recipe
from trainer.run_folder import RunFolder, differences
from trainer.schedule import ScheduleConfig
from trainer.yaml_config import ConfigError
from trainer.zero_state import TrainingState

ROOT = Path(__file__).parents[1]


def recipe(**optim: float) -> Recipe:
    return Recipe(
        model=ModelConfig(name="dynamixer_nano"),
        batch=BatchConfig(global_size=8, per_gpu=8),
        optim=OptimConfig(**{"lr": 1e-3, **optim}),
        schedule=ScheduleConfig(epochs=1),
    )


@pytest.mark.parametrize("name", ["dynamixer_nano", "amixer_deit_s"])
def test_biases_norms_and_what_the_model_exempts_are_not_decayed(name):
    model = build_model(name, num_classes=10)
    decayed, spared = parameter_groups(model, OptimConfig(lr=1.0, weight_decay=0.3))
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    for parameter in decayed["params"]:
        assert parameter.ndim > 1
        assert not names[id(parameter)].endswith("bias")
        assert names[id(parameter)] not in model.no_weight_decay()
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_decay_all_leaves_one_group():
    model = build_model("dynamixer_nano", num_classes=10)
    (group,) = parameter_groups(model, OptimConfig(lr=1.0, decay_all=True))
    assert len(group["params"]) == len(list(model.parameters()))


def test_the_loss_is_cross_entropy_with_soft_targets():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, generator=generator)
    targets = torch.rand(7, 5, generator=generator).softmax(1)
    expected = F.cross_entropy(logits.double(), targets.double())
    torch.testing.assert_close(soft_target_cross_entropy(logits, targets).double(), expected)


def step_event(step: int) -> Step:
    return Step(
        step=step, epoch=0, loss=1.0, lr=0.1, images_per_s=1.0, data_wait_s=0.0, grad_norm=1.0
    )


def evaluated(step: int) -> Evaluated:
    return Evaluated(step=step, epoch=0, top1=1.0, top5=2.0, count=3, ema=False)


def write_log(path: Path, events: list[Event], resume_step: int) -> list[tuple[str, int]]:
    sink = Jsonl(path, resume_step=resume_step)
    for event in events:
        sink(event)
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["event"], row["step"]) for row in rows]


def test_a_resumed_log_drops_what_happens_again_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    saved = Saved(step=2, epoch=0, path="x")
    after = Note(step=2, text="after the save")
    write_log(path, [step_event(1), step_event(2), saved, after, step_event(3)], 0)
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    assert write_log(path, [step_event(3)], 2) == [
        ("step", 1),
        ("step", 2),
        ("save", 2),
        ("step", 3),
    ]


def test_a_log_whose_save_line_was_lost_keeps_all_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_log(path, [step_event(1), step_event(2), evaluated(2)], 0)
    assert write_log(path, [], 2) == [("step", 1), ("step", 2), ("eval", 2)]


def test_differences_name_what_changes_results_only():
    lines = differences(recipe(), recipe(lr=2e-3, weight_decay=0.1))
    assert lines == ["optim.lr: was 0.001, now 0.002", "optim.weight_decay: was 0.05, now 0.1"]


def test_a_run_folder_in_use_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(recipe())
    code = (
        "import sys; from pathlib import Path; from trainer import yaml_config;"
        "from trainer.recipe import Recipe; from trainer.run_folder import RunFolder\n"
        "path = Path(sys.argv[1])\n"
        "recipe = yaml_config.load(Recipe, path / 'recipe.yaml')\n"
        "try: RunFolder(path, patience_s=0.1).open(recipe)\n"
        "except yaml_config.ConfigError as error: sys.exit(str(error))"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    folder.close()
    assert second.returncode == 1
    assert "another process is training in this folder" in second.stderr


def test_a_recipe_file_of_another_version_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {nom: x}\n")
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="made by another version"):
        folder.open(recipe())
    folder.close()


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
        progress=Progress(epoch=1, step_in_epoch=2, step=step),
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


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    path = checkpoint.write(tmp_path, state(1), meta(1), keep=1)
    tree = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**tree, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99, and this version reads format 1"):
        checkpoint.find_latest(tmp_path)
