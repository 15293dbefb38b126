"""What a model says of each place of an image: its classifier on the features before pooling.

A place is handed to the head as a whole image of one place would be. The mean over one place is the
place itself, so that pooling, norms, hidden layers and dropout of any head are done as they are.
"""

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from models.lvvit import LVViT
from models.weights.checkpoint_files import WeightsError

_REMEDY = "use a model that averages its features, such as a convolutional one"


class _Classifier(Protocol):
    num_features: int

    def forward_features(self, images: Tensor) -> Tensor: ...

    def forward_head(self, x: Tensor) -> Tensor: ...


@torch.inference_mode()
def dense_logits(model: nn.Module, images: Tensor) -> Tensor:
    """(B, K, H, W) logits of (B, 3, height, width) images, in float32.

    Raises:
        WeightsError: if the model's classifier cannot be asked about single places.
    """
    if isinstance(model, LVViT) and model.aux_head is not None:
        nothing = torch.zeros(model.grid, dtype=torch.bool, device=images.device)
        tokens = cast("tuple[Tensor, Tensor]", model(images, mixed=nothing))[1]
        return tokens.float().unflatten(1, model.grid).permute(0, 3, 1, 2)
    name = type(model).__name__
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise WeightsError(f"{name} has no features before its classifier; {_REMEDY}")
    classifier = cast("_Classifier", model)
    features = classifier.forward_features(images)
    places, grid = _places(model, features)
    try:
        logits = classifier.forward_head(places)
    except (RuntimeError, IndexError, ValueError, AssertionError) as error:
        raise WeightsError(
            f"the classifier of {name} does not take single places of its features ({error});"
            f" {_REMEDY}"
        ) from error
    if logits.ndim != 2 or len(logits) != len(places):
        raise WeightsError(
            f"the classifier of {name} gives {tuple(logits.shape)} for {len(places)} places of its"
            f" features, and not a row for each; {_REMEDY}"
        )
    return logits.float().reshape(len(images), *grid, -1).permute(0, 3, 1, 2)


def _places(model: nn.Module, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Each place as the features of an image of its own, and rows and columns of the places."""
    name, width = type(model).__name__, cast("_Classifier", model).num_features
    if features.ndim == 3:
        return _tokens(model, features)
    if features.ndim != 4 or width not in (features.shape[1], features.shape[3]):
        raise WeightsError(
            f"the features of {name} are of shape {tuple(features.shape)}, which is no map of"
            f" {width} channels; {_REMEDY}"
        )
    channels_first = getattr(model, "output_fmt", "NCHW") == "NCHW" and features.shape[1] == width
    if channels_first:
        _, C, H, W = features.shape
        return features.permute(0, 2, 3, 1).reshape(-1, C, 1, 1), (H, W)
    _, H, W, C = features.shape
    return features.reshape(-1, 1, 1, C), (H, W)


def _tokens(model: nn.Module, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
    name = type(model).__name__
    if getattr(model, "global_pool", "avg") not in ("avg", "avgmax", "max"):
        raise WeightsError(
            f"the classifier of {name} reads its class token, and was never shown another one;"
            f" {_REMEDY}"
        )
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    B, count, C = features.shape[0], features.shape[1] - prefix, features.shape[2]
    side = math.isqrt(count)
    if side**2 != count:
        raise WeightsError(f"the {count} tokens of {name} are no square grid; {_REMEDY}")
    before = features[:, None, :prefix].expand(-1, count, -1, -1)
    places = torch.cat([before, features[:, prefix:, None]], dim=2)
    return places.reshape(B * count, prefix + 1, C), (side, side)
