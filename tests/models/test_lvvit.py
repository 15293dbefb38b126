"""LV-ViT's outputs for token labels, MixToken, and its positions at other sizes."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import models
from models.layers.mix_token import box_mask, exchange, mix_box
from models.lvvit import LVViT, stem_grid
from tests.support.authors_weights import DATA, fill
from tests.support.small_models import images, make, randomise

VECTORS = dict(np.load(DATA / "token_label.npz"))

# Of numbers near 1, in float64; what is left is the order of additions.
ATOL = 1e-12


@pytest.mark.parametrize("draw", VECTORS["mixtoken_box"])
def test_boxes_are_the_authors(draw):
    side, kept, row, column = int(draw[0]), draw[1], int(draw[2]), int(draw[3])
    assert mix_box((side, side), kept=kept, row=row, column=column) == tuple(draw[4:])


@given(
    grid=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    kept=st.floats(0, 1),
    centre=st.tuples(st.integers(0, 29), st.integers(0, 29)),
)
def test_a_box_lies_in_the_grid_and_a_mask_is_true_inside_it(grid, kept, centre):
    row, column = centre[0] % grid[0], centre[1] % grid[1]
    top, left, bottom, right = mix_box(grid, kept=kept, row=row, column=column)
    assert 0 <= top <= bottom <= grid[0]
    assert 0 <= left <= right <= grid[1]
    mask = box_mask((top, left, bottom, right), grid)
    assert mask.sum() == (bottom - top) * (right - left) <= (1 - kept) * mask.numel() + 1e-9
    assert mask[top:bottom, left:right].all()


def test_exchanging_takes_the_box_from_the_reversed_batch_and_twice_is_nothing():
    x = torch.randn(5, 4, 6, 3)
    mixed = exchange(x, box_mask((1, 2, 3, 6), (4, 6)))
    expected = x.clone()
    for image in range(5):
        expected[image, 1:3, 2:6] = x[4 - image, 1:3, 2:6]
    assert torch.equal(mixed, expected)
    assert torch.equal(exchange(mixed, box_mask((1, 2, 3, 6), (4, 6))), x)


def authors_training_model():
    """The small model whose training step is known, in float64."""
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 4, "residual_divisor": 2.0}
    model = LVViT(**sizes, img_size=96, num_classes=12).double()
    weights = model.state_dict()
    for key, value in weights.items():
        if not key.endswith("num_batches_tracked"):
            weights[key] = torch.from_numpy(np.asarray(fill(key, tuple(value.shape))))
    model.load_state_dict(weights)
    return model.train()


def test_a_training_step_with_mixed_tokens_is_the_authors():
    model = authors_training_model()
    kept, row, column = VECTORS["train_lam_cx_cy"]
    box = mix_box((6, 6), kept=kept, row=int(row), column=int(column))
    assert box == tuple(VECTORS["train_box"])
    batch = torch.from_numpy(np.random.default_rng(2023).standard_normal((4, 3, 96, 96)))
    logits, tokens = model(batch, mixed=box_mask(box, (6, 6)))
    for actual, name in ((logits, "cls"), (tokens, "aux")):
        expected = torch.from_numpy(VECTORS[f"train_{name}"])
        torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=ATOL)
    statistic = torch.from_numpy(VECTORS["train_running_mean_bn1"])
    torch.testing.assert_close(model.patch_embed.bn1.running_mean, statistic, rtol=0, atol=ATOL)


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_without_a_box_the_logits_are_those_of_both_classifiers(size):
    model = randomise(make("lvvit_t", img_size=size)).double().eval()
    batch = torch.randn(3, 3, *model.img_size, dtype=torch.float64)
    nothing = torch.zeros(model.grid, dtype=torch.bool)
    with torch.no_grad():
        logits, tokens = model(batch, mixed=nothing)
        assert tokens.shape == (3, nothing.numel(), 7)
        torch.testing.assert_close(model(batch), logits + 0.5 * tokens.amax(1))


def test_boxes_share_one_graph():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    model = make("lvvit_t", drop_path_rate=0.1).train()
    model.compile(fullgraph=True, backend=backend)
    for box in ((0, 0, 2, 2), (1, 1, 4, 3), (0, 0, 0, 0)):
        logits, tokens = model(images("lvvit_t"), mixed=box_mask(box, (4, 4)))
        (logits.sum() + tokens.sum()).backward()
    assert len(graphs) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("settings", "mask", "message"),
    [
        ({"aux_head": False}, (4, 4), "no classifier of tokens .* create it with aux_head=True"),
        ({"num_classes": 0}, (4, 4), "no classifier of tokens .* num_classes of at least 1"),
        ({}, (4, 5), r"each token of the 4x4 grid, got shape \(4, 5\)"),
        ({}, (16,), r"each token of the 4x4 grid, got shape \(16,\)"),
    ],
)
def test_boxes_that_cannot_be_are_refused_in_words(settings, mask, message):
    with pytest.raises(ValueError, match=message):
        make("lvvit_t", **settings)(images("lvvit_t"), mixed=torch.zeros(mask, dtype=torch.bool))


def test_both_classifiers_are_replaced_and_removed():
    model = make("lvvit_t").double()
    before = model.aux_head.weight
    model.reset_classifier(7)
    assert not torch.equal(model.aux_head.weight, before)
    assert model.aux_head.weight.dtype == torch.float64
    model.reset_classifier(0)
    assert model.aux_head is None
    model.reset_classifier(3)
    assert model.aux_head.out_features == model.head.out_features == 3
    plain = make("lvvit_t", aux_head=False)
    plain.reset_classifier(3)
    assert plain.aux_head is None


@pytest.mark.parametrize("stem_width", [0, 8])
@pytest.mark.parametrize("size", [(16, 16), (31, 47), (32, 33), (95, 63)])
def test_the_grid_is_what_the_stem_makes(stem_width, size):
    model = make("lvvit_t", stem_width=stem_width, img_size=size).eval()
    assert model.patch_embed(torch.zeros(1, 3, *size)).shape[1:3] == model.grid
    assert model.grid == stem_grid(size, 1 if stem_width else 0)
    assert isinstance(model.get_submodule(model.default_cfg["first_conv"]), torch.nn.Conv2d)


def test_positions_are_resized_as_the_authors_do():
    small, large = make("lvvit_t"), make("lvvit_t", img_size=(96, 128))
    large.load_state_dict(small.state_dict())
    before, after = small.pos_embed.detach(), large.pos_embed.detach()
    assert torch.equal(after[:, 0], before[:, 0])
    grid = before[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (6, 8), mode="bicubic", align_corners=False)
    torch.testing.assert_close(after[:, 1:], expected.permute(0, 2, 3, 1).flatten(1, 2))


def test_positions_of_a_grid_that_cannot_be_square_are_refused_in_words():
    wide, square = make("lvvit_t", img_size=(48, 80)), make("lvvit_t", img_size=96)
    with pytest.raises(RuntimeError, match=r"pos_embed: 15 is the number of tokens of no square"):
        square.load_state_dict(wide.state_dict())


def test_the_authors_names_of_baselines_make_them():
    name, arguments = models.resolve("lvvit_repo_vit")
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    assert model.aux_head is None
    assert model.blocks[0].branch_scale == 1.0
