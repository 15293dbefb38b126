"""Whole runs that were cut go on exactly: bit for bit as they were, alike on other ranks."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.forks import Forks
from tools import make_digits, make_shards
from trainer.events import TIMINGS

WORKER = Path(__file__).with_name("resume_worker.py")
RECIPE = """
model: {name: dynamixer_nano, drop_path_rate: 0.3, args: {depths: [1, 1]}}
data: {crop: {scale: [0.6, 1.0], hflip: 0.5}}
batch: {global_size: 24, per_gpu: 6, evaluation: 30}
optim: {lr: 2.0e-3, clip_norm: 1.0}
schedule: {epochs: 2, warmup_epochs: 1}
augment: {erase: 0.25, mixup: 0.2, cutmix: 1.0, smoothing: 0.1}
ema: {decay: 0.9}
run: {log_every: 1, save_every_steps: 2, keep_checkpoints: 9, watchdog_s: 0}
"""
IMAGES = {"train": 96, "val": 30}
CUT, STEPS = 3, 8
PYRAMID = (
    "model.name=cyclemlp_b1",
    "model.args={depths: [1, 1, 1, 1], dims: [8, 12, 16, 20]}",
    "augment.resolution={min_res: 32, max_res: 64, start_ramp: 0, end_ramp: 1}",
)
CASES = {  # name: (ranks, overrides)
    "everything at once": (
        1,
        ("zero.stage=0", "optim.name=lamb", "precision.dtype=bf16", "augment.repeats=2"),
    ),
    "two ranks, stage 3, resolutions": (
        2,
        ("zero.stage=3", "model.grad_checkpointing=true", *PYRAMID),
    ),
}
MATRIX = {
    **{
        f"stage {stage} {dtype} {name}": (
            1,
            (f"zero.stage={stage}", f"precision.dtype={dtype}", f"optim.name={name}"),
        )
        for stage in (0, 1, 2, 3)
        for dtype in ("fp32", "bf16")
        for name in ("adamw", "sgd", "lion")
    },
    **{
        f"stage 0 {name}": (1, ("zero.stage=0", f"optim.name={name}"))
        for name in ("lamb", "muon", "adafactor")
    },
    **{f"two ranks, stage {stage}": (2, (f"zero.stage={stage}",)) for stage in (0, 1, 2, 3)},
    "repeats": (2, ("augment.repeats=3",)),
    "resolutions": (1, PYRAMID),
    "warm EMA": (1, ("ema.warmup=true",)),
    "dropout": (2, ("model.args={drop_rate: 0.2}",)),
    "policy": (1, ("augment.auto_augment=rand-m9-mstd0.5-inc1",)),
}
SAVED = ("zero.stage=2",)
ELASTIC = {  # name: (ranks, overrides), from two ranks at stage 2 on class folders
    "one rank, stage 0, shards": (1, ("zero.stage=0", "data.root={shards}", "batch.per_gpu=12")),
    "three ranks, stage 1, ffcv": (3, ("zero.stage=1", "data.root={ffcv}", "batch.per_gpu=8")),
}
ELASTIC_MATRIX = {
    f"{ranks} ranks, stage {stage}, {form}": (
        ranks,
        (f"zero.stage={stage}", f"data.root={{{form}}}", f"batch.per_gpu={per_gpu}"),
    )
    for ranks, per_gpu in ((1, 24), (2, 12), (3, 4), (4, 6))
    for stage, form in ((0, "ffcv"), (1, "digits"), (2, "shards"), (3, "ffcv"))
}
LOSS_RTOL = 1e-3
"""Sums over ranks and micro-batches round differently, and Adam's first steps enlarge that."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same few digits in three formats."""
    root = tmp_path_factory.mktemp("data")
    digits = root / "digits"
    make_digits.main([str(digits)])
    for split, count in IMAGES.items():
        for path in sorted((digits / split).rglob("*.jpg"), key=lambda p: p.name)[count:]:
            path.unlink()
    for name, options in (("shards", []), ("ffcv", ["--format", "ffcv"])):
        assert make_shards.main([str(digits), "--output", str(root / name), *options]) == 0
    return {name: root / name for name in ("digits", "shards", "ffcv")}


def carry_out(forks: Forks, folder: Path, ranks: int, runs: list[list[str]]) -> None:
    """Let as many ranks do all runs, one after the other."""
    (folder / "recipe.yaml").write_text(RECIPE)
    forks.run_ranks(WORKER, ranks, str(folder / "recipe.yaml"), json.dumps(runs))


