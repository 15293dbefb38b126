"""Folders of runs as training leaves them behind, written by what training writes them with."""

import json
from dataclasses import replace

import numpy as np
import torch

from pipeline.config import InputSpec
from pipeline.formats.open import open_source
from tests.support.recipes import recipe
from trainer import yaml_config
from trainer.events import Evaluated, Jsonl, Note, Saved, Started, Step
from trainer.record.report.judged import Judged
from trainer.record.report.kept import SeenBatch, keep_batch, keep_evaluation

SPEC = InputSpec(
    size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop_pct=1.0, interpolation="bicubic"
)
BATCH, STEPS = 8, 40


def judged(source, *, num_classes=None, seed=0):
    """What a model with random logits says of a source."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.from_numpy(np.asarray(source.labels, np.int64))
    count = num_classes or len(source.classes)
    logits = torch.randn(len(labels), count, generator=generator)
    probabilities = logits.softmax(1)
    best = probabilities.max(1)
    return Judged(
        samples=np.arange(len(labels)),
        labels=labels.numpy(),
        predicted=best.indices.numpy(),
        confidence=best.values.numpy(),
        right=probabilities[torch.arange(len(labels)), labels].numpy(),
    )


def step(number, **fields):
    given = {"loss": 3.0 / number, "grad_norm": 1.0 + number % 3, "lr": 1e-3 / number}
    rates = {"images_per_s": 100.0 + number, "data_wait_s": 0.01, "data_wait_rank": 0}
    return Step(step=number, epoch=number // 20, **{**given, **rates, **fields})


def write_log(folder, *, steps=STEPS):
    log = Jsonl(folder / "metrics.jsonl")
    lines = ("model    dynamixer_nano: 0.51 M parameters", "warning: <b>small</b> images")
    for done in (0, steps // 2):
        log(
            Started(
                step=done,
                total_steps=2 * steps,
                epochs=4,
                batch=BATCH,
                per_gpu=BATCH,
                num_classes=5,
                compile="none",
                lines=lines,
            )
        )
        for number in range(done + 1, done + steps // 2 + 1):
            log(step(number) if number != 7 else step(number, loss=None, grad_norm=None))
        for ema in (False, True):
            scores = {"top1": 20.0 + number + ema, "top5": 90.0, "count": 22, "loss": 1.5}
            log(Evaluated(step=number, epoch=number // 20 - 1, ema=ema, **scores))
        log(Note(step=number, text="told to stop: </script><img src=x onerror='hurt=1'>"))
        log(Saved(step=number, epoch=1, path="x"))
    log.close()


def write_run(folder, images, *, name, words=None, **optim):
    """A run that was stopped, went on, and is not complete; returns its folder."""
    run = folder / name
    run.mkdir(parents=True)
    made = replace(recipe(**optim), data=replace(recipe().data, root=str(images)))
    (run / "recipe.yaml").write_text(yaml_config.dump(made))
    write_log(run)
    source = open_source(str(images / "val"), made.data)
    words = words or list(source.classes)
    where = {"step": STEPS, "epoch": 1, "ema": True}
    keep_evaluation(run, judged(source, seed=len(name)), source, words, **where)
    pixels = torch.randn(len(words), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keep_batch(run, SeenBatch(pixels, torch.eye(len(words)), 0), SPEC, words)
    bad = {"split": "train", "sample": 3, "key": "n/<3>", "file": "f", "reason": "torn", "epoch": 0}
    (run / "bad_samples.jsonl").write_text(json.dumps(bad) + "\n")
    checkpoint = run / "checkpoints" / "step_00000040"
    checkpoint.mkdir(parents=True)
    tally = {"images": 320, "train_s": 6.0, "wait_s": 1.0, "wall_s": 10.0}
    meta = {
        "progress": {"epoch": 2, "step": STEPS},
        "tally": {**tally, "eval_s": 2.0, "save_s": 0.5},
        "environment": {"torch": torch.__version__, "commit": "abc"},
    }
    (checkpoint / "meta.json").write_text(json.dumps(meta))
    return run
