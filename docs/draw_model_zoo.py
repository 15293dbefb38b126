"""Draw docs/model_zoo.png: accuracy against multiply-adds and parameters, as in DynaMixer's slides.

    python docs/draw_model_zoo.py

Accuracies are the papers', multiply-adds and parameters are counted by us: all of it is read from
docs/model_zoo.csv. Shown are the models for 224 pixels that a paper gives an accuracy on ImageNet.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

DOCS = Path(__file__).parent

FAMILIES = {
    "dynamixer": "DynaMixer", "vip": "ViP", "cyclemlp_b": "CycleMLP-B1 to B5",
    "cyclemlp": "CycleMLP-T, S, B*", "hire_mlp": "Hire-MLP", "as_mlp": "AS-MLP",
    "smlpnet": "sMLPNet", "s2_mlpv2": "S2-MLPv2*", "convmlp": "ConvMLP",
    "raftmlp": "RaftMLP-S, M, L", "raftmlp_one": "RaftMLP-36, 12",
    "eamlp": "EAMLP", "gfnet_h": "GFNet-H", "gfnet": "GFNet",
    "lvvit": "LV-ViT (token labels)", "mixer": "MLP-Mixer", "resmlp": "ResMLP", "gmlp": "gMLP",
    "convmixer": "ConvMixer", "resnet": "ResNet", "regnety": "RegNetY", "deit": "DeiT",
    "swin": "Swin",
}  # fmt: skip
"""What names begin with, the longest decides."""

SERIES = {
    **dict.fromkeys(("cyclemlp_t", "cyclemlp_s", "cyclemlp_b"), "cyclemlp"),
    **dict.fromkeys(("raftmlp_12", "raftmlp_36"), "raftmlp_one"),
}
"""Names that belong to another series than they begin with."""

APART = ("eamlp_7", "resmlp_big_24_224")
"""The paper's accuracy is of other pixels, or of another model than timm's, than our counts."""

COLOURS = [*mpl.color_sequences["Dark2"], *mpl.color_sequences["tab10"], *"bmcyrg"]
MARKERS = "osD^vP"
LEAST = 75.5
"""Percent; lines to models below leave the picture, and the title names them."""
NO_MIXERS = ("resnet", "regnety", "deit", "swin", "lvvit")
"""Drawn with dashes."""


def family(name: str) -> str | None:
    """The series of a model, if it has one."""
    found = [key for key in FAMILIES if name.startswith(key)]
    return SERIES.get(name, max(found, key=len, default=None))


def points() -> dict[str, list[tuple[float, float, float]]]:
    """For each family, (parameters in millions, multiply-adds in billions, top-1 in percent)."""
    found = defaultdict(list)
    with (DOCS / "model_zoo.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            is_imagenet = row["input_pixels"] == "224" and row["classes"] == "1000"
            key = family(row["model"])
            if key is None or row["model"] in APART or not (is_imagenet and row["paper_top1"]):
                continue
            numbers = (int(row["parameters"]) / 1e6, int(row["macs"]) / 1e9)
            found[key].append((*numbers, float(row["paper_top1"])))
    return {key: sorted(found[key]) for key in FAMILIES if key in found}


def draw(axes: Axes, families: dict[str, list[tuple[float, float, float]]], axis: int) -> None:
    """One panel, a line a family; `axis` 0 for parameters, 1 for multiply-adds."""
    for number, (key, values) in enumerate(families.items()):
        ordered = sorted(values, key=lambda value: value[axis])
        is_ours = key == "dynamixer"
        axes.plot(
            [value[axis] for value in ordered],
            [value[2] for value in ordered],
            "--" if key in NO_MIXERS else "-",
            color="black" if is_ours else COLOURS[number],
            marker=MARKERS[number % len(MARKERS)],
            markersize=7 if is_ours else 5,
            linewidth=2.4 if is_ours else 1.2,
            label=FAMILIES[key],
        )
    axes.set_xscale("log")
    axes.grid(visible=True, which="both", alpha=0.25)


def main() -> None:
    """Write the picture."""
    families = points()
    figure, panels = plt.subplots(1, 2, figsize=(13, 7.2), sharey=True)
    titles = ("parameters, millions", "multiply-adds of an image, billions")
    ticks = ((5, 10, 20, 30, 50, 100, 150), (1, 2, 4, 8, 16, 32))
    for axis, (axes, title, places) in enumerate(zip(panels, titles, ticks, strict=True)):
        draw(axes, families, axis)
        axes.set_xlabel(title)
        axes.set_xticks(places, [str(place) for place in places])
        axes.minorticks_off()
    panels[0].set_ylim(LEAST, 84.8)
    panels[0].set_ylabel("top-1 on ImageNet, %, as the papers report it")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", fontsize=9, frameon=False)
    below = ", ".join(
        f"{FAMILIES[key]} of {params:.0f} M {top1}"
        for key, values in families.items()
        for params, _, top1 in values
        if top1 < LEAST
    )
    figure.suptitle(
        "Accuracies are the papers', at 224 pixels; costs are counted by us.  "
        "* after the paper, no code of the authors.  Dashed: no mixers.\n"
        f"Below the picture: {below}.",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 0.84, 0.985))
    figure.savefig(DOCS / "model_zoo.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
