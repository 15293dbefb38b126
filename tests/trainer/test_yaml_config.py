"""Recipes: what is written is what runs, and every mistake is told with path, value and remedy."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import yaml_config
from trainer.batch_plan import BatchPlan
from trainer.recipe import Recipe
from trainer.yaml_config import ConfigError

ROOT = Path(__file__).parents[2]
MINIMAL = """
model: {name: dynamixer_nano}
batch: {global_size: 64, per_gpu: 32}
optim: {lr: 2e-3}
schedule: {epochs: 3}
"""


OLD_FINGERPRINT = "0503a2e457ba8dee3722dfcd6827cba173c19e0bd844f0c3e4cf9a1ba667223e"
"""Of MINIMAL, before there were `model.args` and `precision.allow_tf32`."""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL)
    return path


def message_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        yaml_config.load(Recipe, path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    sorted(p for p in ROOT.glob("configs/**/*.yaml") if p.parent.name != "base"),
    ids=lambda path: path.stem,
)
def test_every_recipe_in_configs_is_valid(path):
    assert yaml_config.load(Recipe, path).model.name


def test_dump_reads_back_to_an_equal_recipe(recipe_file, tmp_path):
    recipe = yaml_config.load(Recipe, recipe_file, ["augment.mixup=0.8", "run.compile=blocks"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml_config.dump(recipe))
    assert yaml_config.load(Recipe, copy) == recipe


def test_a_number_that_yaml_reads_as_text_is_still_a_number(recipe_file):
    assert yaml_config.load(Recipe, recipe_file).optim.lr == 0.002


@pytest.mark.parametrize("form", ["optim.lr=0.5", "--optim.lr=0.5"])
def test_an_override_wins_over_the_file(recipe_file, form):
    assert yaml_config.load(Recipe, recipe_file, [form]).optim.lr == 0.5


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("augment.mixupp=1", "augment.mixupp: unknown key; did you mean 'mixup'?"),
        ("modle.name=x", "modle: unknown key; did you mean 'model'?"),
        ("augment.mixup=lots", "augment.mixup: expected a number, got 'lots'"),
        ("augment.mixup=-1", "augment: mixup must be >= 0"),
        ("batch.per_gpu=7.5", "batch.per_gpu: expected a whole number or 'auto', got 7.5"),
        (
            "data.crop.scale=0.5",
            "data.crop.scale: expected a list in brackets, such as [a, b], got",
        ),
        ("data.crop.scale=[0.5]", "data.crop.scale[1]: missing"),
        ("data.crop.scale=[0.1, x]", "data.crop.scale[1]: expected a number, got 'x'"),
        ("data.crop.scale=[0.1, 0.2, 1]", "data.crop.scale: expected a list of at most 2, got"),
        ("model.args={a: {b: 1}}", "model.args.a: expected true or false or a whole number or"),
        ("model.args=3", "model.args: expected pairs in braces, such as {key: value}, got 3"),
        ("augment=null", "augment: a section of key: value pairs belongs here, got null"),
        ("optim.lr=", "optim.lr: expected a number, got null"),
        ("optim.lr=[1", "the command line: optim.lr=[1: '[1' is not a YAML value; quote it"),
        ("augment={erase: 0.1, erase: 0.2}", "erase: given twice"),
        ("base=other.yaml", "the command line: base=other.yaml: base stands in a recipe's file"),
        ("optim..lr=1", "the command line: optim..lr=1: an override is written key.path=value"),
        ("zero.stage=7", "zero.stage: expected 0, 1, 2 or 3, got 7"),
        ("run.name=on", "run.name: got true; YAML reads on, off, yes and no as"),
        ("run.log_every=on", "run.log_every: got true"),
        ("model=3", "model: a section of key: value pairs belongs here, got 3"),
        ("optim.lr.x=3", "the command line: optim.lr.x=3: lr is a value, not a section"),
        ("nothing", "an override is written key.path=value"),
        ("data.crop.scale=[0.9, 0.1]", "data.crop: scale must satisfy 0 < low <= high <= 1"),
    ],
)
def test_a_mistake_is_told_with_its_path_value_and_remedy(recipe_file, override, expected):
    assert expected in message_of(recipe_file, override)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("precision.dtype=fp16", "zero.stage=0"), "use zero.stage 1"),
        (("run.compile=model", "zero.stage=3"), "use zero.stage 1 or 2"),
        (("augment.mixup=0.2", "batch.per_gpu=31"), "batch.per_gpu must be even"),
        (
            ("optim.name=lamb", "zero.stage=1"),
            "optim.name lamb looks at whole weights, and zero.stage 1",
        ),
        (("optim.clip_agc=0.1", "zero.stage=2"), "optim.clip_agc 0.1 looks at whole weights"),
        (
            ("loss.name=bce", "loss.bce_threshold=0", "augment.smoothing=0.1"),
            "loss.bce_threshold 0 makes every class right",
        ),
    ],
)
def test_combinations_that_cannot_train_are_refused(recipe_file, overrides, expected):
    assert expected in message_of(recipe_file, *overrides)


def test_all_mistakes_are_told_at_once(recipe_file):
    text = message_of(recipe_file, "augment.mixup=lots", "batch.per_gpu=x")
    assert "augment.mixup" in text
    assert "batch.per_gpu" in text


def test_a_mistake_is_told_where_its_value_stands(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(f"{MINIMAL}\naugment: {{erase: 2}}\nema: {{decay: 0.5}}\n")
    assert message_of(path, "ema.decay=7").splitlines() == [
        f"the command line, over {path}:",
        "  ema: decay must be in [0, 1), got 7.0",
        f"{path}:",
        "  augment: erase must be a probability, got 2.0",
    ]
    assert message_of(path).splitlines()[0] == f"{path}:"
    assert message_of(path, "optim.lr=1").splitlines()[0] == f"{path}:"


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("optim: {lr: 1.0}\noptim: {lr: 2.0}\n")
    assert "optim: given twice (line 2)" in message_of(path)


def test_yaml_that_would_build_objects_is_refused(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("model: !!python/object/apply:os.getcwd []\n")
    assert "not valid YAML" in message_of(path)


def test_what_has_no_default_is_asked_for(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert "model: missing" in message_of(path)


@pytest.fixture
def family(tmp_path):
    """A recipe in a folder below that of its base."""
    (tmp_path / "base.yaml").write_text(MINIMAL + "data: {crop: {scale: [0.5, 1.0], hflip: 0.0}}\n")
    path = tmp_path / "sizes" / "small.yaml"
    path.parent.mkdir()
    path.write_text("base: ../base.yaml\noptim: {weight_decay: 0.1}\ndata: {crop: {hflip: 0.5}}\n")
    return path


def test_a_recipe_says_only_what_differs_from_its_base(family):
    recipe = yaml_config.load(Recipe, family)
    assert (recipe.optim.lr, recipe.optim.weight_decay) == (2e-3, 0.1)
    assert (recipe.data.crop.scale, recipe.data.crop.hflip) == ((0.5, 1.0), 0.5)
    assert yaml_config.load(Recipe, family, ["optim.lr=0.5"]).optim.lr == 0.5


def test_a_recipe_is_shown_whole(family, tmp_path):
    copy = tmp_path / "elsewhere.yaml"
    copy.write_text(yaml_config.dump(yaml_config.load(Recipe, family)))
    assert "base" not in copy.read_text()
    assert yaml_config.load(Recipe, copy) == yaml_config.load(Recipe, family)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("sizes/small.yaml", "is a circle; leave one base out"),
        ("none.yaml", "there is no file"),
        ("[a, b]", "base: expected the path of a YAML file, got [a, b]"),
    ],
)
def test_a_base_that_cannot_be_is_refused(family, base, message):
    (family.parents[1] / "base.yaml").write_text(f"base: {base}\n")
    assert message in message_of(family)


def test_a_base_is_checked_like_a_recipe(family):
    (family.parents[1] / "base.yaml").write_text(MINIMAL + "zeroo: {stage: 1}\n")
    assert "zeroo: unknown key; did you mean 'zero'?" in message_of(family)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "none.yaml: cannot be read" in message_of(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("optim.lr=1.0", True),
        ("run.seed=1", True),
        ("batch.global_size=128", True),
        ("data.crop.hflip=0.0", True),
        ("batch.per_gpu=16", False),
        ("data.root=elsewhere", False),
        ("zero.stage=2", False),
        ("run.keep_checkpoints=9", False),
        ("run.max_steps=9", False),
        ("model.args.drop_rate=0.1", True),
        ("precision.allow_tf32=true", True),
        ("data.threads=3", False),
        ("optim.betas=[0.9, 0.999]", False),
        ("optim.name=nadamw", True),
        ("run.max_hours=2", False),
        ("run.patience=2", True),
        ("loss.name=bce", True),
        ("distill.teacher=vip_s7", True),
        ("augment.auto_augment=rand-m9", True),
        ("augment.auto_augment=''", False),
        ("augment.color_jitter=0.4", True),
        ("augment.repeats=3", True),
        ("augment.repeats=1", False),
        ("data.crop.mode=pad", True),
        ("data.crop.mode=rrc", False),
        ("data.crop.vflip=0.5", True),
        ("augment.resolution={min_res: 32, max_res: 64, start_ramp: 0, end_ramp: 2}", True),
        ("augment.resolution=null", False),
        ("evaluation.img_size=288", True),
        ("evaluation.crop_mode=squash", True),
        ("evaluation.crop_pct=null", False),
    ],
)
def test_the_fingerprint_changes_with_what_changes_results(recipe_file, override, changes):
    before = yaml_config.load(Recipe, recipe_file).results_fingerprint()
    after = yaml_config.load(Recipe, recipe_file, [override]).results_fingerprint()
    assert (before != after) == changes


@pytest.mark.parametrize(
    ("more", "fingerprint"),
    [
        ({}, "108d07ff0d1d010ec22fd2228481168a809971028d7af7be187c7a9b6abe4178"),
        (
            {
                "augment": {"erase": 0.25, "mixup": 0.8, "cutmix": 1.0, "mix_mode": "batch"}
                | {"smoothing": 0.1},
                "data": {
                    "crop": {"scale": [0.2, 1.0], "interpolation": "random", "hflip": 0.0},
                },
            },
            "c0af776685c6fedfd833c85c5c4efa8fff49ea776d2a5aa4656e8784de0b7082",
        ),
    ],
)
def test_recipes_of_the_first_release_keep_their_fingerprint(more, fingerprint):
    """Another one would keep runs begun before from going on."""
    first = {
        "model": {"name": "dynamixer_s"},
        "batch": {"global_size": 64, "per_gpu": 8},
        "optim": {"lr": 1e-3},
        "schedule": {"epochs": 10},
    }
    recipe = yaml_config.from_tree(Recipe, {**first, **more}, where="recipe")
    assert recipe.results_fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "augment.auto_augment=rand-m9-x2",
            "augment: auto_augment 'rand-m9-x2': unknown option 'x2'; known are n",
        ),
        (
            "augment.color_jitter=lots",
            "augment.color_jitter",
        ),
        ("augment.mix_off_epoch=10", "augment.mix_off_epoch 10 has no effect in a run of"),
        ("augment.resolution={min_res: 33}", "augment.resolution.max_res: missing"),
        ("data.crop.padding=3", "data.crop: padding 3 has no effect without mode 'pad'"),
    ],
)
def test_augmentation_that_cannot_be_is_refused_with_its_key(recipe_file, override, message):
    overrides = ["augment.mixup=0.2", override]
    assert message in message_of(recipe_file, *overrides)


@given(per_gpu=st.integers(1, 64), world_size=st.integers(1, 64), accumulation=st.integers(1, 16))
def test_a_batch_plan_multiplies_back_to_the_global_size(per_gpu, world_size, accumulation):
    size = per_gpu * world_size * accumulation
    plan = BatchPlan.solve(global_size=size, per_gpu=per_gpu, world_size=world_size)
    assert plan == BatchPlan(per_gpu=per_gpu, accumulation=accumulation, world_size=world_size)


@given(size=st.integers(1, 4096), per_gpu=st.integers(1, 512), world_size=st.integers(1, 16))
def test_a_batch_plan_that_does_not_divide_names_one_that_does(size, per_gpu, world_size):
    if size % (per_gpu * world_size) == 0:
        return
    with pytest.raises(ValueError, match=f"batch.global_size: {size} is not a multiple") as caught:
        BatchPlan.solve(global_size=size, per_gpu=per_gpu, world_size=world_size)
    if "use per_gpu " in str(caught.value):
        better = int(str(caught.value).rpartition(" ")[2])
        BatchPlan.solve(global_size=size, per_gpu=better, world_size=world_size)


@given(
    size=st.integers(1, 512).map(lambda n: 2 * n),
    per_gpu=st.integers(1, 128),
    world_size=st.integers(1, 4),
)
def test_advice_on_a_batch_that_is_mixed_in_pairs_is_even(size, per_gpu, world_size):
    if size % (per_gpu * world_size) == 0:
        return
    with pytest.raises(ValueError, match="is not a multiple") as caught:
        BatchPlan.solve(global_size=size, per_gpu=per_gpu, world_size=world_size, even=True)
    if "use per_gpu " in str(caught.value):
        better = int(str(caught.value).rpartition(" ")[2])
        assert better % 2 == 0
        BatchPlan.solve(global_size=size, per_gpu=better, world_size=world_size, even=True)
    else:
        assert size % (2 * world_size)


def test_an_odd_batch_that_is_mixed_in_pairs_is_told_an_even_one_that_divides(recipe_file):
    odd = ["augment.mixup=0.8", "batch.global_size=60", "batch.per_gpu=15"]
    assert "got 15; use 12" in message_of(recipe_file, *odd)
    yaml_config.load(Recipe, recipe_file, [*odd[:2], "batch.per_gpu=12"])


def test_the_fingerprint_of_an_old_recipe_is_what_it_was(recipe_file):
    recipe = yaml_config.load(Recipe, recipe_file)
    assert recipe.results_fingerprint() == OLD_FINGERPRINT


def test_arguments_of_the_model_keep_their_types(recipe_file):
    given_ = ["model.args.drop_rate=0.1", "model.args.mode=linear", "model.args.shared=true"]
    args = yaml_config.load(Recipe, recipe_file, given_).model.args
    assert args == {"drop_rate": 0.1, "mode": "linear", "shared": True}


def test_print_shows_the_resolved_recipe_and_a_typo_ends_before_torch_is_imported(recipe_file):
    shown = subprocess.run(
        [sys.executable, ROOT / "launch.py", "--config", recipe_file, "--print"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "name: tiny" in shown.stdout  # run.name: the stem of the file
    code = (
        "import sys, launch;"
        f"code = launch.main(['--config', {str(recipe_file)!r}, 'optim.lrr=1']);"
        "assert 'torch' not in sys.modules; raise SystemExit(code)"
    )
    typo = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert typo.returncode == 2
    assert "optim.lrr: unknown key; did you mean 'lr'?" in typo.stderr


def test_every_field_of_the_recipe_is_a_section():
    assert all(dataclasses.is_dataclass(field.type) for field in dataclasses.fields(Recipe))
