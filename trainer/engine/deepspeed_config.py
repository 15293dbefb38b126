"""What DeepSpeed is told: derived from the recipe, never written.

What cannot train is refused in words before anything starts (`check_trainable`). Weights stay in
their usual memory format, because DeepSpeed's start-up cannot view channels-last ones; inputs in
channels-last keep the activations so all the same.
"""

import torch
from torch import nn

from trainer.batch_plan import BatchPlan
from trainer.recipe import Recipe


def check_trainable(model: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Refuse what DeepSpeed would start and never learn, or crash on in the first forward.

    Raises:
        ValueError: naming the key, the reason and the remedy.
    """
    if recipe.precision.dtype != "fp16":
        return
    if device.type == "cpu":
        raise ValueError(
            "precision.dtype: fp16 does not train on a CPU; use bf16 or fp32, or a GPU"
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError(
            f"precision.dtype: {recipe.model.name} has BatchNorm, whose statistics fp16 training"
            " would not cast; use bf16 (autocast) instead"
        )


def deepspeed_config(
    recipe: Recipe, plan: BatchPlan, *, cuda: bool, guarded: bool
) -> dict[str, object]:
    """DeepSpeed's own configuration for `recipe`. Every default that acts is written out.

    Args:
        recipe: of the run.
        plan: how the global batch is made.
        cuda: whether there is a GPU.
        guarded: whether `Engine` clips and skips steps itself.
    """
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": plan.per_gpu,
        "gradient_accumulation_steps": plan.accumulation,
        # DeepSpeed would clip at 1.0 by default.
        "gradient_clipping": 0.0 if guarded else recipe.optim.clip_norm,
        "steps_per_print": 10**9,
        # Its throughput timer waits for the GPU at each micro-batch.
        "timers": {"throughput": {"enabled": False}},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": recipe.zero.stage,
            # A bucket never fills for models of this size, so nothing would overlap, and waiting
            # for the stream of the reduction stops the host once a step.
            "overlap_comm": False,
            # The defaults of stage 3 allocate 2 GB however small the model is.
            "reduce_bucket_size": 50_000_000 if cuda else 5_000_000,
            # Its norm takes three launches a weight, and three waits for the GPU a step.
            "compute_grad_norm": recipe.zero.stage not in (1, 2) or not guarded,
        },
    }
    if recipe.precision.dtype == "bf16":
        # The empty list makes gradients be reduced in float32.
        config["torch_autocast"] = {
            "enabled": True,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        }
    elif recipe.precision.dtype == "fp16":
        config["fp16"] = {"enabled": True}
    return config
