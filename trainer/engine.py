"""DeepSpeed behind one small class; its configuration is derived from the recipe, never written.

What cannot train is refused in words before anything starts (`check_trainable`). Weights stay in
their usual memory format, because DeepSpeed's start-up cannot view channels-last ones; inputs in
channels-last keep the activations so all the same.
"""

from typing import Protocol, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import logger as deepspeed_logger
from torch import Tensor, nn

from trainer.optim import build_optimizer
from trainer.parameter_groups import frozen_norms, parameter_groups
from trainer.recipe import BatchPlan, Recipe


def init_process_group() -> None:
    """Join the process group: nccl where there is a GPU, gloo otherwise."""
    deepspeed_logger.setLevel("ERROR")
    # DeepSpeed would compile CPU collectives of its own, which takes half a minute, needs a
    # compiler, and leaves 69 MB per rank in /dev/shm for ever. Gloo's serve as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if torch.cuda.is_available() else "gloo", verbose=False
    )


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


def deepspeed_config(recipe: Recipe, plan: BatchPlan, *, cuda: bool) -> dict[str, object]:
    """DeepSpeed's own configuration for `recipe`. Every default that acts is written out."""
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": plan.per_gpu,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_clipping": recipe.optim.clip_norm,  # DeepSpeed would clip at 1.0 by default
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": recipe.zero.stage,
            "overlap_comm": cuda,
            # The defaults of stage 3 allocate 2 GB however small the model is.
            "reduce_bucket_size": 50_000_000 if cuda else 5_000_000,
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


class ZeroOptimizer(Protocol):
    """What is used of DeepSpeed's sharding optimizers (stages 1 and 2, and stage 3)."""

    single_partition_of_fp32_groups: list[Tensor]
    fp32_partitioned_groups_flat: list[Tensor]
    persistent_parameters: list[nn.Parameter]
    loss_scaler: object
    _hp_optimizer_states_linked: bool

    def update_lp_params(self) -> None:
        """Copy the masters into the working weights."""
        ...

    def _lazy_init_hp_params_optimizer_state(self) -> None: ...
    def _partition_all_parameters(self) -> None: ...
    def _reassign_or_swap_out_partitioned_parameters(self, sub_group_id: int) -> None: ...


class Engine:
    """Forward, backward and optimizer step of one rank.

    Attributes:
        module: the model as it was given.
        stage: the ZeRO stage.
        device: of the weights.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, plan: BatchPlan) -> None:
        check_trainable(model, recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer(model, parameter_groups(model, recipe.optim), recipe.optim),
            config=deepspeed_config(recipe, plan, cuda=torch.cuda.is_available()),
        )
        self.module = model
        self.stage = recipe.zero.stage
        self.device = next(model.parameters()).device
        self.accumulation = plan.accumulation
        self._half = recipe.precision.dtype == "fp16"

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimizer, whose parameters ZeRO has replaced by flat shards."""
        return cast(torch.optim.Optimizer, self.deepspeed.basic_optimizer)

    @property
    def zero(self) -> ZeroOptimizer:
        """DeepSpeed's wrapper around `optimizer` at stages 1 to 3."""
        return cast(ZeroOptimizer, self.deepspeed.optimizer)

    def train(self) -> None:
        """Switch to training mode."""
        self.deepspeed.train()
        for norm in frozen_norms(self.module):
            norm.eval()

    def eval(self) -> None:
        """Switch to evaluation mode; averages the buffers over ranks first."""
        self.average_buffers()
        self.deepspeed.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (B, 3, H, W) float32 images, under the recipe's precision."""
        return self.deepspeed(images.half() if self._half else images)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of one micro-batch; `loss` is its mean."""
        self.deepspeed.backward(loss)

    def step(self, lr: float) -> None:
        """End a micro-batch; the last one of an accumulation updates the weights at rate `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        if self.stage == 0 and self.deepspeed.is_gradient_accumulation_boundary():
            gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
            self._norm_at_stage_0 = torch.nn.utils.get_total_norm(gradients)
        self.deepspeed.step()

    def grad_norm(self) -> float | None:
        """Gradient norm of the last step before clipping; None where the step was skipped."""
        if self.stage == 0:
            norm = float(self._norm_at_stage_0)
        else:
            norm = float(self.deepspeed.get_global_grad_norm() or 0.0)
        return norm if norm < float("inf") else None  # also None for NaN

    @property
    def skipped_steps(self) -> int:
        """Steps skipped since the start of this process because a gradient was not finite."""
        return self.deepspeed.skipped_steps

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Give every rank the mean of the BatchNorm statistics, which DeepSpeed lets drift."""
        if dist.get_world_size() == 1:
            return
        # A buffer that is not saved is a function of the architecture: a mean would only round it.
        saved = self.module.state_dict().keys()
        for name, buffer in self.module.named_buffers():
            if name in saved and buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer.div_(dist.get_world_size())
