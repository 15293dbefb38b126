"""The stages of loading beside the model, as bars of microseconds an image."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tools.speed.stages import Measured
from tools.speed.verdict import Verdict


def draw(measured: Measured, found: Verdict, path: Path, *, title: str) -> None:
    """Write the picture: the stages stacked, then loading as a whole, then the model."""
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    left = 0.0
    for number, (stage, cost) in enumerate(measured.stages.items()):
        axis.barh("stages alone", cost, left=left, color=f"C{number}", label=f"{stage}: {cost:.0f}")
        left += cost
    for name, rate in (("loading together", measured.together), ("the model", measured.model)):
        bars = axis.barh(name, 1e6 / rate, color="0.6")
        axis.bar_label(bars, [f"{rate:,.0f} images/s"], label_type="center")
    axis.invert_yaxis()
    axis.set(xlabel="microseconds an image", title=f"{title}: bottleneck {found.bottleneck}")
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
