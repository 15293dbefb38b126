"""Configuration of the data pipeline: frozen, and each section validates itself.

Errors are plain `ValueError`s without a path; `trainer.yaml_config` puts the section in front.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class CropConfig:
    """The random resized crop and flip of training images (Szegedy et al. 2015)."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image's area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's aspect ratio, width / height."""
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    """`random` draws bilinear or bicubic for each image."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale must satisfy 0 < low <= high <= 1, got {list(self.scale)}")
        low, high = self.ratio
        if not 0 < low <= high:
            raise ValueError(f"ratio must satisfy 0 < low <= high, got {list(self.ratio)}")
        if not 0 <= self.hflip <= 1:
            raise ValueError(f"hflip must be a probability in [0, 1], got {self.hflip}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where the images are and how they are read."""

    root: str = "shards/imagenet"
    """Folder that holds `train` and `val`, each in any format that `pipeline.formats` knows; or
    the URL (s3://, gs://, https://) of a folder of shards, which are read through a cache."""
    cache_dir: str = ""
    """Folder on a local disk for shards from a URL, shared by all ranks and runs of a machine;
    empty: one below $TMPDIR."""
    cache_gb: float = 50.0
    """How large that folder may grow, in 10^9 bytes; holds at least the shards of one window."""
    loader: Literal["dali", "reference"] = "dali"
    """`reference` decodes with PIL: slow, for comparison and where there is no DALI."""
    threads: int = 0
    """Decoding threads of each rank; 0 shares the machine's cores among its ranks."""
    window: int = 0
    """Shards shuffled together; 0 shuffles the whole data set, which random access allows."""
    on_error: Literal["raise", "replace"] = "raise"
    """An unreadable image ends the run, or is replaced by a gray one that counts as noted."""
    crop: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        if self.cache_gb <= 0:
            raise ValueError(f"cache_gb must be > 0 (a size in GB), got {self.cache_gb}")
        if self.cache_dir and "://" not in self.root:
            raise ValueError(
                f"cache_dir {self.cache_dir!r} has no effect with root {self.root!r}, which is not"
                " a URL; leave it out"
            )
        if self.threads < 0:
            raise ValueError(f"threads must be >= 0 (0: share the cores), got {self.threads}")
        if self.window < 0:
            raise ValueError(f"window must be >= 0 (0: the whole data set), got {self.window}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Training augmentation of whole batches. A probability or alpha of 0 turns one off."""

    erase: float = 0.0
    """Probability that a random box of an image is erased (Zhong et al. 2017)."""
    mixup: float = 0.0
    """Alpha of the Beta distribution of the mixing weight (Zhang et al. 2018)."""
    cutmix: float = 0.0
    """Alpha of the Beta distribution of the pasted share (Yun et al. 2019)."""
    switch: float = 0.5
    """Probability of cutmix where both are on."""
    mix_mode: Literal["pair", "batch"] = "pair"
    """`pair` mixes neighbours in the global order, the same on any number of ranks. `batch` draws
    one weight for each micro-batch and mixes it with its reverse, as timm does."""
    smoothing: float = 0.0
    """Label smoothing: the share of the target spread over all classes."""

    def __post_init__(self) -> None:
        for name in ("erase", "switch"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability, got {getattr(self, name)}")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name} must be >= 0 (alpha of a Beta distribution; 0 turns it off),"
                    f" got {getattr(self, name)}"
                )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """What a model expects of its input; taken from the model's `default_cfg`."""

    size: int
    """Height and width in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    """Evaluation resizes the short side to floor(size / crop_pct), then crops the centre."""
    interpolation: Literal["bilinear", "bicubic"]
    """Of the evaluation resize."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be >= 1 pixel, got {self.size}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(
                f"crop_pct must be in (0, 1] (the crop's share of the resized short side),"
                f" got {self.crop_pct}"
            )
