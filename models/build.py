"""From a name and a few settings to a model, for ours and for every model of timm."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import group_parameters
from timm.models._manipulate import MATCH_PREV_GROUP
from timm.optim._param_groups import auto_group_layers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from models.constructor import Argument, check_arguments
from models.layers.arguments import as_pair, check_rate
from models.layers.classifier import Classifier

BLOCK_LISTS = (nn.Sequential, nn.ModuleList)


class TimmModel(Protocol):
    """What timm's classifiers have beyond nn.Module and this file uses."""

    pretrained_cfg: dict[str, object]
    num_classes: int

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh classifier on."""
        ...

    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """The last linear layer; two where a model was distilled through a token of its own."""
        ...

    def group_matcher(self) -> dict[str, object]:
        """Patterns that sort parameter names into layers."""
        ...

    def set_grad_checkpointing(self, enable: bool) -> None:
        """Recompute activations in the backward pass."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """How a model wants its images: (height, width); mean and std of pixels in 0..1."""

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    interpolation: str
    crop_mode: str = "center"


def build_model(
    name: str,
    *,
    num_classes: int,
    img_size: int | None = None,
    drop_path_rate: float | None = None,
    grad_checkpointing: bool = False,
    arguments: Mapping[str, Argument] | None = None,
) -> nn.Module:
    """A freshly initialised model.

    Args:
        name: one of `models.names()` or of `timm.list_models()`.
        num_classes: outputs of the classifier.
        img_size: height and width of the input in pixels; None is the model's own.
        drop_path_rate: stochastic depth of the last block; None is the model's own.
        grad_checkpointing: recompute activations in the backward pass to save memory.
        arguments: what else the model's constructor takes.

    Raises:
        ValueError: if there is no such model, or it cannot do what is asked.
    """
    if unknown := unknown_variant(name):
        raise ValueError(f"model.name: {unknown}")
    if num_classes < 1:
        raise ValueError(f"model.num_classes: must be at least 1, got {num_classes}")
    if drop_path_rate is not None:
        check_rate("model.drop_path_rate", drop_path_rate)
    check_arguments(name, arguments or {})
    size = None if img_size is None else as_pair(img_size)
    given = constructor_arguments(name, img_size=img_size, drop_path_rate=drop_path_rate)
    create = cast("Callable[..., nn.Module]", timm.create_model)
    try:
        model = create(name, num_classes=num_classes, **given, **(arguments or {}))
    except TypeError as error:
        raise _refused_keyword(name, error) from error
    if size is not None:
        take_size(model, size)
    if grad_checkpointing:
        _checkpoint_gradients(name, model)
    return model


def constructor_arguments(
    name: str, *, img_size: int | None, drop_path_rate: float | None
) -> dict[str, int | float]:
    """What the constructor of `name` is given beside the number of classes."""
    size = img_size if takes_size(name) else None
    wanted = {"img_size": size, "drop_path_rate": drop_path_rate}
    return {key: value for key, value in wanted.items() if value is not None}


def take_size(model: nn.Module, size: tuple[int, int]) -> None:
    """Say in the model's configuration that its images are of `size`, (height, width).

    Raises:
        ValueError: if nothing is left of them after the first convolution.
    """
    _check_size(model, *size)
    config = cast("TimmModel", model).pretrained_cfg
    channels, *_ = cast("tuple[int, int, int]", config["input_size"])
    config["input_size"] = (channels, *size)


def check_classifies(model: nn.Module, size: int) -> None:
    """See that `model`, as it stands, takes images of `size` x `size` pixels.

    Raises:
        ValueError: with what keeps it from that.
    """
    if isinstance(model, Classifier):
        model.check_size(size, size)
        return
    was_training = model.training
    try:  # shapes alone: nothing is computed
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            device = next(model.parameters()).device
            model.eval()(torch.empty(1, 3, size, size, device=device))
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    finally:
        model.train(was_training)


def _check_size(model: nn.Module, height: int, width: int) -> None:
    if isinstance(model, Classifier):
        model.check_size(height, width)
        return
    stem = cast("TimmModel", model).pretrained_cfg.get("first_conv")
    conv = model.get_submodule(stem) if isinstance(stem, str) else None
    if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str):
        return
    least = [k - 2 * p for k, p in zip(conv.kernel_size, conv.padding, strict=True)]
    if height < least[0] or width < least[1]:
        raise ValueError(
            f"img_size {height}x{width} is too small: the first convolution of "
            f"{type(model).__name__} needs at least {least[0]}x{least[1]}"
        )


def unknown_variant(name: str) -> str | None:
    """What to tell a user who asked for a model that does not exist; None if it does."""
    if timm.is_model(name):
        return None
    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, close))}?" if close else "docs/model_zoo.md lists all"
    )
    return f"unknown variant {name!r}; {hint}"


def input_config(model: nn.Module) -> InputConfig:
    """The input that `model` was built for, from timm's description of it."""
    config = resolve_model_data_config(model)
    return InputConfig(
        size=tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
        crop_mode=config["crop_mode"],
    )


