"""DeepSpeed behind one small class; its configuration is derived from the recipe, never written.

What cannot train is refused in words before anything starts (`check_trainable`). Weights stay in
their usual memory format, because DeepSpeed's start-up cannot view channels-last ones; inputs in
channels-last keep the activations so all the same.
"""

from typing import Protocol, cast, overload

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import logger as deepspeed_logger
from torch import Tensor, nn

from trainer.batch_plan import BatchPlan
from trainer.optimization.gradient_check import GradientCheck, check_pieces, gradient_norms
from trainer.optimization.optim import build_optimizer
from trainer.optimization.parameter_groups import frozen_norms, parameter_groups
from trainer.process.world import choose_device, make_host_group
from trainer.recipe import Recipe


def init_process_group() -> torch.device:
    """Join the process group, nccl where there is a GPU, gloo otherwise; returns the device.

    Raises:
        ValueError: if there is no GPU left for this rank.
    """
    deepspeed_logger.setLevel("ERROR")
    # DeepSpeed would compile CPU collectives of its own, which takes half a minute, needs a
    # compiler, and leaves 69 MB per rank in /dev/shm for ever. Gloo's serve as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    device = choose_device()  # before any collective: nccl would take GPU 0 on every rank
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    make_host_group()
    return device


def allow_tf32(allowed: bool) -> None:  # the name says what it is
    """Let float32 products and convolutions round their inputs to 10 bits on a GPU, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed  # torch allows it by default, to convolutions alone


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
        # DeepSpeed would clip at 1.0 by default. At stage 0, `Engine.step` clips: it has the norm.
        "gradient_clipping": recipe.optim.clip_norm if recipe.zero.stage else 0.0,
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

    averaged_gradients: dict[int, list[Tensor]]
    params_in_partition: list[list[nn.Parameter]]
    fp16_groups: list[list[nn.Parameter]]
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


class Scaled(Protocol):
    """What torch's fused optimizers read of a gradient scaler: 1.0 makes them skip the step."""

    found_inf: Tensor


class Engine:
    """Forward, backward and optimizer step of one rank.

    Attributes:
        module: the model as it was given.
        stage: the ZeRO stage.
        device: of the weights.
        gradients: of the last update; None where they are known to be finite.
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
        self.gradients: GradientCheck | None = None
        self._names = {id(weight): name for name, weight in model.named_parameters()}
        self._half = recipe.precision.dtype == "fp16"
        self._clip_norm = recipe.optim.clip_norm
        self._norm_at_stage_0 = torch.zeros((), device=self.device)
        # At stage 0 on the device, above it on the host, where DeepSpeed decides.
        self._skipped_in_row = torch.zeros((), device="cpu" if self.stage else self.device)

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

    @overload
    def forward(self, images: Tensor) -> Tensor: ...

    @overload
    def forward(
        self, images: Tensor, mixed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward(
        self, images: Tensor, mixed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of (B, 3, H, W) float32 images, under the recipe's precision.

        With `mixed`, which only models that classify tokens take, the tokens' logits too.
        """
        images = images.half() if self._half else images
        return self.deepspeed(images) if mixed is None else self.deepspeed(images, mixed=mixed)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of one micro-batch; `loss` is its mean."""
        self.deepspeed.backward(loss)

    def step(self, lr: float) -> None:
        """End a micro-batch; the last one of an accumulation updates the weights at rate `lr`.

        Where a gradient is not finite, weights, moments and Adam's count stay as they are.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        is_update = self.deepspeed.is_gradient_accumulation_boundary()
        if is_update and self.stage == 0:
            self._guard_weights()
        # A step that is skipped drops its gradients, hence the references.
        pieces = self._gradient_pieces() if is_update and self.stage > 0 else []
        self.deepspeed.step()
        if is_update and self.stage > 0:
            is_skipped = not self.deepspeed.was_step_applied()
            self.gradients = check_pieces(pieces) if is_skipped else None
            self._count_skipped(torch.tensor(float(is_skipped)))

    def _gradient_pieces(self) -> list[tuple[str, Tensor]]:
        """What this rank holds of the gradients at stages 1 to 3, with the names of the weights."""
        zero = self.zero
        weights = zero.fp16_groups if self.stage == 3 else zero.params_in_partition
        return [
            (self._names[id(weight)], piece)
            for number, group in enumerate(weights)
            # Between and behind the pieces DeepSpeed fills its partitions up.
            for weight, piece in zip(
                group,
                (
                    piece
                    for piece in zero.averaged_gradients[number]
                    if not getattr(piece, "_zero_padding", False)
                ),
                strict=False,  # a rank without a piece of the group has a buffer of zeros alone
            )
        ]

    @torch.no_grad()
    def _guard_weights(self) -> None:
        """Clip at stage 0, and skip a step that is not finite, as ZeRO does at the others.

        The decision stays on the device, so that nobody waits for the gradients.
        """
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        norms = gradient_norms([p.grad for p in parameters if p.grad is not None])
        norm = torch.linalg.vector_norm(norms)
        if self._clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, self._clip_norm, norm)
        self._norm_at_stage_0 = norm
        skipped = (~torch.isfinite(norm)).float()
        self._count_skipped(skipped)
        names = tuple(self._names[id(parameter)] for parameter in parameters)
        self.gradients = GradientCheck(names, ~torch.isfinite(norms), skipped)
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):
            cast(Scaled, self.optimizer).found_inf = skipped
        elif skipped.item():  # an optimizer without the fused kernel steps what has a gradient
            for parameter in parameters:
                parameter.grad = None

    def _count_skipped(self, skipped: Tensor) -> None:
        self._skipped_in_row = (self._skipped_in_row + skipped) * skipped

    def grad_norm(self) -> float | None:
        """Gradient norm of the last step before clipping; None where the step was skipped."""
        if self.stage == 0:
            norm = float(self._norm_at_stage_0)
        else:
            norm = float(self.deepspeed.get_global_grad_norm() or 0.0)
        return norm if norm < float("inf") else None  # also None for NaN

    @property
    def skipped_in_row(self) -> int:
        """Steps up to the last one that were skipped because a gradient was not finite."""
        return int(self._skipped_in_row.item())

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
