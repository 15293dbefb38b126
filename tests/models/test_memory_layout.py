"""`models.memory_layout`: the same numbers, in the order of memory that was asked for."""

import pytest
import torch
from torch import nn

from models.memory_layout import depthwise_convolutions, keep_layout
from tests.support.small_models import images, make, randomise

MODELS = ("convmixer_256_8", "splitmixer_i_256_8", "dynamixer_s")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layout", ["contiguous", "contiguous_depthwise"])
def test_outputs_and_gradients_stay_what_they_are(name, layout):
    pixels = images(name).contiguous(memory_format=torch.channels_last)
    found = []
    for chosen in ("channels_last", layout):
        model = randomise(make(name)).double()
        keys = list(model.state_dict())
        keep_layout(model, chosen)
        assert list(model.state_dict()) == keys
        logits = model(pixels.double())
        logits.logsumexp(1).sum().backward()
        found.append([logits, *(weight.grad for weight in model.parameters())])
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected)


class Watched(nn.Module):
    """Says in which order it sees its images."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.seen = {}
        for name, module in self.named_children():
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: self.seen.update(
                    {name: inputs[0].is_contiguous(memory_format=torch.channels_last)}
                )
            )

    def forward(self, pixels):
        return self.pointwise(self.depthwise(self.stem(pixels)))


@pytest.mark.parametrize(
    ("layout", "seen"),
    [
        ("channels_last", [True, True, True]),
        ("contiguous", [False, False, False]),
        ("contiguous_depthwise", [True, True, True]),
    ],
)
def test_convolutions_see_images_in_the_order_that_was_asked_for(layout, seen):
    model = Watched()
    asked = []
    keep_layout(model, layout)
    model.depthwise.register_forward_pre_hook(
        lambda _, inputs: asked.append(inputs[0].is_contiguous())
    )
    model(torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last))
    assert list(model.seen.values()) == seen
    assert asked == [layout != "channels_last"]


def test_depthwise_convolutions_are_found():
    assert len(depthwise_convolutions(make("convmixer_256_8"))) == 3
    assert depthwise_convolutions(make("dynamixer_s")) == []


def test_a_model_in_a_layout_of_its_own_is_one_graph():
    model = randomise(make("convmixer_256_8", depth=1)).eval()
    pixels = images("convmixer_256_8").contiguous(memory_format=torch.channels_last)
    expected = model(pixels)
    keep_layout(model, "contiguous_depthwise")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(pixels), expected)
