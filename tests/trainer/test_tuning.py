"""`run.tuned`: what `tools/tune.py` found is taken, recorded, and kept when a run goes on."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.kernels import switch
from tests.support.recipes import recipe
from tools.tuning.training_step import usual_recipe
from trainer import yaml_config
from trainer.assembly.batch_size import plan_batches
from trainer.process.world import World
from trainer.recipe import Recipe, ZeroConfig
from trainer.run_config import RunConfig
from trainer.tuning import cache
from trainer.tuning.choice import Choice, choice_of, with_choice
from trainer.tuning.tuned import command, with_tuned
from trainer.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
FOUND = Choice(layout="contiguous")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "tuned"))
    return tmp_path / "tuned"


def asking(**changes) -> Recipe:
    return dataclasses.replace(recipe(), run=RunConfig(tuned=True), **changes)


def test_a_recipe_that_does_not_ask_is_left_alone():
    cache.write(cache.case_of(recipe(), CPU), FOUND, {})
    assert with_tuned(recipe(), CPU, None) == (recipe(), "")


def test_what_was_found_is_taken_and_stands_in_the_recipe():
    cache.write(cache.case_of(recipe(), CPU), FOUND, {})
    found, words = with_tuned(asking(), CPU, None)
    assert choice_of(found) == FOUND
    assert not found.run.tuned
    assert "contiguous, plain operations, eager" in words
    assert found.results_fingerprint() == recipe().results_fingerprint()


@pytest.fixture
def cores():
    """As many as torch has threads, as in a run of one rank."""
    before, cores = torch.get_num_threads(), sorted(os.sched_getaffinity(0))
    torch.set_num_threads(len(cores))
    yield cores
    torch.set_num_threads(before)


def test_without_a_finding_the_defaults_are_taken_and_the_command_is_named(cores):
    found, words = with_tuned(asking(), CPU, None)
    assert choice_of(found) == Choice()
    command = words.partition("To find out: ")[2]
    assert command == ("python tools/tune.py --model dynamixer_nano --batch 8 precision.dtype=fp32")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"args": {"segments": 2}, "img_size": 64, "grad_checkpointing": True}},
        {"batch": {"global_size": 6, "per_gpu": 3}},
        {"precision": {"dtype": "bf16", "allow_tf32": True}},
        {"precision": {"dtype": "fp16"}, "zero": {"stage": 2}},
    ],
    ids=" ".join,
)
def test_the_command_that_is_named_measures_the_case(changes, cores):
    sections = {
        name: dataclasses.replace(getattr(recipe(), name), **values)
        for name, values in changes.items()
    }
    asked = asking(**sections)
    _, *words = shlex.split(command(asked, CPU))[1:]
    name, batch = words.index("--model") + 1, words.index("--batch") + 1
    overrides = [word for word in words if "=" in word]
    tuned = usual_recipe(words[name], batch=int(words[batch]), dtype="fp32", overrides=overrides)
    assert cache.case_of(tuned, CPU) == cache.case_of(asked, CPU)


def test_a_rank_with_a_share_of_the_cores_is_tuned_with_as_many(cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*cores, 1000, 1001})
    limit = f"taskset --cpu-list {','.join(map(str, cores))} python tools/tune.py "
    assert command(recipe(), CPU).startswith(limit)
    assert command(recipe(), torch.device("cuda")).startswith("python ")


def test_a_run_that_goes_on_keeps_what_it_began_with():
    cache.write(cache.case_of(recipe(), CPU), FOUND, {})
    for begun in (Choice(), Choice(compile="blocks")):
        found, words = with_tuned(asking(), CPU, with_choice(recipe(), begun))
        assert choice_of(found) == begun
        assert "as the run began" in words


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_gradients_that_add_up_are_not_left_to_cuda_graphs(mode, monkeypatch):
    gpu, graphs = torch.device("cuda"), Choice(compile="model", compile_mode=mode)
    monkeypatch.setattr(cache, "device_name", lambda _: "a GPU")
    cache.write(cache.case_of(recipe(), gpu), graphs, {})
    for begun in (None, with_choice(recipe(), graphs)):
        found, words = with_tuned(asking(), gpu, begun, accumulates=True)
        assert choice_of(found) == Choice(compile="model")
        assert "compiled whole, but for CUDA graphs" in words
        found, words = with_tuned(asking(), gpu, begun, accumulates=False)
        assert choice_of(found) == graphs
        assert "but for" not in words


def test_cuda_graphs_beside_gradients_that_add_up_are_refused():
    run = RunConfig(compile="model", compile_mode="reduce-overhead")
    asked = dataclasses.replace(
        recipe(), run=run, batch=dataclasses.replace(recipe().batch, global_size=32)
    )
    where = {"rank": 0, "local_rank": 0, "local_size": 2}
    gpus = World(world_size=2, device=torch.device("cuda"), **where)
    with pytest.raises(
        ConfigError, match=r"adds up 2 batches .* use run\.compile_mode default, or"
    ):
        plan_batches(asked, gpus, 100)
    assert plan_batches(asked, dataclasses.replace(gpus, world_size=4), 100).accumulation == 1
    assert plan_batches(asked, dataclasses.replace(gpus, device=CPU), 100).accumulation == 2


OTHERS = (
    {"batch": dataclasses.replace(recipe().batch, per_gpu=4)},
    {"model": dataclasses.replace(recipe().model, img_size=64)},
    {"model": dataclasses.replace(recipe().model, args={"segments": 2})},
    {"model": dataclasses.replace(recipe().model, grad_checkpointing=True)},
    {"precision": dataclasses.replace(recipe().precision, dtype="bf16")},
)


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: next(iter(changes)))
def test_another_case_is_another_finding(changes):
    cache.write(cache.case_of(recipe(), CPU), FOUND, {})
    found, _ = with_tuned(asking(**changes), CPU, None)
    assert choice_of(found) == Choice()


def test_a_size_that_is_the_models_own_is_the_same_case():
    sized = dataclasses.replace(recipe().model, img_size=32)
    assert cache.case_of(asking(model=sized), CPU) == cache.case_of(recipe(), CPU)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 0')),
        lambda path: path.write_text(path.read_text().replace('"contiguous"', '"upside down"')),
    ],
)
def test_a_file_that_cannot_be_used_is_as_none(damage):
    case = cache.case_of(recipe(), CPU)
    damage(cache.write(case, FOUND, {}))
    assert cache.read(case) is None


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "millstream" / "tuned"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == Path.home() / ".cache" / "millstream" / "tuned"


def test_choices_beside_tuned_are_refused():
    for choice in (Choice(compile="blocks"), FOUND, Choice(kernels=True)):
        with pytest.raises(ValueError, match="tuned chooses"):
            RunConfig(tuned=True, **dataclasses.asdict(choice))
    with pytest.raises(ValueError, match=r"run\.tuned may compile"):
        asking(zero=ZeroConfig(stage=3))


def test_the_variable_decides_over_the_recipe(monkeypatch):
    monkeypatch.setattr(switch, "ENABLED", False)
    monkeypatch.delenv(switch.VARIABLE, raising=False)
    for value, asked, used in ((None, True, True), (None, False, False), ("0", True, False)):
        if value is not None:
            monkeypatch.setenv(switch.VARIABLE, value)
        switch.choose(asked)
        assert used == switch.ENABLED


def test_a_run_takes_what_was_found_and_keeps_it_whatever_is_found_later(tmp_path, image_folder):
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "model: {name: dynamixer_nano}\n"
        "batch: {global_size: 8, per_gpu: 8}\n"
        "optim: {lr: 1.0e-3}\n"
        "schedule: {epochs: 1}\n"
        "precision: {dtype: bf16}\n"
        f"data: {{root: {image_folder}}}\n"
        f"run: {{name: tiny, tuned: true, root: {tmp_path}, log_every: 1, sinks: []}}\n"
    )
    fused = dataclasses.replace(FOUND, kernels=True)
    found = json.dumps([dataclasses.asdict(fused), dataclasses.asdict(Choice())])
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("tuned_worker.py"), config, found],
        env={name: value for name, value in os.environ.items() if name != switch.VARIABLE}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert choice_of(yaml_config.load(Recipe, tmp_path / "tiny" / "recipe.yaml")) == fused
    assert done.stdout.count("computed: [true, [false]]") == 2  # kernels, not channels-last
    lines = (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    said = [e["text"] for e in events if e["event"] == "note" and "run.tuned" in e["text"]]
    assert ["says" in said[0], "as the run began" in said[1]] == [True, True]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2]
