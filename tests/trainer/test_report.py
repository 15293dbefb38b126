"""What the report says: shares of the time, the paper's figure, classes, mistakes, curves."""

import base64
import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, lists
from PIL import Image

from benchmarks.paper_figures import REPORTED
from pipeline.batch import Batch
from pipeline.formats.open import open_source
from tests.support.recipes import recipe
from tests.support.reported_runs import BATCH, SPEC, judged, write_run
from trainer import yaml_config
from trainer.events import Evaluated
from trainer.recipe import Recipe
from trainer.record.report import charts
from trainer.record.report.files import read_run
from trainer.record.report.html import element, table
from trainer.record.report.kept import MAX_MISTAKES, keep_evaluation
from trainer.record.report.page import page
from trainer.record.report.published import CONFIGS, nearest
from trainer.record.report.shares import Share, percentages, shares
from trainer.record.report.writer import ReportWriter, Watched


@pytest.fixture
def run(tmp_path, image_folder):
    return write_run(tmp_path, image_folder, name="mine")


@pytest.fixture(scope="module")
def source(image_folder):
    return open_source(str(image_folder / "val"), recipe().data)


@given(lists(floats(0, 1e7), min_size=1, max_size=6).filter(lambda parts: sum(parts) > 1e-3))
def test_shares_sum_to_100_and_none_is_off_by_more_than_a_tenth(seconds):
    found = percentages([Share("x", value) for value in seconds])
    assert sum(round(10 * value) for value in found) == 1000
    for value, second in zip(found, seconds, strict=True):
        exact = 100 * Fraction(second) / sum(map(Fraction, seconds))
        assert abs(Fraction(round(10 * value), 10) - exact) <= Fraction(1001, 10000)


def test_shares_are_all_the_time_up_to_the_checkpoint(run):
    found = dict(shares(read_run(run)))
    assert found["computing"] == 5.0
    assert found["waiting for data"] == 1.0
    assert found["starting and the rest"] == 1.5
    assert sum(found.values()) == 10.0


def test_time_that_an_old_checkpoint_did_not_measure_is_in_the_rest(run):
    (path,) = run.glob("checkpoints/*/meta.json")
    meta = json.loads(path.read_text())
    del meta["tally"]["eval_s"], meta["tally"]["save_s"]
    path.write_text(json.dumps(meta))
    assert shares(read_run(run))[-1] == ("evaluating, saving, starting", 4.0)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("dynamixer_s", "dynamixer_s"),
        ("imagenet/vip_l7", "vip_l7"),
        ("imagenet/convmixer_768_32", "convmixer_768_32"),
    ],
)
def test_a_published_recipe_is_its_own_nearest_with_the_figure_of_its_paper(name, model):
    path = CONFIGS / f"{name}.yaml"
    found = nearest(yaml_config.load(Recipe, path))
    assert found is not None
    assert (found.name, found.changes) == (f"configs/{name}.yaml", [])
    assert f"{found.top1:g}" == REPORTED[model].top1
    assert found.data == "ImageNet-1k"


def test_the_figure_is_that_of_the_data_set_of_the_recipe():
    found = nearest(yaml_config.load(Recipe, CONFIGS / "cifar100" / "splitmixer_i_256_8.yaml"))
    assert found is not None
    assert (found.data, found.top1) == ("CIFAR-100", 72.88)
    assert found.is_comparable(num_classes=100, count=10_000)
    assert not found.is_comparable(num_classes=10, count=10_000)
    assert not found.is_comparable(num_classes=100, count=360)


def test_every_recipe_but_the_quickstart_names_data_that_are_known():
    heads = [path.read_text().partition("\n")[0] for path in CONFIGS.glob("*/*.yaml")]
    named = {re.search(r" on ([\w-]+)", head)[1] for head in heads if "Paper:" in head}
    assert named == {"ImageNet-1k", "CIFAR-10", "CIFAR-100", "Flowers-102", "Food-101"}


def test_what_differs_from_the_published_recipe_is_named_if_it_changes_results():
    published = yaml_config.load(Recipe, CONFIGS / "dynamixer_s.yaml")
    mine = replace(
        published,
        optim=replace(published.optim, lr=1e-3),
        data=replace(published.data, threads=3),
        run=replace(published.run, log_every=1),
    )
    found = nearest(mine)
    assert found is not None
    assert found.changes == [("optim.lr", 2e-3, 1e-3)]


def test_a_model_without_a_recipe_has_no_figure(run):
    assert nearest(replace(recipe(), model=replace(recipe().model, name="resnet18"))) is None


def test_classes_pairs_and_matrix_count_the_same_images(tmp_path, source):
    said = judged(source)
    words = list(source.classes)
    keep_evaluation(tmp_path, said, source, words, step=1, epoch=0, ema=False)
    tree = json.loads((tmp_path / "kept" / "evaluation.json").read_text())
    assert tree["images"] == np.bincount(said.labels).tolist()
    assert sum(tree["right"]) == (said.labels == said.predicted).sum()
    assert sum(tree["images"]) - sum(tree["right"]) == sum(n for *_, n in tree["pairs"])
    counts = [n for *_, n in tree["pairs"]]
    assert counts == sorted(counts, reverse=True)
    for true, predicted, count in tree["pairs"]:
        assert count == ((said.labels == true) & (said.predicted == predicted)).sum()
        assert count == tree["matrix"][true][predicted]


