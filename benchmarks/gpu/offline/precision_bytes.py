"""Bytes that a forward pass reads and writes under autocast, and with weights in bfloat16.

    python -m benchmarks.gpu.offline.precision_bytes --output FILE.json

Counted, not measured, and no GPU is needed: the models run on tensors without data that say that
they are on one, so that its rules of autocast apply. Of every operation that is no view, what it
reads and what it writes is added up, as eager PyTorch computes it. Two batch sizes tell what is
moved for each image, and what for the weights, whatever the batch. (A backward pass of such tensors
needs a GPU.)
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import cast

import timm
import torch
from rich.console import Console
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import models  # noqa: F401  # registers ours
from benchmarks.machine import machine
from models.build import TimmModel
from models.half_norms import norms_in_half

NAMES = (
    "dynamixer_s",
    "vip_s7",
    "amixer_t",
    "cyclemlp_b2",
    "smlpnet_tiny",
    "gfnet_s",
    "lvvit_s",
    "convmixer_768_32",
    "splitmixer_768_32",
)
PRECISIONS = ("autocast", "ours", "bfloat16")
"""As torch has it; with `models.half_norms`, as we train; with weights in bfloat16."""
BATCHES = (2, 4)
FREE = ("_unsafe_view", "empty", "new_empty", "empty_like", "empty_strided", "detach", "alias")
"""Operations that are no views by their schema, and move nothing."""


class ByteCounter(TorchDispatchMode):
    """Adds up what operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace == "aten" and not func.is_view and func._opname not in FREE:
            leaves = tree_leaves((args, kwargs, out))
            self.total += sum(_bytes(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return out


def _bytes(tensor: Tensor) -> int:
    # What is broadcast is read once.
    held = tensor.untyped_storage().nbytes()
    return min(tensor.numel() * tensor.element_size(), held)


@contextmanager
def autocast() -> Iterator[None]:
    """CUDA's autocast, which torch.autocast refuses where there is no GPU."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)  # noqa: FBT003  # it takes no keyword
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)  # noqa: FBT003


def to_bfloat16(model: nn.Module) -> None:
    """Weights and buffers in bfloat16, but those of BatchNorm, whose averages need float32."""
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            for tensor in own:
                if tensor.dtype == torch.float32:
                    tensor.data = tensor.data.bfloat16()


def _without_data(module: nn.Module) -> None:
    """Replace a module's own tensors by some that say that they are on a GPU."""
    for key, weight in module.named_parameters(recurse=False):
        empty = torch.empty(weight.shape, dtype=weight.dtype, device="cuda")
        module.register_parameter(key, nn.Parameter(empty, requires_grad=weight.requires_grad))
    for key, buffer in module.named_buffers(recurse=False):
        setattr(module, key, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))


def count(name: str, batch: int, precision: str) -> int:
    """Bytes of a forward pass in training, in one of `PRECISIONS`."""
    model = cast("Callable[..., nn.Module]", timm.create_model)(name).train()
    size = cast("TimmModel", model).pretrained_cfg["input_size"]
    with FakeTensorMode(), torch.no_grad():
        for module in model.modules():
            _without_data(module)
        images = torch.empty(batch, *size, device="cuda")
        images = images.contiguous(memory_format=torch.channels_last)
        if precision == "bfloat16":
            to_bfloat16(model)
            images = images.bfloat16()
        if precision == "ours":
            norms_in_half(model)
        casts = nullcontext() if precision == "bfloat16" else autocast()
        with ByteCounter() as counter, casts:
            model(images)
    return counter.total


def measure(name: str) -> dict[str, dict[str, float]]:
    """Bytes for each image and for the weights."""
    found, (few, many) = {}, BATCHES
    for precision in PRECISIONS:
        least, most = (count(name, batch, precision) for batch in BATCHES)
        image = (most - least) / (many - few)
        found[precision] = {"image": image, "weights": least - few * image}
    return found


def main() -> None:
    """Count, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("names", nargs="*", default=NAMES, help="models; default: one a family")
    arguments = parser.parse_args()
    about = {**machine(), "torch": torch.__version__, "timm": timm.__version__}
    report = {"about": about, "models": {}}
    console = Console()
    for name in arguments.names:
        report["models"][name] = measure(name)
        console.print(name, report["models"][name])
        text = json.dumps(report, indent=1) + "\n"
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
