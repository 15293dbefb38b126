"""Parameter groups: what is decayed, and what is not."""

import pytest

from models.build import build_model
from trainer.optim import OptimConfig
from trainer.parameter_groups import parameter_groups


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
