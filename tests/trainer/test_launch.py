"""Whole runs, as a user starts them: killed, stopped, continued, refused; on one rank and two.

Each way to start and to end has a real start, `run` or `start`; what else goes on or is refused
does so in forks, which are spared the imports.
"""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import models  # noqa: F401  # registers dynamixer_nano
from tests.support.forks import ROOT, Fork, free_port
from tools import export_weights, make_digits, make_shards, plot_run, report_run
from trainer.events import TIMINGS

RECIPE = """
model: {name: dynamixer_nano, drop_path_rate: 0.1, args: {depths: [1, 1]}}
data: {crop: {scale: [0.6, 1.0], hflip: 0.5}}
batch: {global_size: 40, per_gpu: 20, evaluation: 100}
optim: {lr: 2.0e-3}
schedule: {epochs: 2, warmup_epochs: 1}
augment: {erase: 0.25, mixup: 0.2, cutmix: 1.0, smoothing: 0.1}
ema: {decay: 0.9}
run: {log_every: 1, save_every_steps: 4, keep_checkpoints: 2}
"""
TRAIN_IMAGES = 487
STEPS = 2 * (TRAIN_IMAGES // 40)
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A third of the training digits, so that a run takes seconds, and all that evaluate."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    make_digits.main([str(folder)])
    for path in sorted((folder / "train").rglob("*.jpg"), key=lambda p: p.name)[TRAIN_IMAGES:]:
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def command(tmp_path_factory, digits) -> Callable[..., list[str]]:
    """A training command; runs of this module lie in folders of their own."""
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe.write_text(RECIPE)

    def make(folder: Path, *overrides: str, launcher: str = "python") -> list[str]:
        launchers = {
            "python": [sys.executable],
            "deepspeed": ["deepspeed", "--num_accelerators", "2", "--master_port", free_port()],
            "torchrun": ["torchrun", "--nproc-per-node", "2", "--master-port", free_port()],
        }
        program = [*launchers[launcher], str(ROOT / "launch.py"), "--config", str(recipe)]
        return [*program, f"run.root={folder}", f"data.root={digits}", *overrides]

    return make


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str] | Fork) -> None:
    """Return when the run has logged `step`."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if any(event["step"] >= step for event in events(folder, "step")):
            return
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.02)
    raise TimeoutError(f"no step {step} after {TIMEOUT_S} s")


def events(folder: Path, kind: str) -> list[dict[str, float]]:
    path = folder / "tiny" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in parsed if event["event"] == kind]


def exit_of(folder: Path) -> tuple[int, str]:
    """The exit code and the message of `exit.json`."""
    told = json.loads((folder / "tiny" / "exit.json").read_text())
    return told["exit_code"], told["message"]


def what_must_repeat(folder: Path) -> list[dict[str, float]]:
    """Steps and evaluations without their timings."""
    chosen = events(folder, "step") + events(folder, "eval")
    return [{k: v for k, v in event.items() if k not in TIMINGS} for event in chosen]


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "tiny" / "checkpoints").glob("step_*"))
    return {
        f"{path.stem}/{name}": tensor
        for path in newest.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


def assert_same_run(folder: Path, other: Path) -> None:
    assert what_must_repeat(folder) == what_must_repeat(other)
    mine, theirs = final_tensors(folder), final_tensors(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(command(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


def test_the_files_of_a_run_keep_their_contract(undisturbed):
    run_folder = undisturbed / "tiny"
    steps, evaluations = events(undisturbed, "step"), events(undisturbed, "eval")
    step_keys = "event step epoch loss lr images_per_s images_per_s_per_gpu mfu"
    step_keys += " peak_memory_bytes data_wait_s data_wait_rank grad_norm"
    assert all(set(event) == set(step_keys.split()) for event in steps)
    eval_keys = "event step epoch top1 top5 count ema loss"
    assert all(set(event) == set(eval_keys.split()) for event in evaluations)
    assert [event["step"] for event in steps] == list(range(1, STEPS + 1))
    assert {event["count"] for event in evaluations} == {360}
    assert [event["ema"] for event in evaluations] == [False, True, False, True]
    summary = json.loads((run_folder / "summary.json").read_text())
    expected = "top1 top5 count ema best_top1 images_per_s data_wait_fraction steps epochs wall_s"
    assert set(summary) == set(expected.split())
    assert (summary["count"], summary["steps"], summary["epochs"]) == (360, STEPS, 2)
    last = [event for event in events(undisturbed, "note") if event["step"] == STEPS]
    waited = f"waited for data {100 * summary['data_wait_fraction']:.1f} % of the time"
    assert sum(waited in str(event["text"]) for event in last) == 1
    assert (run_folder / "recipe.yaml").exists()
    assert not list(run_folder.rglob("*.tmp"))
    report = (run_folder / "report.html").read_text()
    for section in ("Curves", "A batch", "Classes", "Recipe", "Machine and versions"):
        assert f"<h2>{section}</h2>" in report
    assert f"{evaluations[-1]['top1']:.2f} %" in report
    assert "complete" in report
    assert not any("is not up to date" in str(event["text"]) for event in last)


def test_summary_csv_has_a_row_an_epoch(undisturbed):
    rows = list(csv.DictReader((undisturbed / "tiny" / "summary.csv").read_text().splitlines()))
    steps, evaluations = events(undisturbed, "step"), events(undisturbed, "eval")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for epoch, row in enumerate(rows):
        losses = [step["loss"] for step in steps if step["epoch"] == epoch]
        averaged = [e for e in evaluations if e["epoch"] == epoch and e["ema"]]
        assert float(row["train_loss"]) == pytest.approx(sum(losses) / len(losses))
        assert [float(row[name]) for name in ("eval_loss", "eval_top1", "eval_top5")] == [
            averaged[0]["loss"],
            averaged[0]["top1"],
            averaged[0]["top5"],
        ]
        assert float(row["lr"]) == [step["lr"] for step in steps if step["epoch"] == epoch][-1]


def test_a_run_says_what_starts_and_what_came_of_it_and_nothing_else(undisturbed, digits):
    lines = (undisturbed / "stdout.txt").read_text().splitlines()
    folder = undisturbed / "tiny"
    assert lines[0].startswith("model    dynamixer_nano: 0.27 M parameters, ")
    assert lines[1] == f"data     {digits}: 10 classes, 487 training images, 360 validation images"
    assert lines[2] == "length   2 epochs of 12 steps"
    assert lines[4] == "batch    40 = 1 rank x 20 per_gpu x 2 accumulated"
    assert lines[5] == f"folder   {folder}"
    assert lines[6].startswith("step 1/24 ")
    best = max(event["top1"] for event in events(undisturbed, "eval") if event["ema"])
    last = events(undisturbed, "eval")[-1]["top1"]
    assert lines[-5].startswith(f"complete: top-1 {last:.2f} %, top-5 ")
    assert f"(the EMA weights at the end; the best evaluation had {best:.2f} %)" in lines[-5]
    assert lines[-4].endswith(f"all files are in {folder}")
    assert [line.split()[:3] for line in lines[-2:]] == [
        ["python", "tools/validate.py", str(folder)],
        ["python", "tools/export_weights.py", str(folder)],
    ]
    assert (undisturbed / "stderr.txt").read_text() == ""


def test_training_learns(undisturbed):
    losses = [event["loss"] for event in events(undisturbed, "step")]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_killed_in_the_middle_of_an_epoch_it_goes_on_bit_for_bit(
    undisturbed, command, forks, tmp_path
):
    for begin, step in ((start, 6), (forks.start, 15)):
        process = begin(command(tmp_path))
        wait_for_step(tmp_path, step, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert forks.run(command(tmp_path)).returncode == 0
    assert_same_run(tmp_path, undisturbed)


def test_killed_while_it_saves_it_goes_on_bit_for_bit(undisturbed, command, forks, tmp_path):
    # A checkpoint after every step makes a kill at any time likely to meet one being written.
    saving = command(tmp_path, "run.save_every_steps=1")
    for delay_s in (0.0, 0.013, 0.029):
        process = forks.start(saving)
        done = max([event["step"] for event in events(tmp_path, "step")], default=0)
        wait_for_step(tmp_path, done + 3, process)
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert forks.run(saving).returncode == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 75), (signal.SIGUSR2, 143)],
    ids=["SIGTERM", "a code of the recipe's"],
)
def test_told_to_stop_it_saves_leaves_with_the_code_and_goes_on(
    undisturbed, command, forks, tmp_path, number, code
):
    overrides = ("run.save_every_steps=0", "run.save_every=2", f"run.stop_exit_code={code}")
    begin = start if number == signal.SIGTERM else forks.start
    process = begin(command(tmp_path, *overrides))
    wait_for_step(tmp_path, 7, process)
    os.killpg(process.pid, number)
    process.communicate()
    assert process.returncode == code
    assert exit_of(tmp_path) == (code, "stopped")
    assert any("told to stop" in str(event["text"]) for event in events(tmp_path, "note"))
    assert forks.run(command(tmp_path)).returncode == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, command):
    """Stopped in the middle on two ranks under the deepspeed launcher, at stage 2."""
    folder = tmp_path_factory.mktemp("two_ranks")
    overrides = ("zero.stage=2", "run.save_every_steps=10")
    process = start(command(folder, *overrides, launcher="deepspeed"))
    wait_for_step(folder, 12, process)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate()
    return folder


def test_a_run_of_two_ranks_goes_on_with_one(two_ranks, undisturbed, command, forks, tmp_path):
    shutil.copytree(two_ranks, tmp_path, dirs_exist_ok=True)
    continued = forks.run(command(tmp_path, "zero.stage=0"))
    assert continued.returncode == 0, continued.stderr[-3000:]
    for mine, theirs in zip(events(tmp_path, "step"), events(undisturbed, "step"), strict=True):
        # The same images and draws, drop path's too; sums over ranks round differently.
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=2e-3)
    assert {event["count"] for event in events(tmp_path, "eval")} == {360}


def test_a_run_of_two_ranks_under_deepspeed_counts_every_image_once(two_ranks, command, tmp_path):
    shutil.copytree(two_ranks, tmp_path, dirs_exist_ok=True)
    done = run(command(tmp_path, "zero.stage=2", launcher="deepspeed"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "tiny" / "summary.json").read_text())["count"] == 360
    assert not list(Path("/dev/shm").glob("deepspeed_allreduce_buffer_*"))


def test_torchrun_with_bf16(command, tmp_path):
    done = run(command(tmp_path, "precision.dtype=bf16", launcher="torchrun"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert exit_of(tmp_path) == (0, "complete")
    assert {event["count"] for event in events(tmp_path, "eval")} == {360}


@pytest.mark.slow
def test_compiled_blocks_train_as_eager_ones(undisturbed, command, tmp_path):
    short = ("run.compile=blocks", "model.drop_path_rate=0", "schedule.warmup_epochs=0")
    done = run(command(tmp_path, *short, "schedule.epochs=1"))
    assert done.returncode == 0, done.stderr[-3000:]
    # The first step starts from the same weights and images; drop path is off in it alone.
    first, eager = events(tmp_path, "step")[0], events(undisturbed, "step")[0]
    assert first["loss"] == pytest.approx(eager["loss"], rel=0.02)
    assert {event["count"] for event in events(tmp_path, "eval")} == {360}


def test_a_complete_run_is_left_alone_and_says_so(undisturbed, command, forks, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    done = forks.run(command(tmp_path))
    assert done.returncode == 0
    assert "this run is complete after 2 epochs" in done.stderr
    logs = [(folder / "tiny" / "metrics.jsonl").read_text() for folder in (tmp_path, undisturbed)]
    assert logs[0] == logs[1]
    assert_same_run(tmp_path, undisturbed)


def test_a_step_is_saved_once_and_the_log_says_each_save_once(undisturbed):
    saves = [event["step"] for event in events(undisturbed, "save")]
    assert saves == [4, 8, 12, 16, 20, 24]


def test_max_steps_ends_a_run_that_goes_on_without_it_bit_for_bit(
    undisturbed, command, forks, tmp_path
):
    sinks, offline = "run.sinks=[tensorboard,wandb]", {"WANDB_MODE": "offline"}
    stopped = forks.run(command(tmp_path, "run.max_steps=5", sinks), **offline)
    assert stopped.returncode == 0
    assert max(event["step"] for event in events(tmp_path, "step")) == 5
    assert "run.max_steps 5 reached" in str(events(tmp_path, "note")[-1]["text"])
    assert not (tmp_path / "tiny" / "summary.json").exists()
    assert forks.run(command(tmp_path, sinks), **offline).returncode == 0
    assert_same_run(tmp_path, undisturbed)
    ids = {path.name.rpartition("-")[2] for path in tmp_path.glob("tiny/wandb/offline-run-*")}
    assert ids == {json.loads((tmp_path / "tiny" / "wandb.json").read_text())["id"]}


def test_another_recipe_in_the_same_folder_is_refused(undisturbed, command, forks):
    before = (undisturbed / "tiny" / "recipe.yaml").read_text()
    done = forks.run(command(undisturbed, "optim.lr=1.0"))
    assert done.returncode == 2
    assert "optim.lr: was 0.002, now 1.0" in done.stderr
    assert "another run.name" in done.stderr
    assert (undisturbed / "tiny" / "recipe.yaml").read_text() == before


def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_says_so(
    undisturbed, command, forks, tmp_path
):
    process = forks.start(command(tmp_path))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
    said = process.communicate()[1]
    assert process.returncode == 74
    assert "cannot be written" in said
    assert "Free space" in said
    assert not list((tmp_path / "tiny" / "checkpoints").iterdir())
    assert forks.run(command(tmp_path)).returncode == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_run_that_only_skips_steps_ends_in_words_with_1(command, digits, forks, tmp_path, stage):
    execute = run if stage == 0 else forks.run
    done = execute(command(tmp_path, "optim.lr=1.0e+38", f"zero.stage={stage}"))
    assert done.returncode == 1
    assert "were not finite" in done.stderr
    assert "Lower optim.lr" in done.stderr
    assert "Traceback" not in done.stderr
    lines = map(json.loads, (tmp_path / "tiny" / "odd_steps.jsonl").read_text().splitlines())
    skipped = [line for line in lines if line["what"] == "not finite"]
    assert len(skipped) >= 20
    files = {path.stem for path in (digits / "train").rglob("*.jpg")}
    for line in skipped:
        assert line["first_weight"] == "patch_embed.proj.weight"
        (samples,) = line["samples"]  # one rank
        assert len(set(samples)) == 40
        assert {Path(key).name for key in samples} <= files
    notes = [str(event["text"]) for event in events(tmp_path, "note")]
    assert any("was skipped: the gradient of patch_embed.proj.weight and of" in n for n in notes)


@pytest.fixture
def shards(digits, tmp_path):
    """The digits as shards of this test's own, to be damaged."""
    folder = tmp_path / "shards"
    assert make_shards.main([str(digits), "--output", str(folder)]) == 0
    return folder


