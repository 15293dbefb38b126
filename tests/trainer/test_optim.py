"""The optimizers' table against timm, parameter groups against timm's, clipping by definition."""

import pytest
import torch
from timm.optim import get_optimizer_info, list_optimizers
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn

from models.build import build_model, classifier_weights, layer_ids
from trainer.optimization.optim import OptimConfig, build_optimizer
from trainer.optimization.optimizer_names import OPTIMIZERS
from trainer.optimization.parameter_groups import freeze, frozen_norms, lr_scales, parameter_groups

LEFT_OUT = ("bnb", "fused", "adahessian", "kron")


def optimizer(model: nn.Module, **fields: object) -> torch.optim.Optimizer:
    config = OptimConfig(**{"lr": 0.01, **fields})
    return build_optimizer(model, parameter_groups(model, config), config)


@pytest.mark.parametrize("name", ["dynamixer_nano", "amixer_deit_s"])
def test_biases_norms_and_what_the_model_exempts_are_not_decayed(name):
    model = build_model(name, num_classes=10)
    decayed, spared = parameter_groups(model, OptimConfig(lr=1.0, weight_decay=0.3))
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    for parameter in decayed["params"]:
        assert parameter.ndim > 1
        assert not names[id(parameter)].endswith("bias")
        assert names[id(parameter)] not in model.no_weight_decay()
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_decay_all_leaves_one_group():
    model = build_model("dynamixer_nano", num_classes=10)
    (group,) = parameter_groups(model, OptimConfig(lr=1.0, decay_all=True))
    assert len(group["params"]) == len(list(model.parameters()))


def test_what_a_pattern_names_is_not_decayed():
    model = build_model("dynamixer_nano", num_classes=10)
    _, spared = parameter_groups(model, OptimConfig(lr=1.0, no_decay=("head.*",)))
    assert any(parameter is model.head.weight for parameter in spared["params"])


def test_what_a_model_of_timm_s_exempts_by_a_pattern_is_not_decayed():
    with torch.device("meta"):
        model = build_model("xcit_nano_12_p16_224", num_classes=10)
    _, spared = parameter_groups(model, OptimConfig(lr=1.0))
    assert any(weight is model.pos_embed.token_projection.weight for weight in spared["params"])


@pytest.mark.parametrize(
    "name",
    # The last one names no layers.
    ["dynamixer_nano", "vip_s7", "amixer_t", "splitmixer_i_256_8", "poolformer_s12"],
)
def test_layer_decay_gives_each_weight_timm_s_share(name):
    with torch.device("meta"):
        model = build_model(name, num_classes=10)
    expected = {
        id(weight): group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.7)
        for weight in group["params"]
    }
    groups = parameter_groups(model, OptimConfig(lr=1.0, layer_decay=0.7))
    ours = {id(w): group.get("lr_scale", 1.0) for group in groups for w in group["params"]}
    assert ours == pytest.approx(expected)
    assert all(ours[id(weight)] == 1.0 for weight in classifier_weights(model))
    assert min(layer_ids(model).values()) == 0


def test_the_backbone_learns_at_its_share_of_the_classifier_s_rate():
    model = build_model("dynamixer_nano", num_classes=10)
    scales = lr_scales(model, OptimConfig(lr=1.0, backbone_lr=0.01, layer_decay=0.5))
    plain = lr_scales(model, OptimConfig(lr=1.0, layer_decay=0.5))
    assert scales["head.weight"] == scales["head.bias"] == 1.0
    assert all(scales[key] == plain[key] * 0.01 for key in scales if not key.startswith("head."))


def test_both_classifiers_of_a_distilled_model_learn_at_the_whole_rate():
    with torch.device("meta"):
        model = build_model("deit_tiny_distilled_patch16_224", num_classes=10)
    scales = lr_scales(model, OptimConfig(lr=1.0, backbone_lr=0.01))
    named = dict(model.named_parameters())
    assert {name for name in named if name not in scales} == {
        name for name in named if name.startswith(("head.", "head_dist."))
    }


