"""Kill -9 over one run, again and again: it must end as an undisturbed run, bit for bit.

    python -m benchmarks.chaos [--kills 100] [--ranks 1 2] [--seed 0] [--scratch DIR] [--json FILE]

For each number of ranks there is an undisturbed run of a small model and one that is killed at
random moments: the process itself where there is one rank, otherwise torchrun, rank 0 or rank 1.
After each kill the same command starts again; after the last one it runs to its end. Compared are
all tensors of the last checkpoint (weights, average, the optimizer's state) and all `step` and
`eval` lines of the log but for their timings.

A kill is aimed at the start-up, at a step or at a save, since most of the time is start-up; what it
hit is read from the run's folder at that moment. Who and when is drawn from the seed and the
kill's number. Interrupted, the same command goes on after the last kill in the scratch folder.
"""

import argparse
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from benchmarks.chaos_attempt import (
    EPOCH_STEPS,
    RUN_NAME,
    Attempt,
    RunFailedError,
    newest_step,
    plan_kill,
)
from benchmarks.machine import machine
from tools import make_digits
from trainer.events import TIMINGS

ROOT = Path(__file__).parents[1]
EPOCHS, BATCH = 12, 16
TRAIN_IMAGES, VAL_IMAGES = EPOCH_STEPS * BATCH, 120
RECIPE = f"""\
model: {{name: dynamixer_nano, drop_path_rate: 0.1}}
data: {{crop: {{scale: [0.6, 1.0], hflip: 0.5}}}}
batch: {{global_size: {BATCH}, per_gpu: 8, evaluation: 60}}
optim: {{lr: 2.0e-3}}
schedule: {{epochs: {EPOCHS}, warmup_epochs: 1}}
augment: {{erase: 0.25, mixup: 0.2, cutmix: 1.0, smoothing: 0.1}}
ema: {{decay: 0.9}}
run: {{name: {RUN_NAME}, log_every: 1, save_every_steps: 4, keep_checkpoints: 2}}
"""


def prepare(scratch: Path) -> None:
    """Write the images and the recipe."""
    digits = scratch / "digits"
    if not (scratch / "recipe.yaml").exists():
        make_digits.main([str(digits)])
        for split, count in (("train", TRAIN_IMAGES), ("val", VAL_IMAGES)):
            for path in sorted((digits / split).rglob("*.jpg"), key=lambda p: p.name)[count:]:
                path.unlink()
        (scratch / "recipe.yaml").write_text(RECIPE)


