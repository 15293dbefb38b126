"""All peers by name, each in the module that imports what it needs."""

import importlib

from benchmarks.loader_peers.peer import Peer, UnavailableError

MODULES = {
    "ours": (
        "ours: host, shards",
        "ours: dali, shards",
        "ours: reference, shards",
        "ours: host, shards 400 px",
        "ours: host, shards, RandAugment",
        "ours: dali, shards, RandAugment",
        "ours: host, evaluation",
    ),
    "limit": ("limit", "limit, 400 px", "limit, evaluation"),
    "dali": ("DALI file reader", "DALI file reader, RandAugment", "DALI file reader, evaluation"),
    "timm_loader": ("timm, uint8", "timm, uint8, RandAugment", "timm, evaluation"),
    "torchvision_loader": ("torchvision v2, uint8", "torchvision recipe, float"),
    "web_dataset": ("webdataset",),
    "ffcv_file": ("FFCV 400 px",),
    "spdl_threads": ("SPDL",),
}
NAMES = tuple(name for names in MODULES.values() for name in names)


def peer(name: str) -> Peer:
    """Return the peer of that name.

    Raises:
        UnavailableError: if what it needs is not installed.
    """
    (module,) = (module for module, names in MODULES.items() if name in names)
    try:
        return importlib.import_module(f"benchmarks.loader_peers.{module}").PEERS[name]
    except ImportError as error:
        raise UnavailableError(f"not installed: {error}") from error
