"""Compile the fused kernels for the Hopper GPUs (sm_90) and count what they take; needs no GPU.

    python -m benchmarks.gpu.offline.kernel_resources --output FILE.json

Per kernel and shape: registers of a thread, bytes spilled to local memory, shared memory, matrix
instructions and the width of global loads, read from the machine code by the tools that come with
Triton. A kernel that spills, or whose products miss the tensor cores, is slow before it is timed.
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
import triton.backends.nvidia
from rich.console import Console
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.machine import machine
from models.kernels import axis_mixing_triton, depthwise_triton
from pipeline.augment.fused import batch_pass_triton

TARGET = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.backends.nvidia.__file__).parent / "bin"

MIXING = {
    "DynaMixer-S, stage 1": (32, 8, 192),
    "DynaMixer-S, stages 2-4": (16, 16, 384),
    "DynaMixer-L, stage 1": (32, 8, 256),
    "DynaMixer-L, stages 2-4": (16, 16, 512),
}
"""Tokens of a line, segments, channels."""
CONVOLUTIONS = {
    "ConvMixer-768/32": (32, 768, 7, 7),
    "ConvMixer-1536/20": (32, 1536, 9, 9),
    "SplitMixer-768/32, rows": (32, 768, 1, 7),
    "SplitMixer-768/32, columns": (32, 768, 7, 1),
}
"""Width of the grid, channels, height and width of the filter."""
BATCHES = {
    "normalise": (0, False, False),
    "normalise, erase": (1, True, False),
    "normalise, erase, mix": (1, True, True),
}
"""Boxes erased of an image of 224 pixels a side, whether with noise, whether images are mixed."""
BATCH_TYPES = {
    "images_ptr": "*u8",
    **{f"{name}_ptr": "*fp32" for name in ("scale", "shift", "noise", "weights")},
    **{f"{name}_ptr": "*i64" for name in ("boxes", "content", "partners", "pasted")},
}
"""Of the tensors of the batch transform; images come out in bf16."""


def compile_kernel(
    kernel, constants: dict[str, Any], types: dict[str, str] | None = None
) -> dict[str, object]:
    """Compile and read the machine code; tensors are bf16 where `types` does not say otherwise."""
    names = kernel.arg_names
    options = {name: constants.pop(name) for name in ("num_warps", "enable_fp_fusion")}
    signature = {
        name: "constexpr" if name in constants else "*bf16" if name.endswith("_ptr") else "i32"
        for name in names
    }
    if "parts_ptr" in signature:
        signature["parts_ptr"] = "*fp32"
    signature |= types or {}
    aligned = {
        (names.index(name),): [["tt.divisibility", 16]] for name in names if name.endswith("_ptr")
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs=aligned,
    )
    compiled = triton.compile(source, target=TARGET, options=options)
    return {
        "warps": options["num_warps"],
        "shared_bytes": compiled.metadata.shared,
        **read_code(compiled.asm["cubin"]),
    }


def read_code(cubin: bytes) -> dict[str, object]:
    """Registers, spills and instructions of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output("cuobjdump", "-res-usage", file.name)
        code = _output("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump names no registers:\n{usage}")
    loads = re.findall(r"\bLDG\.E(?:\.(?:64|128))?", code)
    return {
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),
        "spill_instructions": len(re.findall(r"\b(?:LDL|STL)\b", code)),
        "matrix_instructions": len(re.findall(r"\bHG?MMA\b", code)),
        "multiply_adds": len(re.findall(r"\bFFMA\b", code)),
        "loads": {kind: loads.count(kind) for kind in sorted(set(loads))},
    }


def _output(tool: str, *arguments: str) -> str:
    command = [str(TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure() -> dict[str, dict[str, object]]:
    """Compile every kernel at every shape."""
    found: dict[str, dict[str, object]] = {}
    for name, (length, segments, channels) in MIXING.items():
        sizes = axis_mixing_triton.constants(length, length, channels, segments, torch.bfloat16)
        for part in ("forward", "backward"):
            kernel = getattr(axis_mixing_triton, f"_{part}_kernel")
            found[f"{name}: mixing, {part}"] = compile_kernel(kernel, dict(sizes))
    for name, (width, channels, height, across) in CONVOLUTIONS.items():
        sizes = depthwise_triton.constants(width, channels, height, across)
        ends = {"ACTIVATION": 2, "KEEP": True}
        found[f"{name}: convolution"] = compile_kernel(
            depthwise_triton._forward_kernel, {**sizes, **ends}
        )
        found[f"{name}: filter's gradient"] = compile_kernel(
            depthwise_triton._weight_kernel, {**sizes, "PARTS": 64}
        )
    for name, (boxes, noise, mix) in BATCHES.items():
        sizes = batch_pass_triton.constants(224, 224, boxes, noise=noise, mix=mix)
        found[f"batch, 224 px: {name}"] = compile_kernel(
            batch_pass_triton._finish_kernel, sizes, BATCH_TYPES
        )
    return found


def main() -> None:
    """Compile, count, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    about = {**machine(), "triton": triton.__version__, "torch": torch.__version__}
    report = {"about": about, "target": "sm_90", "kernels": measure()}
    text = json.dumps(report, indent=1) + "\n"
    arguments.output.write_text(text, encoding="utf-8")
    console = Console()
    for name, numbers in report["kernels"].items():
        console.print(f"{name:45} {numbers}")


if __name__ == "__main__":
    main()
