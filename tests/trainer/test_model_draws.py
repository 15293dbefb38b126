"""Drop path follows the samples: they are dropped alike on any rank, at any place in a batch."""

import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from models.build import take_size
from models.layers.basic import DRAWS, DropPath
from pipeline.batch import Batch
from tests.support.small_models import images, make, randomise
from trainer.optimization.model_draws import ModelDraws, path_draws

OURS = [  # of each way to write a block
    *("dynamixer_s", "amixer_t", "splitmixer_i_256_8", "lvvit_t"),
    *("gfnet_ti", "convmlp_s", "raftmlp_12"),
]
SAMPLES = np.array([3, 41, 7, 2**40 + 3, 12, 0, 9, 1_000_000])


def timms(name: str, size: int) -> nn.Module:
    model = timm.create_model(name, num_classes=10, drop_path_rate=0.5, img_size=size)
    take_size(model, (size, size))
    return model


TIMMS = {
    "a mixer, whose blocks call one twice": lambda: timms("mixer_s32_224", 64),
    "a vit": lambda: timms("vit_tiny_patch16_224", 64),
}


def ours_and_timms(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model in float64, and an image for each of `SAMPLES`."""
    if name in TIMMS:
        model = randomise(TIMMS[name]()).double()
        return model, torch.randn(len(SAMPLES), 3, 64, 64, dtype=torch.float64)
    first = images(name, dtype=torch.float64)[:1]
    pictures = torch.randn(len(SAMPLES), *first.shape[1:], dtype=torch.float64)
    return randomise(make(name, drop_path_rate=0.5)).double(), pictures


def outputs(
    model: nn.Module, draws: ModelDraws, pictures: torch.Tensor, chosen: list[int], epoch: int = 5
) -> torch.Tensor:
    samples = torch.from_numpy(SAMPLES[chosen])
    batch = Batch(pictures[chosen], torch.zeros(len(chosen), dtype=torch.int64), samples)
    draws.begin(batch, epoch=epoch, step=0, micro=0)
    return model(pictures[chosen])


def norms_do_not_mix_samples(model: nn.Module) -> nn.Module:
    for module in model.train().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


@pytest.mark.parametrize("name", [*OURS, *TIMMS])
def test_samples_are_dropped_alike_on_one_rank_and_on_two(name):
    model, pictures = ours_and_timms(name)
    draws = ModelDraws(norms_do_not_mix_samples(model), seed=1, rank=0)
    assert not draws.of_ranks
    whole = outputs(model, draws, pictures, list(range(8)))
    for rank, chosen in enumerate(([6, 0, 5, 3], [1, 7, 2, 4])):
        replica = copy.deepcopy(model)
        mine = ModelDraws(replica, seed=1, rank=rank)
        torch.testing.assert_close(outputs(replica, mine, pictures, chosen), whole[chosen])
    other_epoch = outputs(model, draws, pictures, list(range(8)), epoch=6)
    assert not torch.allclose(other_epoch, whole)


def test_the_draws_of_a_sample_know_no_place_and_no_neighbours():
    whole = path_draws(SAMPLES, seed=1, epoch=5, count=7)
    turned = np.random.default_rng(0).permutation(8)
    assert np.array_equal(path_draws(SAMPLES[turned], seed=1, epoch=5, count=7), whole[:, turned])
    # One more block changes nothing for those before it.
    assert np.array_equal(path_draws(SAMPLES, seed=1, epoch=5, count=9)[:7], whole)
    assert len(np.unique(whole)) == whole.size


def test_the_draws_are_uniform_and_independent():
    draws = path_draws(np.arange(20_000), seed=0, epoch=0, count=4) / DRAWS
    # The mean of 20,000 uniforms has a deviation of 0.289 / 141 = 0.002.
    assert draws.mean(axis=1) == pytest.approx(0.5, abs=0.01)
    assert draws.var(axis=1) == pytest.approx(1 / 12, abs=0.003)
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.03


def test_what_is_dealt_keeps_as_many_as_torch_s_own_draws_would():
    path = DropPath(0.3).train()
    draws = path_draws(np.arange(20_000), seed=0, epoch=0, count=1)
    path.dealt = torch.from_numpy(draws)
    kept = path(torch.ones(20_000, 2, 3))
    assert torch.equal(kept.flatten(1).amin(1), kept.flatten(1).amax(1))  # whole samples
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["dynamixer_s", next(iter(TIMMS))])
def test_recomputed_activations_are_dropped_alike(name):
    model, pictures = ours_and_timms(name)
    model.train()
    draws = ModelDraws(model, seed=1, rank=0)
    gradients = []
    for checkpointing in (False, True):
        model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        outputs(model, draws, pictures, list(range(8))).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["dynamixer_s", next(iter(TIMMS))])
def test_new_draws_need_no_new_graph_and_break_none(name):
    model, pictures = ours_and_timms(name)
    model.train()
    draws = ModelDraws(model, seed=1, rank=0)
    eager = [outputs(model, draws, pictures, list(range(8)), epoch=epoch) for epoch in (1, 2)]
    counter = CompileCounter()
    model.compile(backend=counter, fullgraph=True, dynamic=False)
    for epoch in (1, 2):
        mine = outputs(model, draws, pictures, list(range(8)), epoch=epoch)
        torch.testing.assert_close(mine, eager[epoch - 1])
    assert counter.frame_count == 1


def test_dropout_is_named_as_what_draws_by_rank():
    model = make("dynamixer_s", drop_rate=0.1, drop_path_rate=0.0)
    assert ModelDraws(model, seed=0, rank=0).of_ranks == "dropout (head_drop)"
