"""Checkpoints in the authors' layouts, of the weights for which their outputs are known."""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import torch

import models

DATA = Path(__file__).parents[1] / "models" / "parity"
KEYS = {
    name: shapes
    for path in sorted(DATA.glob("keys*.json"))
    for name, shapes in json.loads(path.read_text(encoding="utf-8")).items()
}
LOGITS = {
    name: logits
    for path in sorted(DATA.glob("logits*.npz"))
    for name, logits in np.load(path).items()
}

DEITS = ("amixer", "gfnet", "CycleMLP", "hire", "asmlp", "smlpnet")
"""What their names begin with whose training scripts are DeiT's or Swin's."""

INTEGER = ("num_batches_tracked", "relative_position_index")


def our_name(name):
    """The registered name of a published variant; the data set is a matter of arguments."""
    name, _ = models.resolve(name.partition("@")[0])
    name, _, data = name.partition("_256_8_")
    return name + {"": "", "cifar10": "_256_8", "food101": "_256_8_ks7_p7"}[data]


def fill(key, shape):
    """Deterministic float64 values of ordinary size for one entry of a state_dict."""
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        return 0.5 + np.abs(z)
    if key.endswith(("running_mean", "bias")):
        return 0.1 * z
    if len(shape) == 1:
        return 1.0 + 0.1 * z
    return z / np.sqrt(np.prod(shape[1:]))


def images(size, batch=2):
    """The images (batch, 3, size, size) whose logits are known at the published size."""
    pixels = np.random.default_rng(2022).standard_normal((2, 3, size, size))
    return torch.from_numpy(pixels[:batch])


def state_dict(name):
    """The authors' state_dict of a published variant, with their buffers, in float64.

    A name "X@res0.1" is X with the last layers of its residual branches multiplied by 0.1: where
    nothing but BatchNorm with statistics at random is between them, branches grow without bound.
    """
    weights = {}
    factor = float(name.partition("@res")[2] or 1)
    for key, shape in KEYS[name].items():
        if key.endswith(INTEGER):
            weights[key] = torch.zeros(shape, dtype=torch.int64)
        else:
            weights[key] = torch.from_numpy(np.asarray(fill(key, shape)))
        if factor != 1 and key.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            weights[key] *= factor
    return weights


def checkpoint(name, weights=None):
    """What the authors' training script saves for a published variant."""
    weights = state_dict(name) if weights is None else weights
    args = argparse.Namespace(model=name, lr=2e-3, drop_path=0.1, mean=(0.485, 0.456, 0.406))
    if name.startswith("convmlp"):
        return weights
    if name.startswith(DEITS):
        return {"model": weights, "optimizer": {}, "epoch": 299, "scaler": {}, "args": args}
    if name.startswith("dynamixer"):
        raw = {key: torch.zeros(()).expand(value.shape) for key, value in weights.items()}
        averaged = {f"module.{key}": value for key, value in weights.items()}
        saved = {"state_dict": raw, "state_dict_ema": averaged}
    else:
        saved = {"state_dict": weights}
    return {"epoch": 299, "arch": name, "optimizer": {}, "args": args, "metric": 81.5, **saved}
