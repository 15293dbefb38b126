"""Forward, backward and optimizer step of one rank."""

from collections.abc import Sequence
from typing import Protocol, cast, overload

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.batch_plan import BatchPlan
from trainer.engine.deepspeed_config import check_trainable, deepspeed_config
from trainer.engine.gradient_check import GradientCheck, check_pieces, gradient_norms
from trainer.optimization.optim import build_optimizer
from trainer.optimization.parameter_groups import frozen_norms, parameter_groups
from trainer.recipe import Recipe


class ZeroOptimizer(Protocol):
    """What is used of DeepSpeed's sharding optimizers (stages 1 and 2, and stage 3)."""

    params_in_partition: list[list[nn.Parameter]]
    fp16_groups: list[list[nn.Parameter]]
    single_partition_of_fp32_groups: list[Tensor]
    fp32_partitioned_groups_flat: list[Tensor]
    persistent_parameters: list[nn.Parameter]
    averaged_gradients: dict[int, list[Tensor]]
    round_robin_bit16_groups: list[list[nn.Parameter]]
    round_robin_bit16_offsets: list[list[int]]
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
        weights: the parameters that learn. Collected once: walking through the modules of a model
            takes milliseconds, and a step would do so four times.
        statistics: the buffers that are saved, as BatchNorm's; numbers only, not counts.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, plan: BatchPlan) -> None:
        check_trainable(model, recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        optimizer = build_optimizer(model, parameter_groups(model, recipe.optim), recipe.optim)
        self.stage = recipe.zero.stage
        self._half = recipe.precision.dtype == "fp16"
        # Fused optimizers skip a step on the device.
        self._is_fused = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        # Otherwise DeepSpeed decides on the host, which waits for the device at each step.
        self._guards = self.stage == 0 or (self.stage < 3 and self._is_fused and not self._half)
        cuda = torch.cuda.is_available()
        self.deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            config=deepspeed_config(recipe, plan, cuda=cuda, guarded=self._guards),
        )
        self.module = model
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        # A buffer that is not saved is a function of the architecture: a mean would only round it.
        saved, named = model.state_dict().keys(), model.named_buffers()
        self.statistics = [b for name, b in named if name in saved and b.is_floating_point()]
        self.device = next(model.parameters()).device
        if self.stage == 0:
            self.deepspeed.enable_backward_allreduce = False  # `_average_gradients` does it
            self.deepspeed.zero_grad = self._drop_gradients  # DeepSpeed's walks through the modules
        self.accumulation = plan.accumulation
        self.gradients: GradientCheck | None = None
        self._names = {id(weight): name for name, weight in model.named_parameters()}
        self._clip_norm = recipe.optim.clip_norm
        self._norm = torch.zeros((), device=self.device)
        self._skipped_in_row = torch.zeros((), device=self.device if self._guards else "cpu")

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
        if is_update and self._guards:
            self._guard_weights()
        # A step that DeepSpeed skips drops its gradients, hence the references.
        pieces = self._gradients() if is_update and not self._guards else []
        self.deepspeed.step()
        if is_update and not self._guards:
            is_skipped = not self.deepspeed.was_step_applied()
            self.gradients = check_pieces(pieces) if is_skipped else None
            self._count_skipped(torch.tensor(float(is_skipped)))

    @torch.no_grad()
    def _guard_weights(self) -> None:
        """Clip, and skip a step that is not finite.

        The decision stays on the device, so that nobody waits for the gradients.
        """
        if self.stage == 0:
            self._average_gradients()
        names, gradients = zip(*self._gradients(), strict=True)
        norms = gradient_norms(gradients)
        self._norm = torch.linalg.vector_norm(norms)
        if self.stage > 0:  # this rank's share of them
            self._norm.square_()
            dist.all_reduce(self._norm)
            self._norm.sqrt_()
        if self._clip_norm > 0:
            # torch's own clipping, which knows parameters only.
            scale = torch.clamp(self._clip_norm / (self._norm + 1e-6), max=1.0)
            torch._foreach_mul_(gradients, scale)  # pyright: ignore[reportPrivateImportUsage]
        skipped = (~torch.isfinite(self._norm)).float()
        self._count_skipped(skipped)
        self.gradients = GradientCheck(names, ~torch.isfinite(norms), skipped)
        if self._is_fused:
            cast(Scaled, self.optimizer).found_inf = skipped
        elif skipped.item():  # other optimizers step what has a gradient
            self._drop_gradients()

    def _average_gradients(self) -> None:
        """Give every rank the mean of the gradients, by one collective (stage 0).

        What has no gradient gets one of zeros, as at the other stages.
        """
        for weight in self.weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        ranks = dist.get_world_size()
        if ranks == 1:
            return
        flat = torch.cat([w.grad.flatten() for w in self.weights if w.grad is not None])
        flat.mul_(1 / ranks)
        dist.all_reduce(flat)
        means = flat.split([weight.numel() for weight in self.weights])
        for weight, mean in zip(self.weights, means, strict=True):
            weight.grad = mean.view_as(weight)

    def _drop_gradients(self) -> None:
        for weight in self.weights:
            weight.grad = None

    def _gradients(self) -> list[tuple[str, Tensor]]:
        """The mean gradients over ranks and micro-batches, each with the name of its weight.

        Above stage 0 they are this rank's share, and what DeepSpeed fills it up with has no name.
        """
        if self.stage == 0:
            return [(self._names[id(w)], w.grad) for w in self.weights if w.grad is not None]
        zero, named = self.zero, []
        for number, group in enumerate(
            zero.fp16_groups if self.stage == 3 else zero.params_in_partition
        ):
            weights = iter(group)  # runs out on a rank without a piece of the group
            for piece in zero.averaged_gradients[number]:
                is_filling = getattr(piece, "_zero_padding", False)
                weight = None if is_filling else next(weights, None)
                named.append(("" if weight is None else self._names[id(weight)], piece))
        return named

    def _count_skipped(self, skipped: Tensor) -> None:
        self._skipped_in_row = (self._skipped_in_row + skipped) * skipped

    def grad_norm(self) -> float | None:
        """Gradient norm of the last step before clipping; None where the step was skipped."""
        norm = float(self._norm if self._guards else self.deepspeed.get_global_grad_norm() or 0.0)
        return norm if norm < float("inf") else None  # also None for NaN

    @property
    def skipped_in_row(self) -> int:
        """Steps up to the last one that were skipped because a gradient was not finite."""
        return int(self._skipped_in_row.item())

    def average_buffers(self) -> None:
        """Give every rank the mean of the BatchNorm statistics, which DeepSpeed lets drift."""
        average_over_ranks(self.statistics)


@torch.no_grad()
def average_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Give every rank the mean of each of `tensors`, by one collective for all of them."""
    if dist.get_world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat.div_(dist.get_world_size())
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))
