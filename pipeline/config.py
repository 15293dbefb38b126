"""Configuration of the data pipeline: frozen, and each section validates itself.

Errors are plain `ValueError`s without a path; `trainer.yaml_config` puts the section in front.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

CropMode = Literal["center", "squash", "border"]
"""timm's: how the whole of an image becomes a square for evaluation, see `EvaluationConfig`."""


def refuse_idle(section: object, names: tuple[str, ...], *, where: bool, needs: str) -> None:
    """Refuse values that would be ignored.

    Args:
        section: a configuration.
        names: fields that act in some settings only.
        where: whether they do here; if not, they must have their defaults.
        needs: the setting in which they act.

    Raises:
        ValueError: naming the field.
    """
    for field_ in dataclasses.fields(section):  # pyright: ignore[reportArgumentType] # a dataclass
        value = getattr(section, field_.name)
        if field_.name in names and not where and value != field_.default:
            raise ValueError(f"{field_.name} {value!r} has no effect without {needs}; leave it out")


@dataclass(frozen=True, kw_only=True, slots=True)
class CropConfig:
    """Which part of a training image is used, and its flips."""

    mode: Literal["rrc", "pad", "whole"] = "rrc"
    """`rrc` is the random resized crop (Szegedy et al. 2015). `whole` resizes the whole image to
    the square of the input, whatever its shape; `pad` then shifts it by up to `padding` pixels
    within black, as recipes for CIFAR crop from a padded image."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image's area (`rrc`)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's aspect ratio, width / height (`rrc`)."""
    padding: int = 4
    """Pixels of the input added on each side (`pad`)."""
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    """`random` draws bilinear or bicubic for each image."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    vflip: float = 0.0
    """Probability of a vertical flip."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale must satisfy 0 < low <= high <= 1, got {list(self.scale)}")
        low, high = self.ratio
        if not 0 < low <= high:
            raise ValueError(f"ratio must satisfy 0 < low <= high, got {list(self.ratio)}")
        for name in ("hflip", "vflip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} must be a probability in [0, 1], got {getattr(self, name)}"
                )
        if self.padding < 1:
            raise ValueError(
                f"padding must be >= 1 pixel, got {self.padding}; mode 'whole' does not shift"
            )
        refuse_idle(self, ("scale", "ratio"), where=self.mode == "rrc", needs="mode 'rrc'")
        refuse_idle(self, ("padding",), where=self.mode == "pad", needs="mode 'pad'")


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
    loader: Literal["auto", "host", "dali", "reference"] = "auto"
    """`host` decodes and augments on the CPU's cores, with the native extension; `dali` in a graph
    of DALI's, on a GPU if there is one; `reference` with PIL: slow, for comparison. `auto` is
    `dali` on a GPU and `host` on a CPU (or `dali`, where the extension is not built)."""
    decode: Literal["gpu", "cpu"] = "gpu"
    """Who decodes for the loader `dali`: its graph, on a GPU if there is one; or the CPU's cores
    with the native extension, for machines that have many, and only the augmentation is the
    graph's."""
    threads: int = 0
    """Decoding threads of each rank; 0 shares the machine's cores among its ranks."""
    window: int = 0
    """Shards shuffled together; 0 shuffles the whole data set, which random access allows."""
    on_error: Literal["raise", "replace"] = "raise"
    """An unreadable image ends the run, or is replaced by a gray one that counts as noted."""
    max_bad_samples: int = 1000
    """Different images replaced, above which a rank ends the run: not single ones are bad then."""
    timeout_s: float = 600.0
    """Seconds after which storage that has not delivered an image ends the run: a disk or server
    that hangs. A shard from a URL has to arrive within them."""
    crop: CropConfig = field(default_factory=CropConfig)
    mean: tuple[float, float, float] | None = None
    """Subtracted from pixels in 0..1; None: the model's own, as for the three below."""
    std: tuple[float, float, float] | None = None
    """What pixels are divided by then."""
    crop_pct: float | None = None
    """Evaluation resizes the short side to floor(size / crop_pct), then crops the centre; see
    `evaluation.crop_pct`, which goes before it."""
    eval_interpolation: Literal["bilinear", "bicubic"] | None = None
    """Of that resize."""

    def __post_init__(self) -> None:
        where = self.loader in ("auto", "dali")
        refuse_idle(self, ("decode",), where=where, needs="loader dali")
        if self.cache_gb <= 0:
            raise ValueError(f"cache_gb must be > 0 (a size in GB), got {self.cache_gb}")
        if self.cache_dir and "://" not in self.root:
            raise ValueError(
                f"cache_dir {self.cache_dir!r} has no effect with root {self.root!r}, which is not"
                " a URL; leave it out"
            )
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be > 0, got {list(self.std)}")
        check_crop_pct(self.crop_pct)
        refuse_idle(
            self,
            ("max_bad_samples",),
            where=self.on_error == "replace",
            needs="on_error 'replace'",
        )
        if self.max_bad_samples < 0:
            raise ValueError(f"max_bad_samples must be >= 0, got {self.max_bad_samples}")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be > 0 seconds, got {self.timeout_s}")
        if self.threads < 0:
            raise ValueError(f"threads must be >= 0 (0: share the cores), got {self.threads}")
        if self.window < 0:
            raise ValueError(f"window must be >= 0 (0: the whole data set), got {self.window}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How images are evaluated, where that differs from what the model was published with."""

    img_size: int | None = None
    """Height and width in pixels; None: the size of training, `model.img_size`. Only a model that
    takes images of several sizes can be evaluated at another one."""
    crop_pct: float | None = None
    """Share of the resized image that is used, floor(img_size / crop_pct) pixels; None:
    `data.crop_pct`, or the model's own."""
    crop_mode: CropMode | None = None
    """Which side of the image gets that size: `center` the short one, and the rest is cut off;
    `squash` both, whatever the ratio; `border` the long one, with the mean colour around the short
    one. The centre of it is used. None: the model's own, mostly `center`."""

    def __post_init__(self) -> None:
        if self.img_size is not None and self.img_size < 1:
            raise ValueError(f"img_size must be >= 1 pixel, got {self.img_size}")
        check_crop_pct(self.crop_pct)


def check_crop_pct(crop_pct: float | None) -> None:
    """Refuse what is no share.

    Raises:
        ValueError: naming it.
    """
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise ValueError(
            f"crop_pct must be in (0, 1] (the crop's share of the resized image), got {crop_pct}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """What a model expects of its input; taken from the model's `default_cfg`."""

    size: int
    """Height and width in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    """Evaluation resizes to floor(size / crop_pct) pixels, then crops the centre."""
    interpolation: Literal["bilinear", "bicubic"]
    """Of the evaluation resize."""
    crop_mode: CropMode = "center"
    """Which side of the image is resized so."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be >= 1 pixel, got {self.size}")
        check_crop_pct(self.crop_pct)

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a pixel, which is what is put around images."""
        red, green, blue = (min(255, round(255 * value)) for value in self.mean)
        return red, green, blue
