"""What a run starts from: each kind of source, other classes, other sizes, and what is refused."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from models.build import build_model
from trainer.engine.state import TrainingState
from trainer.events import Evaluated
from trainer.initial_weights import find_weights, load_weights
from trainer.record import checkpoint
from trainer.record.meta import Meta, RunProgress, Tally

NAME = "dynamixer_nano"


def model(seed: int, **fields: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(NAME, **{"num_classes": 10, **fields})


def start(target: torch.nn.Module, source: object) -> bool:
    return load_weights(target, str(source), name=NAME, key="model.init_from")


def saved(path, weights: dict[str, torch.Tensor]):
    save_file(weights, path)
    return path


@pytest.fixture
def run(tmp_path):
    """A run of two checkpoints, of which the first scored better."""
    root = tmp_path / "run" / "checkpoints"
    root.mkdir(parents=True)
    for step, top1 in ((1, 60.0), (2, 50.0)):
        state = TrainingState(model=model(step).state_dict(), ema=model(step + 10).state_dict())
        evaluated = Evaluated(step=step, epoch=step, top1=top1, top5=90.0, count=10, ema=True)
        meta = Meta(
            progress=RunProgress(step=step),
            results_fingerprint="",
            data_fingerprint="",
            tally=Tally(),
            evaluated=evaluated,
        )
        checkpoint.write(root, state, meta, keep=5)
    return root.parent


def test_a_run_gives_the_average_of_its_best_checkpoint(run):
    target = model(0)
    assert start(target, run)
    expected = model(11).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in target.state_dict().items())


def test_a_checkpoint_folder_can_be_named_itself(run):
    newest = run / "checkpoints" / "step_00000002"
    assert find_weights(str(newest), key="model.init_from") == newest / "ema.safetensors"


def test_an_authors_file_is_read_in_its_own_layout(tmp_path):
    path = tmp_path / "authors.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in model(3).state_dict().items()}}, path)
    target = model(0)
    assert start(target, path)
    assert torch.equal(target.head.weight, model(3).head.weight)


def test_another_number_of_classes_draws_the_classifier_afresh(tmp_path, caplog):
    path = saved(tmp_path / "ten.safetensors", model(3).state_dict())
    target = model(0, num_classes=7)
    fresh = target.head.weight.clone()
    assert not start(target, path)
    assert torch.equal(target.head.weight, fresh)
    expected = model(3).state_dict()
    body = {k: v for k, v in target.state_dict().items() if not k.startswith("head.")}
    assert body
    assert all(torch.equal(value, expected[key]) for key, value in body.items())
    assert "its classifier is drawn afresh" in caplog.text


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "crossvit_tiny_240"])
def test_a_model_with_two_classifiers_begins_with_both_or_draws_both_afresh(name, tmp_path):
    torch.manual_seed(3)
    trained = build_model(name, num_classes=10)
    path = saved(tmp_path / "trained.safetensors", trained.state_dict())
    classifiers = tuple(f"{each}." for each in trained.pretrained_cfg["classifier"])
    for num_classes in (10, 7):
        torch.manual_seed(0)
        target = build_model(name, num_classes=num_classes)
        before = {key: value.clone() for key, value in target.state_dict().items()}
        came = load_weights(target, str(path), name=name, key="model.init_from")
        assert came == (num_classes == 10)
        for key, value in target.state_dict().items():
            is_drawn = key.startswith(classifiers) and num_classes == 7
            assert torch.equal(value, before[key] if is_drawn else trained.state_dict()[key])


def test_a_model_with_other_arguments_begins_with_a_run_of_the_same_ones(tmp_path):
    arguments = {"segments": 2}
    path = saved(tmp_path / "ablation.safetensors", model(3, arguments=arguments).state_dict())
    target = model(0, arguments=arguments)
    with pytest.raises(ValueError, match="of another shape"):
        start(target, path)
    load_weights(target, str(path), name=NAME, key="model.init_from", arguments=arguments)
    expected = model(3, arguments=arguments).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in target.state_dict().items())


def test_another_input_size_is_resampled_as_timm_does_on_loading(tmp_path):
    path = saved(tmp_path / "small.safetensors", model(3).state_dict())
    target = model(0, img_size=64)
    assert start(target, path)
    expected = timm.create_model(NAME, num_classes=10, img_size=64, checkpoint_path=str(path))
    for key, value in expected.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dynamixer_nan", r"model.init_from: 'dynamixer_nan' is no file or run folder here; .*did"),
        ("dynamixer_nano", "no weights were published for dynamixer_nano"),
        ("convmixer_768_32", "hf download timm/convmixer_768_32"),
    ],
)
def test_weights_that_are_not_here_are_refused_with_the_remedy(source, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    with pytest.raises(ValueError, match=message):
        start(model(0), source)


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    other = build_model("splitmixer_i_256_8", num_classes=10)
    path = saved(tmp_path / "other.safetensors", other.state_dict())
    with pytest.raises(ValueError, match=r"model.init_from: .*is not a checkpoint of dyna"):
        start(model(0), path)


def test_a_file_that_is_none_of_weights_is_refused_by_its_key(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text("none")
    with pytest.raises(ValueError, match=r"^model.init_from: .*weights.safetensors"):
        start(model(0), path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        start(model(0), tmp_path)
