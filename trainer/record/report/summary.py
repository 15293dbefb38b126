"""The head of the page: how the run, or each of several, turned out, and where its time went."""

from collections.abc import Sequence

from pipeline.words import counted, duration
from trainer.record.data_wait import waiting_in_words
from trainer.record.report.files import RunFiles
from trainer.record.report.html import Cell, Html, element, join, section, table
from trainer.record.report.published import Published
from trainer.record.report.shares import percentages, shares
from trainer.record.run_folder import next_commands


def state_of(run: RunFiles) -> str:
    """`complete`, or how far the run is."""
    if run.summary:
        return "complete"
    total = run.start.get("total_steps")
    return f"step {run.step:,} of {total:,}" if total else f"step {run.step:,}"


def deviation(top1: float, count: int) -> float:
    """Standard deviation of a top-1 in percent, were other images drawn."""
    return (top1 * (100 - top1) / max(count, 1)) ** 0.5


def cards(run: RunFiles, published: Published | None) -> Html:
    """The figures of one run, large."""
    result, summary = run.result, run.summary
    made: list[tuple[str, str, str]] = []
    if result:
        error = deviation(result["top1"], result["count"])
        weights = "EMA weights" if result["ema"] else "weights"
        best = max(event["top1"] for event in run.evaluations(ema=result["ema"]))
        said = f"± {error:.2f}, {weights}, {counted(result['count'], 'image')}; best {best:.2f} %"
        made.append(("Top-1", f"{result['top1']:.2f} %", said))
    made += _paper(run, published)
    if speed := _speed(run):
        made.append(("Training", f"{speed:,.0f}", "images a second"))
    if (waited := _waited(run)) is not None:
        made.append(("Waiting for data", f"{100 * waited:.1f} %", "of the training time"))
    wall = summary.get("wall_s") or run.meta.get("tally", {}).get("wall_s")
    if wall:
        epochs = summary.get("epochs") or run.meta["progress"]["epoch"]
        made.append(
            ("Time", duration(wall), f"for {counted(epochs, 'epoch')}, up to the last save")
        )
    if memory := _memory(run):
        made.append(("Memory", f"{memory:.1f} GiB", "at most, of a rank"))
    boxes = (
        element(
            "div",
            element("h3", name),
            element("p", value, class_="figure"),
            element("p", said, class_="note"),
            class_="card",
        )
        for name, value, said in made
    )
    return element("div", *boxes, class_="cards")


def beside(runs: Sequence[RunFiles], published: Sequence[Published | None]) -> Html:
    """The figures of several runs, a row each."""
    header = ("run", "state", "model", "top-1, %", "±", "best, %", "paper, %", "images/s")
    header += ("data wait, %", "time", "steps", "commit")
    rows: list[list[Cell]] = []
    for run, one in zip(runs, published, strict=True):
        result = run.result
        wall = run.summary.get("wall_s") or run.meta.get("tally", {}).get("wall_s")
        same = run.evaluations(ema=result["ema"]) if result else []
        speed, waited = _speed(run), _waited(run)
        rows.append(
            [
                run.name,
                state_of(run),
                run.recipe.model.name if run.recipe else None,
                round(result["top1"], 2) if result else None,
                round(deviation(result["top1"], result["count"]), 2) if result else None,
                round(max(event["top1"] for event in same), 2) if same else None,
                one.top1 if one and _comparable(run, one) else None,
                None if speed is None else round(speed),
                None if waited is None else round(100 * waited, 1),
                duration(wall) if wall else None,
                run.step,
                run.meta.get("environment", {}).get("commit"),
            ]
        )
    # A column of which nothing is known, such as the paper's figure, is left out.
    shown = [i for i in range(len(header)) if any(row[i] is not None for row in rows)]
    names = [header[i] for i in shown]
    return section("Results", table(names, [[row[i] for i in shown] for row in rows]))


def time_section(runs: Sequence[RunFiles]) -> Html:
    """Where the time went: bars of shares, which sum to 100 %."""
    bars = [_bar(run, named=len(runs) > 1) for run in runs]
    said = [bar for bar in bars if bar is not None]
    if not said:
        note = "Known from the first checkpoint on."
        return section("Where the time went", note=note)
    waits = [waiting_in_words(waited) for run in runs if (waited := _waited(run)) is not None]
    note = "All the time up to the newest checkpoint, over all processes of the run; sums to 100 %."
    if len(runs) == 1 and waits:
        note += f" In training, {waits[0]}."
    return section("Where the time went", *said, note=note)


def next_section(run: RunFiles) -> Html:
    """What is done with a run now."""
    if run.summary:
        commands: Sequence[str] = next_commands(run.path)
    else:
        commands = (f"deepspeed launch.py --config {run.path / 'recipe.yaml'}",)
    return section("What comes next", element("pre", "\n".join(commands)))


def _paper(run: RunFiles, published: Published | None) -> list[tuple[str, str, str]]:
    if published is None or published.top1 is None:
        return []
    said = f"{published.name}, on {published.data}"
    if not _comparable(run, published):
        said += "; this run has other data, which cannot be compared"
    elif run.result:
        said += f"; this run: {run.result['top1'] - published.top1:+.2f}"
    return [("The paper", f"{published.top1:g} %", said)]


def _comparable(run: RunFiles, published: Published) -> bool:
    return bool(run.result) and published.is_comparable(
        num_classes=run.start.get("num_classes", 0), count=run.result["count"]
    )


def _speed(run: RunFiles) -> float | None:
    tally = run.meta.get("tally", {})
    if tally.get("train_s"):
        return tally["images"] / tally["train_s"]
    return run.summary.get("images_per_s")


def _waited(run: RunFiles) -> float | None:
    tally = run.meta.get("tally", {})
    if tally.get("train_s"):
        return tally["wait_s"] / tally["train_s"]
    return run.summary.get("data_wait_fraction")


def _memory(run: RunFiles) -> float | None:
    """GiB; steps say it in bytes, if they do."""
    found = [
        value
        for event in run.of_kind("step")
        for key, value in event.items()
        if "memory" in key and key.endswith("_bytes") and value is not None
    ]
    return max(found) / (1 << 30) if found else None


def _bar(run: RunFiles, *, named: bool) -> Html | None:
    parts = shares(run)
    if not parts:
        return None
    percents = percentages(parts)
    pieces = [
        element(
            "span",
            class_=f"share share-{i}",
            style=f"width: {percent}%",
            title=f"{part.name}: {percent:.1f} %, {duration(part.seconds)}",
        )
        for i, (part, percent) in enumerate(zip(parts, percents, strict=True))
    ]
    key = [
        element(
            "li",
            element("i", class_=f"share-{i}"),
            f"{part.name} ",
            element("b", f"{percent:.1f} %"),
            element("span", f" {duration(part.seconds)}", class_="note"),
        )
        for i, (part, percent) in enumerate(zip(parts, percents, strict=True))
    ]
    return join(
        element("h3", run.name) if named else None,
        element("div", *pieces, class_="bar", role="img", aria_label="shares of the time"),
        element("ul", *key, class_="key"),
    )
