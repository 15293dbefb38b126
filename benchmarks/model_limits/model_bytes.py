"""Where a step's bytes go: what eager code reads and writes, by kind, beside the least.

    python -m benchmarks.model_limits.model_bytes   # benchmarks/results/model_bytes.json
    python -m benchmarks.model_speed_table          # docs/model_speed.md from all results

Counted on PyTorch's meta device in pure bfloat16, so nothing is computed. Every operation that is
no view reads its operands and writes its results: what an eager run asks of the memory where no
cache helps. The least is that of `benchmarks.model_cost`.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.model_cost import least_bytes, products, touched
from benchmarks.model_timing import Mode, input_size, make_ours, make_plain
from benchmarks.resumed import begun
from pipeline.storage.files import write_atomically

OUTPUT = Path(__file__).parents[1] / "results" / "model_bytes.json"
BATCH = 16
"""Images; weights count once a step, so figures for an image depend on it a little."""
DTYPE = torch.bfloat16

MODELS = (
    *("dynamixer_s", "vip_s7", "amixer_t", "amixer_deit_s", "convmixer_256_8_ks7_p7"),
    *("splitmixer_768_32", "cyclemlp_b2", "hire_mlp_small", "as_mlp_tiny", "smlpnet_tiny"),
    *("raftmlp_s", "s2_mlpv2_small_7", "lvvit_s", "convmlp_s", "eamlp_14"),
)
"""One of each family, and of both forms of AMixer; GFNet's plain form has no bfloat16."""

KINDS = {
    "products": ("convolution",),
    "norms": ("norm", "var", "rsqrt"),
    "activations": ("gelu", "relu", "sigmoid", "threshold", "hardswish", "silu"),
    "softmax": ("softmax",),
    "copies": (
        *("clone", "copy", "cat", "stack", "roll", "pad", "index", "gather", "slice", "select"),
        *("split", "unfold", "im2col", "col2im", "zeros", "fill", "pixel"),
    ),
    "sums": ("sum", "mean"),
}
"""Parts of an operation's name; what has none of them is "elementwise"."""


class ByteCounter(TorchDispatchMode):
    """Adds up, by kind, what operations that run inside it read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        """Run the operation and count it."""
        out = func(*args, **(kwargs or {}))
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if not _is_free(func, operands, results):
            self.bytes[kind_of(func)] += sum(map(touched, [*operands, *results]))
        return out


def _is_free(func: Any, operands: list[Tensor], results: list[Tensor]) -> bool:
    """Whether it moves nothing: a view, or memory that is only set aside."""
    if func._schema.is_mutable:
        return False
    memory = {t.untyped_storage()._cdata for t in operands}
    is_view = bool(memory) and all(t.untyped_storage()._cdata in memory for t in results)
    return is_view or "empty" in func._overloadpacket.__name__


def kind_of(func: Any) -> str:
    """One of `KINDS`, or "elementwise"."""
    packet = func._overloadpacket
    if packet in flop_registry:
        return "products"
    name = packet.__name__
    return next(
        (kind for kind, parts in KINDS.items() if any(part in name for part in parts)),
        "elementwise",
    )


def count(name: str) -> dict[str, Any]:
    """Bytes of a step of `name`, an image: eager by kind, plain and ours, and the least."""
    ours = products(
        lambda: make_ours(name), input_size=input_size(name), batch_size=BATCH, dtype=DTYPE
    )
    modes: tuple[Mode, ...] = ("inference", "training")
    return {
        "model": name,
        "macs": sum(p.flops for p in ours) // 2 // BATCH,
        **{
            mode: {
                "plain": _eager(name, mode, is_ours=False),
                "ours": _eager(name, mode, is_ours=True),
                "least": least_bytes(ours, training=mode == "training") // BATCH,
            }
            for mode in modes
        },
    }


def _eager(name: str, mode: Mode, *, is_ours: bool) -> dict[str, int]:
    """Ours runs in channels-last layout, as where its time is taken."""
    layout = torch.channels_last if is_ours else torch.contiguous_format
    with torch.device("meta"):
        model: nn.Module = make_ours(name) if is_ours else make_plain(name)
        model = model.to(dtype=DTYPE, memory_format=layout)
        images = torch.empty(BATCH, *input_size(name), dtype=DTYPE).to(memory_format=layout)
    training = mode == "training"
    model.train(training)
    counter = ByteCounter()
    with counter, torch.set_grad_enabled(training):
        logits = model(images)
        if training:
            logits.float().logsumexp(1).sum().backward()
    return {kind: size // BATCH for kind, size in counter.bytes.most_common()}


def main() -> None:
    """Count what is not counted yet; delete the results to count all anew."""
    settings = {"batch_size": BATCH, "dtype": "bfloat16"}
    here = {"machine": {"torch": torch.__version__}, "settings": settings}
    report = begun(OUTPUT, **here) or {**here, "results": []}
    done = {result["model"] for result in report["results"]}
    for name in [name for name in MODELS if name not in done]:
        report["results"].append(count(name))
        report["results"].sort(key=lambda result: MODELS.index(result["model"]))
        write_atomically(OUTPUT, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
