"""Draw docs/architecture.png: who hands what to whom.

python docs/draw_architecture.py
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

BOXES = {
    # Values: left, bottom, width, title, lines, colour.
    "folder": (0.0, 4.2, 2.6, "image folders", "/imagenet/{train,val}/CLASS/*.JPEG", "#eeeeee"),
    "shards": (0.0, 2.6, 2.6, "tools/make_shards.py", "WebDataset shards + index", "#dcebf7"),
    "source": (0.0, 1.0, 2.6, "pipeline/formats", "Source: encoded sample by index", "#dcebf7"),
    "order": (
        3.2,
        4.2,
        2.9,
        "pipeline/order, draws",
        "f(seed, epoch, sample):\nwho comes when, which crop",
        "#dcf3e1",
    ),
    "loader": (
        3.2,
        1.8,
        2.9,
        "pipeline/loaders",
        "DALI graph without random state\nraw uint8, channels-last",
        "#dcebf7",
    ),
    "transform": (
        6.7,
        1.8,
        2.9,
        "pipeline/augment/batches",
        "normalise, erase, mixup, cutmix\non the device",
        "#dcebf7",
    ),
    "recipe": (6.7, 4.2, 2.9, "trainer/recipe", "configs/*.yaml, typed, checked", "#f7ecd8"),
    "model": (
        10.2,
        4.2,
        2.9,
        "models",
        "DynaMixer, ViP, AMixer,\nSplitMixer; timm registry",
        "#f3dcea",
    ),
    "engine": (
        10.2,
        1.8,
        2.9,
        "trainer/engine, loop",
        "DeepSpeed: ZeRO 0-3, fp32/bf16/fp16\nlr(step), EMA, exact evaluation",
        "#f7ecd8",
    ),
    "run": (
        10.2,
        0.0,
        2.9,
        "runs/NAME",
        "metrics.jsonl, checkpoints\n(safetensors, any world size)",
        "#eeeeee",
    ),
}
ARROWS = [
    ("folder", "shards"),
    ("shards", "source"),
    ("source", "loader"),
    ("order", "loader"),
    ("loader", "transform"),
    ("transform", "engine"),
    ("recipe", "transform"),
    ("recipe", "engine"),
    ("model", "engine"),
    ("engine", "run"),
]
HEIGHT = 1.0


def main() -> None:
    """Write the picture beside this file."""
    figure, axis = plt.subplots(figsize=(13.2, 5.4), layout="constrained")
    for x, y, width, title, lines, colour in BOXES.values():
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, HEIGHT, boxstyle="round,pad=0.06", fc=colour, ec="#555555"
            )
        )
        axis.text(x + width / 2, y + 0.78, title, ha="center", weight="bold", fontsize=10)
        axis.text(x + width / 2, y + 0.3, lines, ha="center", va="center", fontsize=8.5)
    for start, end in ARROWS:
        _arrow(axis, start, end)
    axis.set_xlim(-0.2, 13.3)
    axis.set_ylim(-0.2, 5.4)
    axis.axis("off")
    figure.savefig(Path(__file__).with_name("architecture.png"), dpi=90)


def _arrow(axis: Axes, start: str, end: str) -> None:
    """From the side of one box to the facing side of the other."""
    x0, y0, width0, *_ = BOXES[start]
    x1, y1, width1, *_ = BOXES[end]
    if x1 > x0 + width0 and abs(y1 - y0) < 1.5:  # to the right
        tail, head = (x0 + width0 + 0.08, y0 + HEIGHT / 2), (x1 - 0.08, y1 + HEIGHT / 2)
    elif x1 == x0:  # down
        tail, head = (x0 + width0 / 2, y0 - 0.08), (x1 + width1 / 2, y1 + HEIGHT + 0.08)
    else:  # down to the right
        tail, head = (x0 + width0, y0 - 0.08), (x1 - 0.08, y1 + HEIGHT)
    axis.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": "#555555"})


if __name__ == "__main__":
    main()
