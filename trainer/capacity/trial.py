"""Steps of the real model on images that are none, to see what they take.

Forward, backward and the optimizer's step as in training, but without DeepSpeed, which has no
place for a run that is thrown away, and whose collectives would hang where one rank's memory is
full. What ZeRO shares among ranks is whole here, and nothing is compiled, so that a trial needs
rather more.
"""

import torch
from torch import Tensor, nn

from pipeline.batch import Batch
from trainer.job import Objective
from trainer.optimization.optim import build_optimizer
from trainer.optimization.parameter_groups import parameter_groups
from trainer.recipe import Recipe
from trainer.record.meta import RunProgress


class Trial:
    """A model that learns nothing, on one rank.

    Attributes:
        device: of the model.
        weight_bytes: of the model's weights.
        image_bytes: of an image's pixels.
    """

    def __init__(
        self, recipe: Recipe, model: nn.Module, objective: Objective, *, size: int
    ) -> None:
        """Train `model`, which is on its device, on images of `size` pixels."""
        self.device = next(model.parameters()).device
        self.weight_bytes = sum(4 * weight.numel() for weight in model.parameters())
        self.image_bytes = 3 * size**2
        self._dtype = recipe.precision.dtype
        self._model = (model.half() if self._dtype == "fp16" else model).train()
        self._objective = objective
        self._size = size
        groups = parameter_groups(model, recipe.optim)
        self._optimizer = build_optimizer(model, groups, recipe.optim)
        has_average = recipe.ema.decay > 0
        self._average = [p.detach().clone() for p in model.parameters()] if has_average else []

    def step(self, images: int) -> None:
        """Learn from that many."""
        size, device = self._size, self.device
        pixels = torch.zeros(images, size, size, 3, dtype=torch.uint8, device=device)
        batch = Batch(
            images=pixels.permute(0, 3, 1, 2),
            labels=torch.zeros(images, dtype=torch.int64, device=device),
            samples=torch.arange(images),
        )
        self._objective(self._forward, batch, RunProgress()).backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _forward(
        self, images: Tensor, mixed: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        images = images.half() if self._dtype == "fp16" else images
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._dtype == "bf16"):
            return self._model(images) if mixed is None else self._model(images, mixed=mixed)

    def fits_on_gpu(self, images: int, *, spare: float) -> bool:
        """Whether a step has room on this GPU, and leaves `spare` of its memory free."""
        torch.cuda.empty_cache()
        try:
            self.step(images)
            torch.cuda.synchronize(self.device)
            has_room = True
        except torch.OutOfMemoryError:
            has_room = False
        free, total = torch.cuda.mem_get_info(self.device)  # what torch keeps is not free
        self._optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return has_room and free >= spare * total
