"""Every recipe in configs/ against the values that its authors' code and README state.

The tables are written from the sources by hand; docs/recipes.md names these.
"""

from pathlib import Path

import pytest
import torch

from models.build import build_model
from trainer import yaml_config
from trainer.recipe import Recipe

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(""))
    for path in CONFIGS.rglob("*.yaml")
    if "base" not in path.parts
)

IMAGENET_CROP = {
    "data.crop.mode": "rrc",
    "data.crop.scale": (0.08, 1.0),
    "data.crop.ratio": (3 / 4, 4 / 3),
    "data.crop.hflip": 0.5,
    "data.eval_interpolation": "bicubic",
}
ADAMW = {"optim.name": "adamw", "optim.betas": (0.9, 0.999)}
STRONG = {
    "augment.auto_augment": "rand-m9-mstd0.5-inc1",
    "augment.color_jitter": 0.0,
    "augment.erase": 0.25,
    "augment.erase_mode": "pixel",
    "augment.erase_min_count": 1,
    "augment.erase_max_count": 1,
    "augment.mix_prob": 1.0,
    "augment.switch": 0.5,
    "augment.mix_mode": "batch",
    "augment.correct_lam": True,
    "augment.mix_off_epoch": 0,
    "augment.repeats": 1,
    "augment.smoothing": 0.1,
    "loss.name": "ce",
}
DYNAMIXER_AND_VIP = {
    **IMAGENET_CROP,
    **ADAMW,
    **STRONG,
    "data.crop.interpolation": "random",
    "augment.mixup": 0.8,
    "augment.cutmix": 1.0,
    "optim.lr": 2e-3,
    "optim.weight_decay": 0.05,
    "optim.eps": 1e-8,
    "optim.clip_norm": 0.0,
    "schedule.shape": "cosine",
    "schedule.update": "epoch",
    "schedule.cosine_from": "start",
    "schedule.epochs": 300,
    "schedule.warmup_epochs": 20,
    "schedule.warmup_lr": 1e-6,
    "schedule.min_lr": 1e-5,
    "schedule.cooldown_epochs": 10,
    "run.seed": 42,
}
AMIXER = {
    **IMAGENET_CROP,
    **ADAMW,
    **STRONG,
    "data.crop.interpolation": "bicubic",
    "data.crop_pct": 0.875,
    "augment.mixup": 0.8,
    "augment.cutmix": 1.0,
    "batch.global_size": 1024,
    "optim.lr": 1e-3,
    "optim.weight_decay": 0.05,
    "optim.eps": 1e-8,
    "optim.clip_norm": 0.0,
    "optim.layer_decay": 1.0,
    "schedule.shape": "cosine",
    "schedule.update": "step",
    "schedule.cosine_from": "warmup",
    "schedule.epochs": 300,
    "schedule.warmup_epochs": 20,
    "schedule.warmup_lr": 0.0,
    "schedule.min_lr": 1e-6,
    "schedule.cooldown_epochs": 0,
    "precision.dtype": "fp32",
    "ema.decay": 0.9999,
    "run.seed": 0,
}
CONVMIXER_IMAGENET = {
    **IMAGENET_CROP,
    **ADAMW,
    **STRONG,
    "data.crop.interpolation": "random",
    "data.crop_pct": 0.96,
    "augment.mixup": 0.5,
    "augment.cutmix": 0.5,
    "batch.global_size": 640,
    "batch.per_gpu": 64,
    "optim.lr": 0.01,
    "optim.weight_decay": 2e-5,
    "optim.eps": 1e-3,
    "optim.clip_norm": 1.0,
    "optim.decay_all": False,
    "schedule.shape": "onecycle",
    "schedule.update": "step",
    "model.drop_path_rate": None,
    "ema.decay": 0.0,
    "run.seed": 42,
}
LVVIT = {
    **DYNAMIXER_AND_VIP,
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "augment.mix_mode": "pair",  # has no effect
    "batch.global_size": 1024,
    "optim.lr": 1.6e-3,
    "schedule.warmup_epochs": 5,
    "ema.decay": 0.99992,
    "token_labels.class_weight": 1.0,
    "token_labels.dense_weight": 1.0,
    "token_labels.mix_token": True,
    "token_labels.ground_truth": False,
    "token_labels.exchange_xy": False,
    "model.img_size": None,
}
LVVIT_384 = {
    "batch.global_size": 512,
    "optim.lr": 5e-6,
    "optim.weight_decay": 1e-8,
    "schedule.min_lr": 5e-6,
    "ema.decay": 0.0,
    "model.img_size": 384,
}
PLAIN = {
    "augment.color_jitter": 0.0,
    "augment.erase": 0.0,
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "augment.smoothing": 0.0,
    "data.crop.hflip": 0.5,
    "data.crop_pct": 1.0,
    "loss.name": "ce",
    "ema.decay": 0.0,
}
SPLITMIXER = {
    **ADAMW,
    **PLAIN,
    "data.crop.mode": "whole",
    "augment.auto_augment": "tv-n2-m12",
    "optim.weight_decay": 0.005,
    "optim.eps": 1e-8,
    "optim.clip_norm": 1.0,
    "optim.decay_all": True,
    "schedule.shape": "onecycle",
    "schedule.update": "step",
    "schedule.epochs": 100,
    "model.drop_path_rate": None,
    "run.seed": 42,
}
TRANSFER = {
    **PLAIN,
    "augment.auto_augment": "",
    "data.crop.mode": "pad",
    "data.crop.padding": 28,
    "data.mean": (0.4914, 0.4822, 0.4465),
    "data.std": (0.2023, 0.1994, 0.2010),
    "batch.global_size": 128,
    "model.img_size": 224,
    "model.drop_path_rate": 0.1,
    "optim.name": "momentum",
    "optim.momentum": 0.9,
    "optim.lr": 0.01,
    "optim.backbone_lr": 0.01,
    "optim.weight_decay": 5e-4,
    "schedule.shape": "cosine",
    "schedule.update": "epoch",
    "schedule.epochs": 60,
    "schedule.warmup_epochs": 0,
    "schedule.min_lr": 2e-4,
    "precision.dtype": "fp32",
}


