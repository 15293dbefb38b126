"""Training on labels of tokens: the authors' losses, MixToken by step, what is refused."""

from contextlib import closing

import numpy as np
import pytest
import torch

from pipeline.augment.batches import BatchTransform
from pipeline.augment.token_labels import TokenTargets
from pipeline.batch import Placement
from pipeline.config import InputSpec
from pipeline.formats.open import open_source
from pipeline.formats.token_label_file import TokenLabelFile
from pipeline.loaders.build import build_loader
from pipeline.loaders.token_targets import TokenLabels
from tests.support.authors_weights import DATA
from tests.support.small_models import make
from tests.support.trained_models import write_run
from tools import make_token_labels
from trainer import yaml_config
from trainer.objective import build_objective, mix_token_draw
from trainer.optimization.loss import soft_target_cross_entropy
from trainer.optimization.token_labels import TokenLabelsConfig, token_label_loss
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress

VECTORS = dict(np.load(DATA / "token_label.npz"))
SPEC = InputSpec(
    size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9, interpolation="bicubic"
)
# The loss is computed in float32.
RTOL = 1e-6


def vector_targets(name="target_t14_fixed"):
    columns = torch.from_numpy(VECTORS[name]).transpose(1, 2)
    return TokenTargets(columns[:, 0], columns[:, 1], columns[:, 2:])


def vector_loss(box, targets, config):
    top, left, bottom, right = box
    kept = 1 - (bottom - top) * (right - left) / 14**2
    outputs = (torch.from_numpy(VECTORS[f"loss_{name}"]) for name in ("cls", "aux"))
    return token_label_loss(*outputs, targets, kept, config).item()


@pytest.mark.parametrize("row", VECTORS["loss"])
def test_the_loss_is_the_authors(row):
    config = TokenLabelsConfig(
        file="x", dense_weight=row[4], class_weight=row[5], ground_truth=bool(row[6])
    )
    assert vector_loss(row[:4], vector_targets(), config) == pytest.approx(row[7], rel=RTOL)


def test_where_every_token_has_the_image_s_label_the_loss_is_the_authors():
    smoothed = torch.full((4, 12), 0.1 / 12, dtype=torch.float64)
    smoothed[torch.arange(4), torch.from_numpy(VECTORS["label"])] += 0.9
    targets = TokenTargets(smoothed, smoothed, smoothed[:, None].expand(-1, 196, -1))
    found = vector_loss((2, 5, 9, 14), targets, TokenLabelsConfig(file="x"))
    assert found == pytest.approx(float(VECTORS["loss_2d_target"]), rel=RTOL)


def test_without_dense_loss_it_is_the_authors_of_one_token():
    targets = vector_targets("target_t1_fixed")
    targets = targets._replace(tokens=torch.zeros(4, 196, 12))
    config = TokenLabelsConfig(file="x", dense_weight=0)
    found = vector_loss((0, 0, 0, 0), targets, config)
    assert found == pytest.approx(float(VECTORS["loss_t1"]), rel=RTOL)


def test_boxes_depend_on_seed_and_step_alone_and_vary():
    draws = [mix_token_draw((14, 14), seed=1, step=step) for step in range(400)]
    again = mix_token_draw((14, 14), seed=1, step=7)
    assert torch.equal(again.mixed, draws[7].mixed)
    assert again.kept == draws[7].kept == 1 - int(again.mixed.sum()) / 196
    assert not torch.equal(mix_token_draw((14, 14), seed=2, step=7).mixed, again.mixed)
    areas = np.array([1 - draw.kept for draw in draws])
    assert len(np.unique(areas)) > 30
    # Half of the grid, less what the border cuts and rounding down leaves: 0.31 on average.
    assert 0.25 < areas.mean() < 0.37
    assert torch.stack([draw.mixed for draw in draws]).any(dim=0).all()


