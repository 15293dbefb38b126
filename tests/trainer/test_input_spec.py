"""Sizes and geometry of images: what a recipe says is checked against the model at the start."""

from dataclasses import replace

import pytest
import torch

from models.build import build_model, check_classifies
from pipeline.augment.config import AugmentConfig, ResolutionConfig
from pipeline.config import DataConfig, EvaluationConfig
from tests.support.recipes import recipe
from trainer.input_spec import evaluation_input, input_spec, spec_of, take_input
from trainer.recipe import ModelConfig
from trainer.yaml_config import ConfigError

RAMP = ResolutionConfig(min_res=32, max_res=96, start_ramp=0, end_ramp=3)
ANY_SIZE, ONE_SIZE = "splitmixer_i_256_8", "dynamixer_nano"


def taken(name, **sections):
    """The model, which has taken a recipe, and that recipe."""
    made = recipe()
    schedule = replace(made.schedule, epochs=4)
    made = replace(made, model=ModelConfig(name=name), schedule=schedule, **sections)
    with torch.device("meta"):
        model = build_model(name, num_classes=10)
    take_input(model, made)
    return model, made


def test_evaluation_has_the_size_and_geometry_that_the_recipe_says():
    evaluation = EvaluationConfig(img_size=48, crop_pct=0.75, crop_mode="border")
    data = DataConfig(crop_pct=0.9, eval_interpolation="bilinear")
    model, made = taken(ANY_SIZE, evaluation=evaluation, data=data)
    spec = spec_of(evaluation_input(model, made))
    assert (spec.size, spec.crop_pct, spec.crop_mode) == (48, 0.75, "border")
    assert spec.interpolation == "bilinear"
    assert input_spec(model).size == 32


def test_without_a_word_evaluation_is_as_the_model_and_the_data_section_say():
    model, made = taken(ANY_SIZE, data=DataConfig(crop_pct=0.9))
    assert spec_of(evaluation_input(model, made)) == input_spec(model)
    assert input_spec(model).crop_pct == 0.9
    assert input_spec(model).crop_mode == "center"


def test_a_model_of_one_size_is_not_evaluated_at_another():
    with pytest.raises(
        ConfigError, match=r"evaluation.img_size: dynamixer_nano .*48x48.*built for"
    ):
        taken(ONE_SIZE, evaluation=EvaluationConfig(img_size=48))
    taken(ONE_SIZE, evaluation=EvaluationConfig(img_size=32))


def test_a_resolution_schedule_needs_a_model_that_takes_all_of_its_sizes():
    augment = AugmentConfig(resolution=RAMP)
    with pytest.raises(ConfigError, match=r"augment.resolution: dynamixer_nano .*64x64"):
        taken(ONE_SIZE, augment=augment)
    taken(ANY_SIZE, augment=augment)


@pytest.mark.parametrize(
    ("name", "arguments", "takes"),
    [
        ("vit_tiny_patch16_224", {}, False),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, True),
        ("resnet18", {}, True),
        ("swin_tiny_patch4_window7_224", {}, False),
    ],
)
def test_timms_models_are_asked_without_computing(name, arguments, takes):
    with torch.device("meta"):
        model = build_model(name, num_classes=10, arguments=arguments)
    check_classifies(model, 224)
    if takes:
        check_classifies(model, 160)
    else:
        with pytest.raises(ValueError, match=r"."):
            check_classifies(model, 160)
    assert model.training