def imagenet(
    global_size: int, per_gpu: int, drop_path: float, crop_pct: float, ema: float
) -> dict[str, object]:
    return DYNAMIXER_AND_VIP | {
        "batch.global_size": global_size,
        "batch.per_gpu": per_gpu,
        "model.drop_path_rate": drop_path,
        "data.crop_pct": crop_pct,
        "ema.decay": ema,
    }


def lvvit(size: str) -> dict[str, object]:
    drop_path, crop_pct = {"s": (0.1, 0.9), "m": (0.2, 1.0), "l": (0.3, 1.0)}[size]
    differs: dict[str, object] = {"model.drop_path_rate": drop_path, "data.crop_pct": crop_pct}
    if size == "l":
        differs |= {"optim.lr": 1e-3, "augment.auto_augment": "rand-n3-m9-mstd0.5-inc1"}
    return LVVIT | differs


def small(data: str) -> dict[str, object]:
    classes, size, batch, lr, mean, std = SMALL[data]
    return SPLITMIXER | {
        "model.num_classes": classes,
        "model.img_size": size,
        "batch.global_size": batch,
        "optim.lr": lr,
        "data.mean": mean,
        "data.std": std,
        "evaluation.crop_mode": "squash" if size == 224 else None,
    }


SMALL = {
    "cifar10": (10, 32, 512, 0.05, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": (100, 32, 512, 0.05, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "food101": (101, 224, 128, 0.01, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "flowers102": (102, 224, 128, 0.01, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
}
TABLE: dict[str, dict[str, object]] = {
    "dynamixer_s": imagenet(2048, 256, 0.1, 0.9, 0.99996),
    "dynamixer_m": imagenet(1024, 128, 0.1, 0.9, 0.99996),
    "dynamixer_l": imagenet(512, 64, 0.3, 0.875, 0.99996),
    "imagenet/vip_s14": imagenet(2048, 256, 0.1, 0.9, 0.0),
    "imagenet/vip_s7": imagenet(2048, 256, 0.1, 0.9, 0.0),
    "imagenet/vip_m7": imagenet(2048, 128, 0.2, 0.9, 0.0),
    "imagenet/vip_l7": imagenet(2048, 64, 0.3, 0.875, 0.0),
    **{
        f"imagenet/amixer_{size}": AMIXER
        | {"batch.per_gpu": per_gpu, "model.drop_path_rate": drop_path}
        for size, per_gpu, drop_path in (
            *(("deit_s", 128, 0.1), ("t", 128, 0.2)),
            *(("s", 64, 0.35), ("b", 32, 0.5)),
        )
    },
    **{
        f"imagenet/{family}_{size}": CONVMIXER_IMAGENET | {"schedule.epochs": epochs}
        for family in ("convmixer", "splitmixer")
        for size, epochs in (("1536_20", 150), ("768_32", 300), ("1024_20_ks9_p14", 150))
    },
    **{f"imagenet/lvvit_{size}": lvvit(size) for size in "sml"},
    **{
        f"imagenet/lvvit_{size}_384": lvvit(size)
        | LVVIT_384
        | {"model.init_from": f"runs/lvvit_{size}"}
        for size in "sml"
    },
    **{
        f"{data}/{model}_256_8": small(data)
        for data in SMALL
        for model in ("convmixer", *(f"splitmixer_{kind}" for kind in ("i", "ii", "iii", "iv")))
    },
    **{
        f"{data}/{model}_transfer": TRANSFER | {"model.num_classes": classes}
        for data, classes in (("cifar10", 10), ("cifar100", 100))
        for model in (*(f"dynamixer_{size}" for size in "sml"), "vip_s7", "vip_m7", "vip_l7")
    },
}


def load(name: str) -> Recipe:
    return yaml_config.load(Recipe, CONFIGS / f"{name}.yaml")


def value_at(recipe: Recipe, key: str) -> object:
    node: object = recipe
    for part in key.split("."):
        node = getattr(node, part)
    return node


def test_every_recipe_has_its_authors_values_and_the_other_way_round():
    assert set(TABLE) == set(RECIPES) - {"quickstart"}


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_has_the_values_that_its_authors_state(name):
    recipe = load(name)
    assert {key: value_at(recipe, key) for key in TABLE[name]} == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_the_model_of_a_recipe_can_be_built(name):
    config = load(name).model
    with torch.device("meta"):
        model = build_model(
            config.name,
            num_classes=config.num_classes or 1000,
            img_size=config.img_size,
            drop_path_rate=config.drop_path_rate,
        )
    assert sum(weight.numel() for weight in model.parameters()) > 0
    assert Path(name).stem.startswith(config.name.removesuffix("_ks7_p7"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_the_paper_s_result_and_ours(name):
    head = (CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
    assert name == "quickstart" or ("Paper: " in head and "Ours: " in head)


@pytest.mark.parametrize("name", RECIPES)
def test_token_labels_are_where_their_model_has_a_classifier_of_tokens(name):
    recipe = load(name)
    assert bool(recipe.token_labels.file) == recipe.model.name.startswith("lvvit")


@pytest.mark.parametrize("name", TABLE)
def test_a_published_recipe_leaves_the_loader_to_the_machine(name):
    assert load(name).data.loader == "auto"


def test_no_two_recipes_train_in_one_folder():
    names = [load(name).run.name or Path(name).stem for name in RECIPES]
    assert len(set(names)) == len(names)
