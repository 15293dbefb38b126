"""The picture of a training batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from tools import preview_batches
from tools.cli import exits
from trainer.record.report.targets import target_text

RECIPE = """\
model: {{name: dynamixer_nano}}
data: {{root: {root}, threads: 1}}
batch: {{global_size: 12, per_gpu: 12}}
optim: {{lr: 1.0e-3}}
schedule: {{epochs: 4}}
augment: {{mixup: 0.8, cutmix: 1.0, erase: 0.25, smoothing: 0.1}}
"""


@pytest.fixture
def config(tmp_path, image_folder):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE.format(root=image_folder))
    return path


def preview(config, *arguments):
    output = config.parent / "batch.png"
    arguments = ["--config", str(config), "--output", str(output), "--force", *arguments]
    return preview_batches.main(arguments), output


def test_any_batch_can_be_drawn_again(config):
    code, output = preview(config, "--epoch", "3", "--batch", "2")
    assert code == 0
    first = np.asarray(Image.open(output))
    assert len(np.unique(first.reshape(-1, first.shape[2]), axis=0)) > 1000
    preview(config, "--epoch", "3", "--batch", "2")
    np.testing.assert_array_equal(np.asarray(Image.open(output)), first)
    preview(config, "--epoch", "3", "--batch", "1")
    assert not np.array_equal(np.asarray(Image.open(output)), first)


def test_overrides_apply(config):
    _, output = preview(config, "--images", "8")
    augmented = np.asarray(Image.open(output))
    preview(config, "--images", "8", "augment.mixup=0", "augment.cutmix=0", "augment.erase=0")
    assert not np.array_equal(np.asarray(Image.open(output)), augmented)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "5"], "an epoch has batches 0 to 4, got 5"),
        (["--batch", "77"], "an epoch has batches 0 to 4, got 77"),
        (["--epoch", "4"], "--epoch: the recipe has 4 epochs, counted from 0 to 3; got 4"),
        (["--epoch", "-1"], "from 0 to 3; got -1"),
        (["schedule.epochs=1", "--epoch", "1"], "has 1 epoch, counted from 0 to 0; got 1"),
        (["data.root=/nowhere"], "/nowhere: there is no such folder"),
        (["augment.mixupp=1"], "did you mean 'mixup'"),
    ],
)
def test_bad_input_gets_an_answer(config, capsys, arguments, message):
    code, output = preview(config, *arguments)
    assert code == 2
    assert not output.exists()
    assert message in capsys.readouterr().err


def test_a_picture_is_replaced_only_with_force(config, capsys):
    output = config.parent / "batch.png"
    output.write_bytes(b"mine")
    arguments = ["--config", str(config), "--output", str(output)]
    assert preview_batches.main(arguments) == exits.OUTPUT
    assert f"{output}: exists; name another --output, or add --force" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0", "--samples", "3"], "argument --samples: not allowed with argument --b"),
        (["--dump", "out"], "--output has no effect with --dump"),
        (["--dump", "out", "--images", "2"], "--images has no effect with --dump"),
    ],
)
def test_options_that_would_be_ignored_are_refused(config, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        preview(config, *arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ([0.0, 0.0, 1.0], "c"),
        ([0.0333, 0.0333, 0.9333], "c"),
        ([0.7, 0.0, 0.3], "70% a\n30% c"),
        ([0.0333, 0.3, 0.6667], "67% c\n30% b"),
    ],
)
def test_the_text_tells_what_is_mixed(target, text):
    assert target_text(torch.tensor(target), ("a", "b", "c")) == text