def test_the_worst_mistakes_are_wrong_ordered_and_shown(tmp_path, source, image_folder):
    said = judged(source, seed=1)
    where = {"step": 1, "epoch": 0, "ema": False}
    keep_evaluation(tmp_path, said, source, list(source.classes), **where)
    mistakes = json.loads((tmp_path / "kept" / "evaluation.json").read_text())["mistakes"]
    wrong = (said.predicted != said.labels).sum()
    assert len(mistakes) == min(wrong, MAX_MISTAKES) > 5
    assert all(one["label"] != one["predicted"] for one in mistakes)
    assert [one["right"] for one in mistakes] == sorted(one["right"] for one in mistakes)
    one = mistakes[0]
    (stored,) = (image_folder / "val").glob(f"*/{one['key'].rpartition('/')[2]}*")
    with Image.open(stored) as image:
        image.thumbnail((160, 160))
        pixels = np.asarray(image.convert("RGB"), np.float32)
    shown = Image.open(io.BytesIO(base64.b64decode(one["picture"].partition(",")[2])))
    # Both are JPEGs; a wrong image differs by tens.
    assert np.abs(np.asarray(shown, np.float32) - pixels).mean() < 6


def test_outputs_that_the_data_have_no_class_of_have_numbers(tmp_path, source):
    said = judged(source, num_classes=9)
    where = {"step": 1, "epoch": 0, "ema": False}
    keep_evaluation(tmp_path, said, source, list(source.classes), **where)
    tree = json.loads((tmp_path / "kept" / "evaluation.json").read_text())
    assert tree["words"][5:] == ["output 5", "output 6", "output 7", "output 8"]
    assert sum(tree["images"]) == 22


def test_a_chart_of_waiting_divides_by_the_time_between_two_events(run):
    x, y = charts._waiting(read_run(run))
    assert x[0] == 1
    assert y[0] == pytest.approx(100 * 0.01 / (BATCH / 101.0))


def test_other_numbers_of_steps_have_charts_of_their_own(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["event"] == "step":
            row |= {"peak_memory_bytes": 3 << 30, "mfu": 0.4}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {chart.title: chart for chart in charts.charts([read_run(run)])}
    assert set(found["Peak memory, GiB"].data[0]["y"]) == {3.0}
    assert any("MFU" in title for title in found)
    assert "3.0 GiB" in page([read_run(run)])


def test_a_skipped_step_is_told_and_leaves_no_point(run):
    (loss,) = [chart for chart in charts.charts([read_run(run)]) if chart.title == "Loss"]
    assert 7 not in loss.data[0]["x"]
    assert "not finite" in page([read_run(run)])


def test_smoothing_is_the_mean_over_a_window():
    values = [float((7 * i) % 13) for i in range(1000)]
    half = 1000 // 100
    naive = [np.mean(values[max(0, i - half) : i + half + 1]) for i in range(1000)]
    assert charts.smoothed(values) == pytest.approx(naive)


@pytest.mark.parametrize("count", [0, 1, charts.MAX_POINTS, charts.MAX_POINTS + 1, 100_000])
def test_a_long_curve_is_thinned_to_means_and_ends_where_it_ended(count):
    x, y = charts.thinned((list(range(count)), [float(i) for i in range(count)]))
    assert len(x) == len(y) <= charts.MAX_POINTS
    if count:
        assert x[-1] == count - 1
        assert y[0] == pytest.approx((x[0]) / 2, abs=0.5)


def test_strings_are_escaped_and_numbers_sort():
    made = element("p", "<b>", element("i", "&"), title='"')
    assert made == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    rows = table(("a<", "n"), [["x", 2.5], ["<y>", None]])
    assert "<y>" not in rows
    assert 'data-value="2.5"' in rows
    assert rows.count('class="number"') == 3


def test_a_run_of_which_nothing_is_there_yet_has_a_page(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {name: of another version}\n")
    assert "cannot be compared" in page([read_run(tmp_path)])


def test_a_failure_is_a_note_said_once_and_ends_nothing(tmp_path, source):
    (tmp_path / "kept").write_text("in the way")
    (tmp_path / "recipe.yaml").write_text("model: {name: of another version}\n")
    notes = []
    transform = Watched(
        SimpleNamespace(train=lambda batch, epoch: (batch.images, torch.eye(len(batch.images))))
    )
    batch = Batch(torch.zeros(4, 3, 8, 8), torch.arange(4), torch.arange(4))
    transform.train(batch, 0)
    writer = ReportWriter(
        *(tmp_path,),
        transform=transform,
        source=source,
        spec=SPEC,
        emit=notes.append,
    )
    event = Evaluated(step=3, epoch=0, top1=1.0, top5=1.0, count=22, ema=False)
    for _ in range(2):
        writer.evaluated(judged(source), event)
    (note,) = notes
    assert note.step == 3
    assert "training goes on" in note.text
    writer.write()  # the batch cannot be kept either
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "kept").unlink()
    writer.close()
    assert (tmp_path / "report.html").stat().st_size > 4_000_000


def test_a_watched_transform_gives_what_the_other_gives_and_keeps_a_copy():
    images, targets = torch.rand(40, 3, 4, 4), torch.rand(40, 3)
    watched = Watched(SimpleNamespace(train=lambda batch, epoch: (images, targets)))
    batch = Batch(images, torch.zeros(40), torch.arange(40))
    assert watched.train(batch, 2) == (images, targets)
    first = images.clone()
    images.zero_()
    watched.train(batch, 3)
    seen = watched.take()
    assert seen is not None
    assert torch.equal(seen.images, first[:24])
    assert (len(seen.targets), seen.epoch) == (24, 2)
    assert watched.take() is None
