"""Run by test_bench_loader.py: what model is measured of a recipe, in a process of its own.

Arguments: the recipe, then its overrides. Prints as JSON the kinds of what is asked for below.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import torch

from models.half_norms import HalfLayerNorm
from models.memory_layout import _to_contiguous
from tools import bench_loader
from tools.speed.measure import measure
from tools.speed.stages import Bench
from trainer import yaml_config
from trainer.recipe import Recipe
from trainer.tuning import cache
from trainer.tuning.choice import Choice

if __name__ == "__main__":
    recipe = yaml_config.load(Recipe, Path(sys.argv[1]), sys.argv[2:])
    torch.set_num_threads(bench_loader.CORES)  # as of a rank that is alone
    case = cache.case_of(recipe, torch.device("cpu"))
    cache.write(case, Choice(layout="contiguous", compile="blocks"), {})
    with mock.patch.object(Bench, "run", lambda _, engine, begins: engine.module):
        model = measure(recipe, 1, lambda _: None)
    found = {
        "contiguous": _to_contiguous in model._forward_pre_hooks.values(),
        "compiled": any(block._compiled_call_impl is not None for block in model.modules()),
        "half norms": any(type(module) is HalfLayerNorm for module in model.modules()),
        "stem learns": any(weight.requires_grad for weight in model.patch_embed.parameters()),
    }
    sys.stdout.write(json.dumps(found))
