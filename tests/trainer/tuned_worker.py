"""Run by test_tuning.py: a run that is tuned and goes on, in one process.

Arguments: the recipe; the tuned choices that are in the cache when the run begins and when it goes
on, as JSON. Prints of both whether the kernels are used, and whether the stem saw channels-last
images.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from models.kernels import switch
from models.layers.basic import PatchEmbed
from trainer import yaml_config
from trainer.assembly.run import train
from trainer.engine.process_group import init_process_group
from trainer.process.signals import StopSignal
from trainer.process.world import bootstrap, current, share_cores
from trainer.recipe import Recipe
from trainer.tuning import cache
from trainer.tuning.choice import Choice

seen: list[bool] = []


def watch(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    if isinstance(module, PatchEmbed) and inputs[0].shape[1] == 3:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))


if __name__ == "__main__":
    config, found = Path(sys.argv[1]), json.loads(sys.argv[2])
    bootstrap()
    device = init_process_group()
    share_cores(current(device))
    register_module_forward_pre_hook(watch)
    for steps, choice in enumerate(found, start=1):
        recipe = yaml_config.load(Recipe, config, [f"run.max_steps={steps}"])
        cache.write(cache.case_of(recipe, torch.device("cpu")), Choice(**choice), {})
        seen.clear()
        train(recipe, current(device), StopSignal(()), lambda _: os._exit(1))
        sys.stdout.write(f"computed: {json.dumps([switch.ENABLED, sorted(set(seen))])}\n")
    dist.destroy_process_group()
