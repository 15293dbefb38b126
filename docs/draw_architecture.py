"""Draw docs/architecture.png: which room imports which, as the code has it.

    python docs/draw_architecture.py

Rooms are the packages, and launch.py; an arrow points to what is imported, unless a way through
other rooms leads there too, or a room inside a package uses the package that uses it. What training
imports stands in the lower storey, what only prepares data in the upper one. Nothing is listed by
hand but the names of the storeys and the colours.
"""

import ast
import textwrap
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
TOPS = ("pipeline", "models", "trainer", "tools", "launch")
COLOURS = {"pipeline": "#dcebf7", "models": "#f3dcea", "trainer": "#f7ecd8", "launch": "#f7ecd8"}
OTHER = "#e6e6e6"
PREPARING = ("pipeline.prepare", "tools")
WIDTH, HEIGHT, COLUMN, ROW = 2.5, 0.72, 2.9, 1.35


def rooms() -> dict[str, str]:
    """Return every package that holds modules of its own, and launch, with what it says it is."""
    found = {}
    for top in TOPS:
        files = sorted((ROOT / top).rglob("__init__.py")) or [ROOT / f"{top}.py"]
        for path in files:
            if path.name == "__init__.py" and len(list(path.parent.glob("*.py"))) == 1:
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[".".join(parts).removesuffix(".__init__")] = text.partition("\n")[0]
    return found


def arrows(names: set[str]) -> set[tuple[str, str]]:
    """Return pairs of rooms, the first of which imports something of the second."""
    found = set()
    for path in sorted(ROOT.glob("*.py")) + [f for t in TOPS for f in (ROOT / t).rglob("*.py")]:
        here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts), names)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            for there in {room_of(module, names) for module in modules} - {None, here}:
                found.add((here, there))
    pairs = {(a, b) for a, b in found if a and b}
    # Where a package uses a room inside it, also by way of others, the inner room stands below.
    return {(a, b) for a, b in pairs if not (a.startswith(f"{b}.") and a in reached(b, pairs))}


def reached(start: str, pairs: set[tuple[str, str]]) -> set[str]:
    """Return what `start` imports, itself or by way of others."""
    found: set[str] = set()
    ends = {start}
    while ends:
        ends = {b for a, b in pairs if a in ends} - found
        found |= ends
    return found


def room_of(module: str, names: set[str]) -> str | None:
    """Return the room that a module lies in; None if it is none of ours."""
    while module and module not in names:
        module = module.rpartition(".")[0]
    return module or None


def essential(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out the arrows that a longer way replaces (the transitive reduction)."""

    def reaches(start: str, end: str) -> bool:
        return any(b == end or reaches(b, end) for a, b in pairs if a == start)

    def is_implied(start: str, end: str) -> bool:
        return any(reaches(b, end) for a, b in pairs if a == start and b != end)

    return {pair for pair in pairs if not is_implied(*pair)}


def heights(names: set[str], pairs: set[tuple[str, str]]) -> dict[str, int]:
    """Return the row of each room: above all that it imports."""
    rows: dict[str, int] = {}
    while len(rows) < len(names):
        below = {name: {b for a, b in pairs if a == name} for name in names - rows.keys()}
        ready = {name: others for name, others in below.items() if others <= rows.keys()}
        if not ready:
            raise ValueError(f"rooms import each other in a circle: {', '.join(sorted(below))}")
        rows |= {
            name: max((rows[other] + 1 for other in others), default=0)
            for name, others in ready.items()
        }
    return rows


def places(names: set[str], pairs: set[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Return the lower left corner of each room; a row's rooms stand side by side, centred."""
    rows = heights(names, pairs)
    top = max(row for name, row in rows.items() if not name.startswith(PREPARING))
    lowest = min(row for name, row in rows.items() if name.startswith(PREPARING))
    for name in names:
        rows[name] += (top + 1 - lowest) * name.startswith(PREPARING)
    found = {}
    for row in sorted(set(rows.values())):
        here = sorted(name for name in names if rows[name] == row)
        for i, name in enumerate(here):
            # The upper storey stands aside, so that few arrows pass behind other rooms.
            aside = 1.6 * name.startswith(PREPARING)
            found[name] = ((i - (len(here) - 1) / 2 + aside) * COLUMN, row * ROW)
    return found


def main() -> None:
    """Write the picture beside this file."""
    about = rooms()
    names = set(about)
    pairs = arrows(names)
    where = places(names, pairs)
    figure, axis = plt.subplots(figsize=(13.2, 11), layout="constrained")
    for a, b in sorted(essential(pairs)):
        _arrow(axis, where[a], where[b])
    for name, (x, y) in where.items():
        _box(axis, x, y, name, about[name])
    floor = min(y for name, (_, y) in where.items() if name.startswith(PREPARING)) - 0.3
    axis.axhline(floor, color="#999999", linestyle=":")
    left = min(x for x, _ in where.values())
    axis.text(left, floor + 0.05, "prepares data; training never imports it", color="#777777")
    axis.text(left, floor - 0.22, "training", color="#777777")
    axis.axis("off")
    axis.autoscale_view()
    figure.savefig(Path(__file__).with_name("architecture.png"), dpi=90)


def _colour(name: str) -> str:
    return OTHER if name.startswith(PREPARING) else COLOURS[name.partition(".")[0]]


def _box(axis: Axes, x: float, y: float, name: str, about: str) -> None:
    style = {"boxstyle": "round,pad=0.04", "fc": _colour(name), "ec": "#555555", "zorder": 3}
    axis.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, **style))
    lines = textwrap.fill(about.rstrip("."), 40, max_lines=2, placeholder=" …")
    axis.text(x + WIDTH / 2, y + 0.5, name, ha="center", weight="bold", fontsize=10, zorder=4)
    axis.text(x + WIDTH / 2, y + 0.24, lines, ha="center", va="center", fontsize=7.5, zorder=4)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    tail = (start[0] + WIDTH / 2, start[1])
    head = (end[0] + WIDTH / 2, end[1] + HEIGHT)
    axis.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": "#777777"})


if __name__ == "__main__":
    main()
