"""Convert a published checkpoint to a safetensors file that timm loads.

    python tools/convert_checkpoint.py model_best.pth.tar --model dynamixer_s
    python tools/convert_checkpoint.py FILE --model vip_s7 --img-size 256 --out vip_256.safetensors

After `import models`, timm.create_model("dynamixer_s", checkpoint_path=OUT) loads the output.
Read are files of timm's and of DeiT's training scripts, plain state_dicts and safetensors, in the
layouts of all families. The moving average is taken where there is one. Exit codes: 0 written;
2 the file does not fit the model, or the output exists.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import models
from models.build import input_config
from models.weights.checkpoint_files import read_weights
from models.weights.checkpoints import convert
from pipeline.storage.files import finish_part, part_path
from tools.cli import exits


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one file; returns the exit code."""
    arguments = parse_arguments(argv)
    source: Path = arguments.file
    output: Path = arguments.out or source.with_suffix(".safetensors")
    if output.suffix != ".safetensors":
        return refuse(f"{output}: timm loads safetensors by their suffix; name it .safetensors")
    if output.exists() and (not arguments.force or output.samefile(source)):
        return refuse(f"{output}: exists; name another file with --out, or add --force")
    size = None if arguments.img_size is None else (arguments.img_size[0], arguments.img_size[-1])
    if not output.parent.is_dir():
        return refuse(f"{output.parent}: no such folder; make it, or name another file with --out")
    try:
        stored = read_weights(source, raw=arguments.raw)
        weights, model = convert(stored, arguments.model, img_size=size)
        write(weights, output, model=models.resolve(arguments.model)[0], entry=stored.entry)
    except (ValueError, OSError, SafetensorError) as error:
        return refuse(str(error))
    height, width = input_config(model).size
    name, settings = models.resolve(arguments.model)
    also = "".join(f" with {key}={value!r}" for key, value in settings.items())
    print(
        f"{output}: {name}{also}, {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{model.num_classes} classes, {height}x{width} pixels; "
        f"from {stored.entry or 'the weights'} of {source}"
    )
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the checkpoint; it is only read")
    parser.add_argument(
        "--model",
        required=True,
        help="the variant that it was trained as, by its name or its authors'",
    )
    parser.add_argument("--out", type=Path, help="default: FILE with the suffix .safetensors")
    parser.add_argument("--raw", action="store_true", help="the weights, not their moving average")
    parser.add_argument(
        "--img-size", type=int, nargs="+", help="resample to N x N, or to HEIGHT WIDTH, pixels"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    arguments = parser.parse_args(argv)
    if len(arguments.img_size or ()) > 2:
        parser.error(f"--img-size: expected N, or HEIGHT WIDTH, got {arguments.img_size}")
    return arguments


def write(weights: Mapping[str, Tensor], output: Path, *, model: str, entry: str) -> None:
    """Write the file atomically."""
    part = part_path(output)
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {key: w.clone(memory_format=torch.contiguous_format) for key, w in weights.items()}
    save_file(tensors, part, {"format": "pt", "model": model, "weights": entry})
    finish_part(part)


def refuse(reason: str) -> int:
    """Say why nothing was written; returns the exit code."""
    print(reason, file=sys.stderr)
    return exits.BAD_INPUT


if __name__ == "__main__":
    raise SystemExit(main())
