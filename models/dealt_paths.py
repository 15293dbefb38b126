"""Drop path with draws from outside: which samples skip a block follows the samples themselves.

torch's generator ties a mask to the rank and to the place in the batch. Here each drop path of a
model, ours or timm's, reads draws that are dealt before each forward pass, so that they can be a
function of the sample. They are in a buffer: compiled graphs, recomputed activations and CUDA
graphs all read the same ones.
"""

from collections.abc import Callable

import torch
from timm.layers.drop import DropPath as TimmDropPath
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from models.build import input_config
from models.layers.basic import DropPath

_PROBE = 2
"""Images of the pass that counts."""


class DealtPaths:
    """All drop paths of a model that act on whole samples.

    Attributes:
        count: draws that a sample takes in a forward pass.
        left_out: names of drop paths that act on something else, such as the patches of an image;
            they draw from torch's generator.
    """

    def __init__(self, model: nn.Module) -> None:
        """Put ours in the place of timm's, and count their calls; before an engine takes `model`.

        The law of the draws is the same; names in the state_dict stay.
        """
        _replace_timms(model)
        paths = {n: m for n, m in model.named_modules() if isinstance(m, DropPath)}
        calls = _calls(model, paths) if paths else {}
        whole = {n: c for n, c in calls.items() if c and set(c) == {_PROBE}}
        self._paths = [(paths[name], len(sizes)) for name, sizes in whole.items()]
        self._dealt = torch.empty(0, 0, dtype=torch.int32)
        self.count = sum(calls for _, calls in self._paths)
        self.left_out = sorted(name for name, sizes in calls.items() if sizes and name not in whole)

    def deal(self, draws: Tensor) -> None:
        """Give the next forward pass its draws.

        Args:
            draws: (count, B) int32 on the model's device, uniform below `layers.basic.DRAWS`.

        Raises:
            RuntimeError: if the pass before asked for another number of draws than was counted.
        """
        if any(path.turn for path, _ in self._paths):
            raise RuntimeError(
                "drop path was asked for another number of draws in training than in evaluation;"
                " set model.drop_path_rate to 0 for this model"
            )
        if self._dealt.shape == draws.shape:
            self._dealt.copy_(draws)  # compiled graphs know this place
            return
        self._dealt = draws.clone()
        start = 0
        for path, calls in self._paths:
            path.dealt = self._dealt[start : start + calls]
            start += calls


def _replace_timms(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, TimmDropPath):
                ours = DropPath(child.drop_prob, scale_by_keep=child.scale_by_keep)
                setattr(module, name, ours.train(child.training))


def _calls(model: nn.Module, paths: dict[str, DropPath]) -> dict[str, list[int]]:
    """How many rows each drop path gets at each of its calls in a forward pass."""
    calls: dict[str, list[int]] = {name: [] for name in paths}

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: calls[name].append(inputs[0].shape[0])

    hooks = [path.register_forward_pre_hook(counting(name)) for name, path in paths.items()]
    modes = [(module, module.training) for module in model.modules()]
    dtype = next(model.parameters()).dtype
    images = torch.zeros(_PROBE, 3, *input_config(model).size, dtype=dtype)
    try:  # shapes alone: nothing is computed, and nothing in the model changes
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
            model.eval()(fake.from_tensor(images))
    finally:
        for module, mode in modes:
            module.training = mode
        for hook in hooks:
            hook.remove()
    return calls
