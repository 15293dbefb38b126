"""RaftMLP at other sizes than its matrices', by the authors' way and by resampling."""

import pytest
import timm
import torch
import torch.nn.functional as F

from models.layers.position_mixing import PositionLinear, resize
from models.layers.rafts import RaftMlp
from models.layers.resampling import resample
from models.raftmlp import checkpoint_filter_fn
from models.weights.checkpoint_files import Stored, WeightsError
from models.weights.checkpoints import convert
from tests.support.authors_weights import KEYS
from tests.support.small_models import image_size, make, make_plain, randomise


@pytest.mark.parametrize("size", [(7, 9), (16, 20), (5, 30), (12, 12), (1, 1)])
def test_grids_are_resized_bicubically(size):
    x = torch.randn(2, 12, 10, 3, dtype=torch.float64)
    expected = F.interpolate(x.permute(0, 3, 1, 2), size, mode="bicubic").permute(0, 2, 3, 1)
    torch.testing.assert_close(resize(x, size), expected)


@pytest.mark.parametrize("name", ["raftmlp_s", "raftmlp_12"])
@pytest.mark.parametrize("size", [(64, 80), (50, 71), (97, 33), (17, 17)])
def test_images_of_other_sizes_are_interpolated_on_the_way(name, size):
    ours, plain = make(name).double().eval(), make_plain(name).double().eval()
    ours.load_state_dict(randomise(plain).state_dict())
    assert size != (image_size(name),) * 2
    batch = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(batch), plain(batch), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lengths", [(6, 9), (6, 12), (6, 7)])
def test_on_a_longer_line_the_same_hidden_units_do_the_same(lengths):
    old, new = (RaftMlp(8, length, 2).double() for length in lengths)
    new.load_state_dict(randomise(old).state_dict())
    x = torch.randn(2, 1, 3, 8, dtype=torch.float64).expand(-1, lengths[1], -1, -1)
    fewer = resample(old.fc1.weight.unflatten(1, (2, 6)), (2,), lengths[1]).flatten(1)
    rafts = new.norm(x).unflatten(3, (2, 4)).permute(0, 2, 4, 3, 1).flatten(3)  # (B, lines, n, rL)
    hidden = F.gelu(rafts @ fewer.T * (6 / lengths[1]) + old.fc1.bias)
    mixed = (hidden @ old.fc2.weight.T + old.fc2.bias).unflatten(3, (2, 6))
    expected = resample(mixed, (4,), lengths[1]).permute(0, 4, 1, 3, 2).flatten(3)
    torch.testing.assert_close(new(x), expected, rtol=1e-10, atol=1e-12)


def test_on_a_shorter_line_every_second_hidden_unit_does_twice_as_much():
    old, new = RaftMlp(4, 8, 1).double(), RaftMlp(4, 4, 1).double()
    new.load_state_dict(randomise(old).state_dict())
    assert torch.equal(new.fc1.bias, old.fc1.bias[::2])
    expected = 2 * resample(old.fc2.weight[:, ::2], (0,), 4)
    torch.testing.assert_close(new.fc2.weight.detach(), expected.detach())


@pytest.mark.parametrize("lengths", [(8, 16), (16, 8), (8, 12)])
def test_matrices_of_positions_mix_a_smooth_line_alike_on_another_grid(lengths):
    old, new = (PositionLinear(length).double() for length in lengths)
    places = torch.linspace(-1, 1, lengths[0], dtype=torch.float64)
    old.weight.data = torch.exp(-((places[:, None] - places) ** 2))
    old.bias.data = places
    new.load_state_dict(old.state_dict())
    results = []
    for layer, length in ((old, lengths[0]), (new, lengths[1])):
        centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
        results.append(layer(torch.cos(centres)[None, :, None])[0, :, 0].detach())
    coarse, fine = results[0], resample(results[1], (0,), lengths[0])
    assert (fine - coarse).norm() < 0.05 * coarse.norm()


@pytest.mark.parametrize("layer", [PositionLinear(6), RaftMlp(4, 6, 2)])
def test_wrong_shapes_are_left_for_loading_to_report(layer):
    weights = {key: torch.zeros(*value.shape[:-1], 5) for key, value in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(weights)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ("raftmlp_12_r4", "raftmlp_s", r"unexpected \(levels\.0\.fn\.1\.weight"),
        ("raftmlp_s", "raftmlp_12", r"unexpected \(levels\.0\.fn\.0\.fc\.weight"),
    ],
)
def test_weights_of_another_variant_are_refused_by_their_keys(theirs, ours, message, tmp_path):
    weights = {key: torch.zeros(()).expand(shape) for key, shape in KEYS[theirs].items()}
    stored = Stored(path=tmp_path / "a.pth", entry="", weights=weights)
    with pytest.raises(WeightsError, match=message):
        convert(stored, ours)


def test_our_own_weights_are_known_by_their_names():
    model = timm.create_model("raftmlp_s", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    weights = model.state_dict()
    filtered = checkpoint_filter_fn(weights, model)
    assert list(filtered) == list(weights)
    assert all(filtered[key] is weights[key] for key in weights)