def named(folder: Path, name: str, overrides: tuple[str, ...], data: dict[str, Path]) -> list[str]:
    first = [f"run.root={folder}", f"run.name={name}", f"data.root={data['digits']}"]
    return [*first, *(o.format(**data) if o.startswith("data.") else o for o in overrides)]


def cut_and_whole(forks: Forks, folder: Path, cases: dict, data: dict[str, Path]) -> Path:
    """Each case whole, and cut and continued, in as few processes as there are numbers of ranks."""
    for ranks in sorted({ranks for ranks, _ in cases.values()}):
        runs = []
        for name, (needed, overrides) in cases.items():
            if needed == ranks:
                cut = named(folder, f"{name} cut", overrides, data)
                runs += [named(folder, name, overrides, data), [*cut, f"run.max_steps={CUT}"], cut]
        carry_out(forks, folder, ranks, runs)
    return folder


def events(run: Path) -> list[dict]:
    """Steps and evaluations without their timings."""
    parsed = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    chosen = [event for event in parsed if event["event"] in ("step", "eval")]
    return [{k: v for k, v in event.items() if k not in TIMINGS} for event in chosen]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("step_*"))
    return {
        f"{path.stem}/{name}": tensor
        for path in newest.glob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


def images(run: Path) -> dict[int, list[tuple[int, int]]]:
    """For each step the samples of all ranks, each with the checksum of its pixels."""
    seen: dict[int, list[tuple[int, int]]] = {}
    for file in run.glob("batches.*.jsonl"):
        for line in map(json.loads, file.read_text().splitlines()):
            seen.setdefault(line["step"], []).extend(
                zip(line["samples"], line["pixels"], strict=True)
            )
    return {step: sorted(pairs) for step, pairs in sorted(seen.items())}


def assert_goes_on_bit_for_bit(folder: Path, name: str) -> None:
    whole, cut = folder / name, folder / f"{name} cut"
    assert len([event for event in events(whole) if event["event"] == "step"]) == STEPS
    assert events(cut) == events(whole)
    assert images(cut) == images(whole)
    mine, theirs = tensors(cut), tensors(whole)
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


@pytest.fixture(scope="module")
def few(forks, tmp_path_factory, data):
    return cut_and_whole(forks, tmp_path_factory.mktemp("few"), CASES, data)


@pytest.fixture(scope="module")
def all_cases(forks, tmp_path_factory, data):
    return cut_and_whole(forks, tmp_path_factory.mktemp("all"), MATRIX, data)


@pytest.mark.parametrize("name", CASES)
def test_a_cut_run_goes_on_bit_for_bit(few, name):
    assert_goes_on_bit_for_bit(few, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRIX)
def test_a_cut_run_goes_on_bit_for_bit_whatever_its_recipe(all_cases, name):
    assert_goes_on_bit_for_bit(all_cases, name)


def elsewhere(forks: Forks, folder: Path, cases: dict, data: dict[str, Path]) -> Path:
    """A run on two ranks, whole and cut; the cut one continued as each case says."""
    whole = named(folder, "whole", SAVED, data)
    cut = [*named(folder, "cut", SAVED, data), f"run.max_steps={CUT}"]
    carry_out(forks, folder, 2, [whole, cut])
    for name, (ranks, overrides) in cases.items():
        shutil.copytree(folder / "cut", folder / name)
        carry_out(forks, folder, ranks, [named(folder, name, overrides, data)])
    return folder


def assert_goes_on_alike(folder: Path, name: str) -> None:
    mine, whole = events(folder / name), events(folder / "whole")
    assert images(folder / name) == images(folder / "whole")
    assert [event["step"] for event in mine] == [event["step"] for event in whole]
    for own, other in zip(mine, whole, strict=True):
        assert own["loss"] == pytest.approx(other["loss"], rel=LOSS_RTOL)


@pytest.fixture(scope="module")
def few_elsewhere(forks, tmp_path_factory, data):
    return elsewhere(forks, tmp_path_factory.mktemp("few_elsewhere"), ELASTIC, data)


@pytest.fixture(scope="module")
def all_elsewhere(forks, tmp_path_factory, data):
    return elsewhere(forks, tmp_path_factory.mktemp("all_elsewhere"), ELASTIC_MATRIX, data)


@pytest.mark.parametrize("name", ELASTIC)
def test_a_run_goes_on_elsewhere_with_the_same_images_and_draws(few_elsewhere, name):
    assert_goes_on_alike(few_elsewhere, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ELASTIC_MATRIX)
def test_a_run_goes_on_anywhere_with_the_same_images_and_draws(all_elsewhere, name):
    assert_goes_on_alike(all_elsewhere, name)
