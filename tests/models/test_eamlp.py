"""External attention, its stem's dropout and start, and positions that are a function."""

import math

import pytest
import torch
from torch import nn

from models.eamlp import token_grid
from models.layers.attention import ExternalAttention, NarrowingAttention
from tests.support.small_models import images, make, randomise


def sinusoid(position, channel, dim):
    """One entry of the authors' table."""
    angle = position / 10000 ** (2 * (channel // 2) / dim)
    return math.sin(angle) if channel % 2 == 0 else math.cos(angle)


@pytest.mark.parametrize("size", [64, (96, 48)])
def test_positions_are_sinusoids_at_every_size(size):
    model = make("eamlp_19", img_size=size)
    _, positions, dim = model.pos_embed.shape
    assert positions == 1 + model.grid[0] * model.grid[1]
    expected = [[sinusoid(p, c, dim) for c in range(dim)] for p in range(positions)]
    torch.testing.assert_close(model.pos_embed[0], torch.tensor(expected))


def test_positions_are_made_anew_for_another_grid_and_kept_for_the_same():
    small, large = make("eamlp_7"), make("eamlp_7", img_size=112)
    weights = small.state_dict()
    weights["pos_embed"] = torch.randn_like(weights["pos_embed"])
    large.load_state_dict(weights)
    assert torch.equal(large.pos_embed, make("eamlp_7", img_size=112).pos_embed)
    small.load_state_dict(weights)
    assert torch.equal(small.pos_embed, weights["pos_embed"])


@pytest.mark.parametrize("size", [(3, 3), (16, 16), (31, 47), (64, 65), (95, 63)])
def test_the_grid_is_what_the_stem_makes(size):
    model = make("eamlp_7", img_size=size).eval()
    assert model.embed(torch.zeros(1, 3, *size)).shape[1:3] == model.grid == token_grid(size)


def test_the_stems_second_memory_starts_as_the_firsts_transpose_and_learns_alone():
    model = make("eamlp_7")
    stem = [m for m in model.modules() if isinstance(m, NarrowingAttention)]
    assert len(stem) == 2
    for attention in stem:
        first, second = attention.linear_0.weight, attention.linear_1.weight
        assert torch.equal(second, first.t())
        with torch.no_grad():
            first.add_(1)
        assert not torch.equal(second, first.t())
    for block in model.blocks:
        assert not torch.equal(block.attn.linear_1.weight, block.attn.linear_0.weight.t())


def test_the_stem_drops_as_the_authors_have_it_and_only_in_training():
    rates = [m.p for m in make("eamlp_7", token_drop_rate=0.1).modules() if type(m) is nn.Dropout]
    assert rates == [0.1] * 4 + [0.0] * 4  # two in each of the stem's blocks; blocks and head
    torch.manual_seed(0)
    model = randomise(make("eamlp_7", token_drop_rate=0.1))
    batch = images("eamlp_7")
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_a_tokens_shares_of_the_memory_sum_to_one():
    attention = ExternalAttention(24, 6)
    shares = []
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: shares.append(output))
    attention(torch.randn(2, 50, 24))
    torch.testing.assert_close(shares[0].sum(-1), torch.ones(2, 50, 24))


def test_a_token_that_resembles_no_unit_keeps_its_precision_in_float16():
    attention = randomise(NarrowingAttention(6, 8, drop_rate=0.0))
    attention.linear_0.weight.data = 1 / 8 + attention.linear_0.weight.data / 10
    x = torch.randn(1, 3000, 8) - torch.linspace(0, 10, 3000)[:, None]
    expected = attention.recall(x)
    actual = attention.half().recall(x.half()).float()
    # Its shares of 3000 tokens are below float16's smallest number, until they are made to sum to
    # one. float16's relative steps are 2^-11, and logits of 16 are rounded by 2^-7.
    assert (actual - expected).abs().max() < 2**-7 * expected.abs().max()
