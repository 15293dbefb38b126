"""How fast is a model, and how near its limits? Inference and training steps, four ways.

    python -m benchmarks.bench_model amixer_t splitmixer_i_256_8 --output RESULTS.json
    python -m benchmarks.bench_model --table docs/model_speed.md --results RESULTS.json ...

Compared, interleaved in one process: the plain transcription of the paper, eager; ours, eager;
ours compiled as a whole, and block by block. On a CPU the clock is CPU time, which other programs
disturb little; on a GPU it is the wall clock. The first form writes raw results, the second makes
the table.
"""

import argparse
import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

import torch

import models
from benchmarks.model_speed_table import page, render
from benchmarks.model_timing import Settings, measure
from pipeline.storage.files import write_atomically

MODES = ("inference", "training")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(argv: list[str] | None = None) -> int:
    """Measure, or make the table; 0 on success, 2 on bad arguments."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.table:
        if not arguments.results:
            parser.error("--table needs --results FILE...: the raw results to make it from")
        table = page([_read(path) for path in arguments.results])
        write_atomically(arguments.table, table.encode())
        return 0
    unknown = sorted(set(arguments.names) - set(models.names()))
    if unknown or not arguments.names:
        parser.error(f"unknown {', '.join(unknown)}" if unknown else "name at least one model")
    torch.set_num_threads(arguments.threads)
    settings = _settings(arguments)
    report: dict[str, object] = {
        "machine": _machine(settings),
        "settings": _described(settings, arguments),
    }
    results = report["results"] = []
    for name in arguments.names:
        for mode in arguments.modes:
            print(f"{name}, {mode}", flush=True)
            results.append(measure(name, mode, settings))
            if arguments.output:
                write_atomically(arguments.output, (json.dumps(report, indent=1) + "\n").encode())
    print(render([report]))
    return 0


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
        "--contiguous", action="store_true", help="ours not in channels-last layout either"
    )
    parser.add_argument("--output", type=Path, help="raw results, rewritten after each model")
    parser.add_argument("--table", type=Path, help="Markdown table to make from --results")
    parser.add_argument("--results", type=Path, nargs="+", help="files written by --output")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _settings(arguments: argparse.Namespace) -> Settings:
    device = torch.device(arguments.device)
    dtype = arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    return Settings(
        batch_size=arguments.batch_size,
        rounds=arguments.rounds,
        steps=arguments.steps,
        device=device,
        dtype=DTYPES[dtype],
        channels_last=not arguments.contiguous,
    )


def _described(settings: Settings, arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "device": settings.device.type,
        "dtype": str(settings.dtype).removeprefix("torch."),
        "layout": "channels_last" if settings.channels_last else "contiguous",
        "threads": arguments.threads,
        "rounds": settings.rounds,
        "steps": settings.steps,
    }


def _machine(settings: Settings) -> dict[str, object]:
    cpu = platform.processor()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), cpu)
    is_cuda = settings.device.type == "cuda"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(settings.device) if is_cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def _read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    raise SystemExit(main())
