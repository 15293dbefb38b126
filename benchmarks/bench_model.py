"""How fast is a model, and how near its limits? Inference and training steps, four ways.

    python -m benchmarks.bench_model amixer_t splitmixer_i_256_8 --output RESULTS.json
    python -m benchmarks.bench_model dynamixer_s --modes training --autocast bfloat16

Compared, interleaved in one process: the plain transcription of the paper, eager; ours, eager;
ours compiled as a whole, and block by block. On a CPU the clock is CPU time, which other programs
disturb little, and freed memory is kept as in training; on a GPU it is the wall clock. Raw results
are written after each model; the same command goes on where it was interrupted.
`benchmarks.model_speed` measures what docs/model_speed.md shows, and `benchmarks.model_speed_table`
makes its tables.
"""

import argparse
import json
import time
from pathlib import Path

import torch

import models
from benchmarks.machine import bfloat16_units, machine
from benchmarks.model_speed_table import render
from benchmarks.model_timing import Settings, measure
from benchmarks.resumed import Report, begun
from pipeline.errors import DataError
from pipeline.exit_codes import COMPLETE, INTERRUPTED
from pipeline.storage.files import write_atomically
from trainer.process.allocator import keep_freed_memory

MODES = ("inference", "training")
COMPILED = ("whole", "blocks")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(argv: list[str] | None = None) -> int:
    """Measure; 0 on success, 2 on bad arguments, 75 where the time was over before the end."""
    started = time.monotonic()
    parser = _parser()
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(models.names()))
    if unknown or not arguments.names:
        parser.error(f"unknown {', '.join(unknown)}" if unknown else "name at least one model")
    if arguments.autocast and arguments.dtype:
        parser.error("--autocast says the type of the products; leave --dtype out")
    torch.set_num_threads(arguments.threads)
    settings = _settings(arguments)
    here = {"machine": _machine(settings), "settings": _described(settings, arguments)}
    try:
        report = (begun(arguments.output, **here) if arguments.output else None) or here
    except DataError as error:
        parser.error(str(error))
    if settings.device.type == "cpu" and arguments.malloc == "keep":
        keep_freed_memory()
    left = _measure_missing(report, arguments, settings, ends=started + arguments.seconds)
    print(render([report]))
    if left:
        print(f"not in the {arguments.seconds:g} seconds given: {', '.join(left)}; go on by the")
        print("same command")
    return INTERRUPTED if left else COMPLETE


def _measure_missing(
    report: Report, arguments: argparse.Namespace, settings: Settings, *, ends: float
) -> list[str]:
    """Add to the report what it lacks, until the time is over; returns what it still lacks."""
    results = report.setdefault("results", [])
    done = {(result["model"], result["mode"]) for result in results}
    left = []
    for name in arguments.names:
        for mode in arguments.modes:
            if (name, mode) in done:
                continue
            if time.monotonic() >= ends:
                left.append(f"{name} ({mode})")
                continue
            print(f"{name}, {mode}", flush=True)
            results.append(measure(name, mode, settings))
            if arguments.output:
                write_atomically(arguments.output, (json.dumps(report, indent=1) + "\n").encode())
    return left


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="registered models; see benchmarks/model_zoo.py")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--batch-size", type=_positive, default=8)
    parser.add_argument("--rounds", type=_positive, default=11)
    parser.add_argument("--steps", type=_positive, default=1, help="per round and variant")
    parser.add_argument("--threads", type=_positive, default=1, help="of the CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    parser.add_argument(
        "--autocast",
        choices=("bfloat16", "float16"),
        help="type of the products, over float32 weights, as in training; not with --dtype",
    )
    parser.add_argument(
        "--compiled",
        nargs="*",
        choices=COMPILED,
        default=COMPILED,
        help="how ours is compiled, beside eager; nothing after it: not at all",
    )
    parser.add_argument(
        "--contiguous", action="store_true", help="ours not in channels-last layout either"
    )
    parser.add_argument(
        "--malloc",
        choices=("keep", "default"),
        default="keep",
        help="on a CPU: whether freed memory stays in the process, as in training",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="begin no model after them, and end with exit code 75",
    )
    parser.add_argument("--output", type=Path, help="raw results, rewritten after each model")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _settings(arguments: argparse.Namespace) -> Settings:
    device = torch.device(arguments.device)
    default = "bfloat16" if device.type == "cuda" else "float32"
    return Settings(
        batch_size=arguments.batch_size,
        rounds=arguments.rounds,
        steps=arguments.steps,
        device=device,
        dtype=DTYPES[arguments.autocast or arguments.dtype or default],
        channels_last=not arguments.contiguous,
        autocast=arguments.autocast is not None,
        compiled=tuple(arguments.compiled),
    )


def _described(settings: Settings, arguments: argparse.Namespace) -> Report:
    return {
        "device": settings.device.type,
        "dtype": str(settings.dtype).removeprefix("torch."),
        "autocast": settings.autocast,
        "layout": "channels_last" if settings.channels_last else "contiguous",
        "threads": arguments.threads,
        "malloc": arguments.malloc if settings.device.type == "cpu" else None,
        "batch_size": settings.batch_size,
        "rounds": settings.rounds,
        "steps": settings.steps,
        "compiled": list(settings.compiled),
    }


def _machine(settings: Settings) -> Report:
    is_cuda = settings.device.type == "cuda"
    return {
        **machine(),
        "bfloat16 units": bfloat16_units(),
        "gpu": torch.cuda.get_device_name(settings.device) if is_cuda else None,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    raise SystemExit(main())