def kill_over_a_run(
    scratch: Path, *, ranks: int, kills: int, seed: int, console: Console
) -> list[dict[str, object]]:
    """Start, kill and start again until `kills` are done, then run to the end; what was killed."""
    folder = scratch / f"killed_{ranks}"
    journal = scratch / f"kills_{ranks}.jsonl"
    done = (
        [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    )
    while len(done) < kills and not (folder / RUN_NAME / "summary.json").exists():
        left = EPOCHS * EPOCH_STEPS - newest_step(folder)
        kill = plan_kill(
            seed=seed, ranks=ranks, number=len(done), steps_left=left, kills_left=kills - len(done)
        )
        with Attempt(scratch, folder, ranks=ranks) as attempt:
            record = attempt.carry_out(kill)
        if record is None:
            break
        with journal.open("a") as file:
            file.write(json.dumps(record) + "\n")
        done.append(record)
        console.print(
            f"{ranks} rank(s), kill {len(done)} of {kills}: {record['victim']} in the"
            f" {record['phase']} at step {record['step']}, {record['wall_s']:.0f} s"
        )
    with Attempt(scratch, folder, ranks=ranks) as attempt:
        attempt.run_to_the_end()
    return done


def compare(mine: Path, theirs: Path) -> dict[str, object]:
    """What differs between two runs' last checkpoints and logs."""
    a, b = _tensors(mine), _tensors(theirs)
    logs = [_lines(folder) for folder in (mine, theirs)]
    different = [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]
    return {
        "tensors": len(a),
        "tensors_that_differ": sorted(different),
        "lines": len(logs[0]),
        "lines_equal": logs[0] == logs[1],
    }


def _tensors(folder: Path) -> dict[str, tuple[object, ...]]:
    """Type, shape and bytes of each tensor of the last checkpoint, and what `meta.json` counts."""
    from safetensors.numpy import load_file

    newest = max((folder / RUN_NAME / "checkpoints").glob("step_*[0-9]"))
    found: dict[str, tuple[object, ...]] = {
        f"{path.stem}/{name}": (str(array.dtype), array.shape, array.tobytes())
        for path in newest.glob("*.safetensors")
        for name, array in load_file(path).items()
    }
    meta = json.loads((newest / "meta.json").read_text())
    found["meta"] = (meta["progress"], meta["evaluated"], meta["optimizer_step"])
    return found


def _lines(folder: Path) -> list[dict[str, object]]:
    """Steps and evaluations in their order, without timings."""
    lines = (folder / RUN_NAME / "metrics.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] in ("step", "eval")]
    return [{k: v for k, v in event.items() if k not in TIMINGS} for event in events]


def run(
    scratch: Path, *, ranks: list[int], kills: int, seed: int, console: Console
) -> dict[str, object]:
    """The whole benchmark; `kills` are shared among the numbers of ranks."""
    began = time.monotonic()
    prepare(scratch)
    series = []
    for place, number in enumerate(ranks):
        share = kills * (place + 1) // len(ranks) - kills * place // len(ranks)
        undisturbed = scratch / f"undisturbed_{number}"
        with Attempt(scratch, undisturbed, ranks=number) as attempt:
            attempt.run_to_the_end()
        done = kill_over_a_run(scratch, ranks=number, kills=share, seed=seed, console=console)
        series.append(
            {
                "ranks": number,
                "kills": len(done),
                "steps": newest_step(scratch / f"killed_{number}"),
                "phases": Counter(str(kill["phase"]) for kill in done),
                "victims": Counter(str(kill["victim"]) for kill in done),
                "had_to_be_ended": sum(bool(kill["outlived"]) for kill in done),
                "compared": compare(scratch / f"killed_{number}", undisturbed),
                "all_kills": done,
            }
        )
        console.print_json(data={k: v for k, v in series[-1].items() if k != "all_kills"})
    return {
        "machine": machine("torch", "deepspeed"),
        "commit": _commit(),
        "seed": seed,
        "recipe": RECIPE,
        "this_process_s": round(time.monotonic() - began),
        "series": series,
    }


def _commit() -> str:
    """The version that was measured; `CHAOS_COMMIT` names it where the folder is a copy."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return os.environ.get("CHAOS_COMMIT") or asked.stdout.strip() or "unknown"


def is_sound(result: dict[str, object]) -> bool:
    """Whether every killed run ended as its undisturbed one."""
    series = result["series"]
    assert isinstance(series, list)
    return all(
        not one["compared"]["tensors_that_differ"] and one["compared"]["lines_equal"]
        for one in series
    )


def main(argv: list[str] | None = None) -> int:
    """Run it; 0 if nothing differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="in all (default: 100)")
    parser.add_argument("--ranks", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    parser.add_argument("--seed", type=int, default=0, help="of who is killed when")
    parser.add_argument("--scratch", type=Path, default=Path("runs/chaos"))
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args(argv)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    try:
        result = run(
            arguments.scratch.resolve(),
            ranks=arguments.ranks,
            kills=arguments.kills,
            seed=arguments.seed,
            console=console,
        )
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on after the last kill")
        return 130
    except RunFailedError as error:
        console.print(f"error: {error}", markup=False)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    console.print("equal bit for bit" if is_sound(result) else "NOT EQUAL")
    return 0 if is_sound(result) else 1


if __name__ == "__main__":
    raise SystemExit(main())