def cut_off_while_training(process: Fork, runs: Path, shards: Path) -> tuple[int | None, str]:
    """Cut the training shard off in the middle; return the exit code and what was said."""
    wait_for_step(runs, 2, process)
    [shard] = (shards / "train").glob("*.tar")
    os.truncate(shard, shard.stat().st_size // 2)
    said = process.communicate()[1]
    return process.returncode, said


def test_a_shard_that_is_cut_off_ends_a_run_in_words(command, forks, shards, tmp_path):
    runs = tmp_path / "runs"
    process = forks.start(command(runs, f"data.root={shards}"))
    code, said = cut_off_while_training(process, runs, shards)
    assert code == 2
    assert "has been cut off" in said
    assert str(shards / "train") in said
    assert "Traceback" not in said


def test_images_of_a_shard_that_is_cut_off_are_replaced_and_listed(
    command, forks, shards, tmp_path
):
    runs = tmp_path / "runs"
    process = forks.start(command(runs, f"data.root={shards}", "data.on_error=replace"))
    code, said = cut_off_while_training(process, runs, shards)
    assert code == 0, said[-3000:]
    lines = (runs / "tiny" / "bad_samples.jsonl").read_text().splitlines()
    assert lines
    for line in map(json.loads, lines):
        assert line["split"] == "train"
        assert line["file"].startswith(str(shards / "train"))
        assert "has been cut off" in line["reason"]
    notes = [str(event["text"]) for event in events(runs, "note")]
    assert any("unreadable training image" in note for note in notes)


def test_a_damaged_checkpoint_is_passed_over_aloud(undisturbed, command, forks, tmp_path):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    newest = max((tmp_path / "tiny" / "checkpoints").glob("step_*"))
    with (newest / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert forks.run(command(tmp_path)).returncode == 0
    notes = [str(event["text"]) for event in events(tmp_path, "note")]
    assert any("sha256" in note and "passed over" in note for note in notes)
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.root=nowhere"], "nowhere"),
        (["batch.per_gpu=16"], "use per_gpu 10"),
        (["batch.global_size=2000"], f"use at most {TRAIN_IMAGES}"),
        (["precision.dtype=fp16", "zero.stage=1"], "use bf16 or fp32, or a GPU"),
        (["model.name=dynamixer_nanno"], "did you mean 'dynamixer_nano'"),
        (["model.num_classes=3"], "less than the 10 classes"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_train_is_refused_in_words(command, forks, tmp_path, overrides, expected):
    done = forks.run(command(tmp_path, *overrides))
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "tiny" / "recipe.yaml").exists()  # the folder is claimed by nobody


def test_a_run_folder_that_cannot_be_made_ends_with_74(command, tmp_path):
    (tmp_path / "file").write_text("")
    done = run(command(tmp_path / "file"))
    assert done.returncode == 74
    assert "run.root: the folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_exported_weights_score_in_timm_what_the_run_said(undisturbed, digits, tmp_path):
    file = tmp_path / "digits.safetensors"
    assert export_weights.main([str(undisturbed / "tiny"), "--output", str(file)]) == 0
    model = timm.create_model("dynamixer_nano", checkpoint_path=str(file), depths=(1, 1)).eval()
    newest = max((undisturbed / "tiny" / "checkpoints").glob("step_*"))
    saved = load_file(newest / "ema.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_curves_and_report_of_a_run(undisturbed, capsys):
    folder = undisturbed / "tiny"
    assert plot_run.main([str(folder)]) == 0
    assert (folder / "curves.png").stat().st_size > 10_000
    assert report_run.main([str(folder)]) == 0
    report = capsys.readouterr().out
    assert "of 360 images" in report
    assert f"python tools/validate.py {folder}" in report