def test_frozen_weights_are_in_no_group_and_their_statistics_stand_still():
    model = build_model("splitmixer_i_256_8", num_classes=10)
    freeze(model, ("patch_emb.*",))
    grouped = {
        id(weight)
        for group in parameter_groups(model, OptimConfig(lr=1.0))
        for weight in group["params"]
    }
    named = dict(model.named_parameters())
    assert {name for name in named if id(named[name]) not in grouped} == {
        name for name in named if name.startswith("patch_emb.")
    }
    assert frozen_norms(model) == [model.patch_emb[2]]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [(("blokcs.*",), "model.freeze: 'blokcs.*' matches no weight"), (("*",), "nothing to train")],
)
def test_a_pattern_that_does_nothing_or_too_much_is_refused(patterns, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        freeze(build_model("dynamixer_nano", num_classes=10), patterns)


def test_the_table_has_every_optimizer_of_timm_that_it_does_not_leave_out():
    assert set(OPTIMIZERS) == {n for n in list_optimizers() if not n.startswith(LEFT_OUT)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_table_says_what_timm_s_optimizer_takes(name):
    info, traits = get_optimizer_info(name), OPTIMIZERS[name]
    assert traits.num_betas == (info.num_betas if info.has_betas else 0)
    assert (traits.has_eps, traits.has_momentum) == (info.has_eps, info.has_momentum)


def stepped(name: str, weights: list[torch.Tensor]) -> torch.Tensor:
    """The weights, flat, after three steps with gradients that depend on the position alone."""
    module = nn.ParameterList([nn.Parameter(weight.clone()) for weight in weights])
    config = OptimConfig(name=name, lr=0.01, weight_decay=0.01)
    groups: list[dict[str, object]] = [{"params": list(module), "weight_decay": 0.01}]
    chosen = build_optimizer(module, groups, config)
    sizes = [weight.numel() for weight in weights]
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        pieces = torch.randn(sum(sizes), generator=generator).split(sizes)
        for weight, piece in zip(module, pieces, strict=True):
            weight.grad = piece.reshape(weight.shape).clone()
        chosen.step()
    return torch.cat([weight.detach().flatten() for weight in module])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_elementwise_if_it_does_not_notice_that_weights_are_flat(name):
    generator = torch.Generator().manual_seed(99)
    weights = [torch.randn(160, 130, generator=generator), torch.randn(7, generator=generator)]
    whole = stepped(name, weights)
    flat = stepped(name, [torch.cat([weight.flatten() for weight in weights])])
    if not OPTIMIZERS[name].whole:
        torch.testing.assert_close(flat, whole, rtol=1e-5, atol=1e-7)
    elif name not in ("adamp", "sgdp"):  # their projection acts on converged weights only
        assert not torch.allclose(flat, whole, rtol=1e-5, atol=1e-7)


def test_adamw_is_torch_s_fused_one_with_its_published_defaults():
    chosen = optimizer(build_model("dynamixer_nano", num_classes=10))
    assert type(chosen) is torch.optim.AdamW
    assert chosen.defaults["fused"] is True
    assert (chosen.defaults["betas"], chosen.defaults["eps"]) == ((0.9, 0.999), 1e-8)


def with_gradients(scale: float) -> nn.Module:
    model = build_model("dynamixer_nano", num_classes=10)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.grad = scale * torch.randn(weight.shape, generator=generator)
    return model


def test_clipping_by_value_bounds_each_element_of_the_gradient():
    model = with_gradients(1.0)
    before = [weight.grad.clone() for weight in model.parameters()]
    optimizer(model, name="sgd", clip_value=0.25).step()
    for weight, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(weight.grad, gradient.clamp(-0.25, 0.25))


def test_adaptive_clipping_bounds_each_unit_by_its_weights_and_spares_the_classifier():
    model = with_gradients(10.0)
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    before = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    optimizer(model, name="sgd", clip_agc=0.01).step()
    for name, weight in model.named_parameters():
        if name.startswith("head."):
            assert torch.equal(weight.grad, before[name])
            continue
        dims = tuple(range(1, weight.ndim)) or None
        most = 0.01 * torch.linalg.vector_norm(weights[name], dim=dims).clamp(min=1e-3)
        assert (torch.linalg.vector_norm(weight.grad, dim=dims) <= most * (1 + 1e-4)).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "lionn"}, "there is no optimizer 'lionn'; did you mean 'lion'"),
        ({"name": "sgd", "betas": (0.9, 0.99)}, "betas has no effect with name sgd"),
        ({"name": "lion", "eps": 1e-8}, "leave it out, or set it to null"),
        ({"name": "lion", "momentum": 0.9}, "momentum has no effect with name lion"),
        ({"name": "adan", "betas": (0.9, 0.99)}, "betas: adan takes 3 numbers"),
        ({"clip_norm": 1.0, "clip_agc": 0.1}, "clip_norm and clip_agc cannot go together"),
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\]"),
        ({"no_decay": ("x",), "decay_all": True}, "contradict each other"),
    ],
)
def test_what_an_optimizer_would_ignore_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**{"lr": 1.0, **fields})