RECIPE = """
model: {name: lvvit_t, img_size: 64, args: {embed_dim: 32, depth: 2, num_heads: 2, stem_width: 8}}
batch: {global_size: 20, per_gpu: 10}
data: {loader: reference, threads: 1}
augment: {auto_augment: rand-m5-mstd0.5-inc1, smoothing: 0.1}
optim: {lr: 1.0e-3}
schedule: {epochs: 2, warmup_epochs: 0}
run: {name: tiny, log_every: 1, evaluate_every: 2, save_every_steps: 4}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.auto_augment=augmix-m5", "auto_augment augmix does not go with"),
        ("loss.name=bce", "loss.name bce does not go with"),
        ("distill.teacher=vip_s7", "the annotator is the teacher"),
        ("token_labels.dense_weight=-1", "dense_weight must be >= 0"),
    ],
)
def test_what_does_not_go_with_token_labels_is_refused_in_words(recipe_file, override, message):
    with pytest.raises(yaml_config.ConfigError, match=message):
        yaml_config.load(Recipe, recipe_file, ["token_labels.file=x.token_labels", override])


def test_options_without_a_file_are_refused(recipe_file):
    with pytest.raises(yaml_config.ConfigError, match="mix_token False has no effect without a"):
        yaml_config.load(Recipe, recipe_file, ["token_labels.mix_token=false"])


def test_the_fingerprint_has_the_labels_but_not_their_place(recipe_file):
    def fingerprint(*overrides):
        return yaml_config.load(Recipe, recipe_file, list(overrides)).results_fingerprint()

    here, there = ("token_labels.file=a.token_labels", "token_labels.file=b.token_labels")
    assert fingerprint(here) == fingerprint(there) != fingerprint()
    assert fingerprint(here, "token_labels.exchange_xy=true") != fingerprint(here)
    # MixToken exchanges within a micro-batch.
    assert fingerprint(here, "batch.per_gpu=20") != fingerprint(here)
    assert fingerprint("batch.per_gpu=20") == fingerprint()


@pytest.fixture(scope="module")
def labels(tmp_path_factory, image_folder):
    """Maps by a small annotator, whose weights are random."""
    folder = tmp_path_factory.mktemp("labels")
    run = write_run(folder, image_folder)
    output = folder / "train.token_labels"
    arguments = [run, "--data", image_folder, "--output", output, "--loader", "reference"]
    assert make_token_labels.main([*map(str, arguments), "--device", "cpu"]) == 0
    return output


def test_a_model_without_a_classifier_of_tokens_is_refused_in_words(
    recipe_file, labels, image_folder
):
    recipe = yaml_config.load(Recipe, recipe_file, ["token_labels.file=x.token_labels"])
    with pytest.raises(yaml_config.ConfigError, match=r"lvvit_t has no classifier .* \(aux_head\)"):
        build_objective(
            recipe,
            make("lvvit_t", aux_head=False),
            transform=BatchTransform(recipe.augment, spec=SPEC, num_classes=5, seed=0),
            criterion=lambda *_: torch.zeros(()),
            labels=TokenLabels(labels, open_source(image_folder / "train")),
            spec=SPEC,
            num_classes=5,
        )


def test_targets_are_mixed_as_the_images_are(recipe_file, labels, image_folder):
    """By the same draws; the model's answers are its own, so that the targets alone differ."""
    overrides = ["token_labels.file=x.token_labels", "token_labels.mix_token=false"]
    overrides += ["augment.mixup=0.8", "augment.cutmix=1.0", "augment.mix_mode=batch"]
    recipe = yaml_config.load(Recipe, recipe_file, overrides)
    opened = TokenLabels(labels, open_source(image_folder / "train"))
    transform = BatchTransform(recipe.augment, spec=SPEC, num_classes=5, seed=recipe.run.seed)
    objective = build_objective(
        recipe,
        make("lvvit_t", num_classes=5),
        transform=transform,
        criterion=lambda *_: torch.zeros(()),
        labels=opened,
        spec=SPEC,
        num_classes=5,
    )
    generator = torch.Generator().manual_seed(0)
    logits, tokens = (torch.randn(6, *n, generator=generator) for n in ((5,), (16, 5)))
    loader = build_loader(
        opened.source,
        data=recipe.data,
        augment=recipe.augment,
        spec=SPEC,
        seed=recipe.run.seed,
        batch_size=6,
        accumulation=1,
        placement=Placement(),
        training=True,
    )
    progress = RunProgress(epoch=1)
    weights = set()
    with closing(loader):
        for batch in loader.batches(1):
            found = objective(lambda *_: (logits, tokens), batch, progress)
            own = objective._targeter.targets(batch, 1, torch.zeros(6, 5))
            (weight,) = transform.mixing(batch, 1).weights.tolist()
            blended = [weight * part + (1 - weight) * part.flip(0) for part in own[1:]]
            expected = soft_target_cross_entropy(logits, blended[0])
            expected += soft_target_cross_entropy(tokens, blended[1])
            torch.testing.assert_close(found, expected)
            weights.add(weight)
    assert len(weights) > 5


def test_the_labels_are_of_the_images_that_the_run_reads(labels, image_folder):
    header = TokenLabelFile(labels).header
    assert header.samples == 62
    assert header.grid[0] == header.grid[1] > 1
    assert header.top == 5