def compile_in_place(model: nn.Module, *, blocks: bool, mode: str = "default") -> None:
    """Compile at the first call. Names in the state_dict stay as they are.

    Args:
        model: one of ours or of timm's, after the engine has taken it.
        blocks: compile block by block: as fast, and the compiler sees each kind of block once
            instead of each block; otherwise the whole model is one graph.
        mode: torch.compile's.
    """
    # Each kind of block is one graph for training and one for evaluation, in up to four widths; the
    # default of 8 graphs per function would leave the rest uncompiled in silence.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    for module in _blocks(model) if blocks else [model]:
        # Static: the grids of a pyramid's stages would make height and width symbols.
        module.compile(dynamic=False, mode=mode)


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The paths of the model's classifiers: mostly one, two in models as `deit_*_distilled`."""
    names = cast("str | tuple[str, ...]", cast("TimmModel", model).pretrained_cfg["classifier"])
    return (names,) if isinstance(names, str) else names


def classifier_weights(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the model's classifiers; empty where it has none."""
    found = cast("TimmModel", model).get_classifier()
    modules = found if isinstance(found, tuple) else (found,)
    return [weight for module in modules for weight in module.parameters()]


def layer_ids(model: nn.Module) -> dict[str, int]:
    """The layer of each parameter by name, from 0 at the stem; the classifier is in the last."""
    if not hasattr(model, "group_matcher"):  # timm then takes groups of 12 parameters
        return cast("dict[str, int]", auto_group_layers(model))
    matcher = cast("TimmModel", model).group_matcher()
    return cast("dict[str, int]", group_parameters(model, matcher, reverse=True))


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks: members of the innermost lists in which `group_matcher` finds layers."""
    matcher = {
        layer: [spec for spec in specs if spec[1] != MATCH_PREV_GROUP]  # such as the last norm
        if isinstance(specs, (list, tuple))
        else specs
        for layer, specs in getattr(model, "group_matcher", dict)().items()
    }
    paths = [_common_path(names) for names in group_parameters(model, matcher).values()]
    # A layer is a member of a list; where it is several members, their common path is the list.
    lists = _lists(model, [path.rpartition(".")[0] for path in paths]) or _lists(model, paths)
    innermost = [path for path in lists if not any(p.startswith(f"{path}.") for p in lists)]
    blocks = [
        child
        for path in innermost
        for child in model.get_submodule(path).children()
        if list(child.children())
    ]
    if not blocks:
        raise ValueError(
            f"run.compile blocks: {type(model).__name__} names no repeated blocks; use model"
        )
    return blocks


def _lists(model: nn.Module, paths: list[str]) -> list[str]:
    distinct = dict.fromkeys(paths)  # in their order
    return [path for path in distinct if isinstance(model.get_submodule(path), BLOCK_LISTS)]


def _common_path(parameters: list[str]) -> str:
    modules = [name.split(".")[:-1] for name in parameters]
    shared = []
    for parts in zip(*modules, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def published_with(name: str) -> tuple[int, int]:
    """Pixels of a side of the images, and classes, that `name` was published with.

    Raises:
        ValueError: if there is no such model, or its images are not square.
    """
    if unknown := unknown_variant(name):
        raise ValueError(unknown)
    config = timm.get_pretrained_cfg(name)
    assert config is not None  # what is registered has one
    _, height, width = config.input_size
    if height != width:
        raise ValueError(f"{name} takes {height}x{width} images; only square ones are made")
    return width, config.num_classes


def takes_size(name: str) -> bool:
    """Whether the constructor takes `img_size`; other models accept any size as they are."""
    config = timm.get_pretrained_cfg(name)
    return config is not None and config.fixed_input_size


def _refused_keyword(name: str, error: TypeError) -> Exception:
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return error
    what = {"drop_path_rate": "has no drop path", "img_size": "has a fixed input size"}
    key = found[1]
    return ValueError(f"model.{key}: {name} {what.get(key, f'takes no {key}')}; leave it out")


def _checkpoint_gradients(name: str, model: nn.Module) -> None:
    try:
        cast("TimmModel", model).set_grad_checkpointing(enable=True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"model.grad_checkpointing: {name} cannot recompute its activations; set it to false"
        ) from error
