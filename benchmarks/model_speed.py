"""Measures what docs/model_speed.md shows of a processor, part by part, each to its own raw file.

    python -m benchmarks.model_speed --seconds 1200

Runs `benchmarks.bench_model` once a part, in the order of worth; a part that the time cuts off says
so, and the same command goes on. Parts that are complete cost a second each.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.model_speed_table import RESULTS
from pipeline.exit_codes import COMPLETE, INTERRUPTED

S_MODELS = ("amixer_t", "amixer_deit_s", "dynamixer_s", "vip_s7")
LARGE = ("dynamixer_m", "dynamixer_l", "vip_m7", "vip_l7", "amixer_s", "amixer_b")
SMALL = (
    *("splitmixer_i_256_8", "splitmixer_ii_256_8", "splitmixer_iii_256_8", "convmixer_256_8"),
    *("stridemixer_i_256_8", "splitmixer_iv_256_8", "splitmixer_v_256_8"),
)
WIDE = ("splitmixer_768_32", "splitmixer_1024_20_ks9_p14", "convmixer_256_8_ks7_p7")

INFERENCE = ("--modes", "inference")
TRAINING = ("--modes", "training")
BY_BLOCK = ("--compiled", "blocks")
MALLOC = (
    *("splitmixer_ii_256_8", "convmixer_256_8", *TRAINING, "--compiled"),
    *("--batch-size", "64", "--rounds", "3"),
)

PARTS: dict[str, tuple[str, ...]] = {
    "cpu_training": (*S_MODELS, *TRAINING, *BY_BLOCK, "--batch-size", "4", "--rounds", "3"),
    "cpu_inference": (*S_MODELS, *INFERENCE, *BY_BLOCK, "--batch-size", "4", "--rounds", "5"),
    "cpu_malloc": MALLOC,
    "cpu_malloc_default": (*MALLOC, "--malloc", "default"),
    "cpu_small_inference": (*SMALL, *INFERENCE, "--batch-size", "16", "--rounds", "9"),
    "cpu_small_training": (
        *(*SMALL[:5], *TRAINING, *BY_BLOCK, "--batch-size", "16", "--rounds", "5"),
    ),
    "cpu_autocast": (
        *(*S_MODELS[1:], *TRAINING, *BY_BLOCK, "--autocast", "bfloat16"),
        *("--batch-size", "4", "--rounds", "3"),
    ),
    "cpu_bf16": (
        *(*S_MODELS[1:], *INFERENCE, *BY_BLOCK, "--dtype", "bfloat16"),
        *("--batch-size", "4", "--rounds", "5"),
    ),
    "cpu_224": (*WIDE, *BY_BLOCK, "--batch-size", "2", "--rounds", "3"),
    "cpu_large": (*LARGE, "--batch-size", "1", "--rounds", "2", "--compiled"),
}
"""Arguments of `benchmarks.bench_model` by the name of the raw file, after `model_speed_`."""


def main(argv: list[str] | None = None) -> int:
    """Measure what is not measured yet; 75 where the time was over before the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all parts")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    ends = time.monotonic() + arguments.seconds
    outcome = COMPLETE
    for part in arguments.parts or PARTS:
        code = _measure(part, ends)
        if code not in (COMPLETE, INTERRUPTED):
            return code
        outcome = max(outcome, code)
    return outcome


def _measure(part: str, ends: float) -> int:
    """Run a part in a process of its own; returns its exit code."""
    left = ends - time.monotonic()
    if left <= 0:
        print(f"{part}: the time is over")
        return INTERRUPTED
    print(f"== {part}", flush=True)
    command = [sys.executable, "-m", "benchmarks.bench_model", *PARTS[part]]
    command += ["--output", str(RESULTS / f"model_speed_{part}.json"), "--seconds", f"{left:.0f}"]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
