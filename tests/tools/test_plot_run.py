"""`tools/plot_run.py`: pictures of one run and of several; what cannot be drawn is told."""

import json

import pytest
from matplotlib import pyplot as plt

from tools import plot_run


def write_log(folder, steps=200, evaluations=True):
    folder.mkdir()
    rows = [
        {"event": "step", "step": i, "loss": None if i == 7 else 5.0 - i / 100, "lr": 0.1}
        | {"images_per_s": 100.0 + i % 3}
        for i in range(1, steps + 1)
    ]
    if evaluations:
        rows += [
            {"event": "eval", "step": i, "top1": i / 4, "count": 100, "ema": ema}
            for i in (100, 200)
            for ema in (False, True)
        ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "recipe.yaml").write_text("model: {name: dynamixer_nano}\n")
    (folder / "metrics.jsonl").write_text(lines + '{"event": "st')
    return folder


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, kept open to be looked into."""
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    yield kept
    monkeypatch.undo()
    for figure in kept:
        plt.close(figure)


def test_the_loss_axis_shows_the_loss_and_not_zero(tmp_path, figures):
    run = write_log(tmp_path / "run")
    assert plot_run.main([str(run)]) == 0
    (figure,) = figures
    low, high = figure.axes[0].get_ylim()
    assert 2.5 < low < 3.0
    assert 5.0 < high < 5.5
    assert (run / "curves.png").stat().st_size > 10_000


def test_the_legend_names_weights_best_and_last_and_covers_no_data(tmp_path, figures):
    assert plot_run.main([str(write_log(tmp_path / "run"))]) == 0
    (figure,) = figures
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    ends = "best 50.00 %, last 50.00 %"
    assert texts == [f"weights: {ends}", f"EMA weights: {ends}"]
    assert all(axis.get_legend() is None for axis in figure.axes)


def test_several_runs_share_a_picture(tmp_path, figures):
    runs = [str(write_log(tmp_path / name)) for name in ("first", "second")]
    output = tmp_path / "both.png"
    assert plot_run.main([*runs, "--output", str(output)]) == 0
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert [text.partition(",")[0] for text in texts] == ["first"] * 2 + ["second"] * 2
    assert output.exists()


def test_a_run_without_an_evaluation_says_so_in_its_place(tmp_path, figures):
    assert plot_run.main([str(write_log(tmp_path / "run", evaluations=False))]) == 0
    assert figures[0].axes[1].texts[0].get_text() == "not evaluated yet"


def test_smoothing_keeps_straight_lines_and_their_length():
    line = [float(i) for i in range(1000)]
    assert plot_run.smoothed(line)[20:-20] == pytest.approx(line[20:-20])
    assert len(plot_run.smoothed(line)) == 1000
    assert plot_run.smoothed([3.0]) == [3.0]


def test_what_cannot_be_drawn_is_told(tmp_path, capsys):
    assert plot_run.main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere: there is no such run" in capsys.readouterr().err
    assert plot_run.main([str(tmp_path)]) == 2
    assert f"{tmp_path}: not the folder of a run" in capsys.readouterr().err
    run = write_log(tmp_path / "run", steps=0, evaluations=False)
    assert plot_run.main([str(run)]) == 2
    assert "no step is logged yet" in capsys.readouterr().err
    assert plot_run.main([str(run), str(run)]) == 2
    assert "--output" in capsys.readouterr().err
