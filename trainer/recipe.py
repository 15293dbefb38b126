"""The recipe: every value of a run, typed, named and checked; the root of the configuration.

What changes results is apart from what changes only speed or bookkeeping (`results_fingerprint`):
a run folder may be continued with other values of the latter, never of the former.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.augment.config import AugmentConfig
from pipeline.config import DataConfig, EvaluationConfig, refuse_idle
from trainer.batch_plan import fitting_per_gpu
from trainer.optimization.loss import DistillConfig, LossConfig
from trainer.optimization.optim import OptimConfig
from trainer.optimization.schedule import ScheduleConfig
from trainer.optimization.token_labels import TokenLabelsConfig
from trainer.run_config import RunConfig

ModelArgument = bool | int | float | str | list[int] | list[float] | list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which network; None takes the value that the model was published with.

    It stands here and not beside `models.build`, whose import takes seconds: a mistake in a recipe
    is told before.
    """

    name: str
    """A name in timm's registry, where ours are registered too."""
    num_classes: int | None = None
    """None: as many as the data has."""
    img_size: int | None = None
    """Height and width of the images in pixels."""
    drop_path_rate: float | None = None
    """Probability that the last block is skipped (stochastic depth); it grows from 0 linearly."""
    grad_checkpointing: bool = False
    """Trade time for memory: blocks recompute their activations in the backward pass."""
    args: dict[str, ModelArgument] = field(default_factory=dict)
    """Further arguments of the model's constructor, by name: ablations, modes, `drop_rate`."""
    init_from: str = ""
    """What to start from: a run folder (its best checkpoint, the average if it has one), a file of
    weights in any layout that docs/checkpoints.md knows, or a timm name whose weights are on this
    machine; of a model with the same `args`. Another number of classes gets a fresh classifier;
    another input size resamples what is indexed by positions. Empty: fresh weights."""
    freeze: tuple[str, ...] = ()
    """Patterns of names, such as `blocks.0.*`, of weights that are not trained."""

    def __post_init__(self) -> None:
        if self.num_classes is not None and self.num_classes < 2:
            raise ValueError(f"num_classes must be >= 2, got {self.num_classes}")
        if self.drop_path_rate is not None and not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate must be in [0, 1), got {self.drop_path_rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """Images per optimizer step; gradient accumulation fills what the ranks do not hold."""

    global_size: int
    """Images per optimizer step over all ranks: what the results depend on."""
    per_gpu: int | Literal["auto"]
    """Images that one rank processes at once: what its memory must hold. `auto`: the largest that
    fits, found by trying at the start; a run that goes on keeps it where it still fits."""
    evaluation: int | None = None
    """Images per rank in evaluation; None: as `per_gpu`."""

    def __post_init__(self) -> None:
        for name in ("global_size", "per_gpu", "evaluation"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")

    @property
    def known_per_gpu(self) -> int:
        """`per_gpu` as a number.

        Raises:
            ValueError: if it is `auto`, and nobody has tried yet.
        """
        if self.per_gpu == "auto":
            raise ValueError(
                "batch.per_gpu: auto is found when a run starts; give a number here, such as"
                " batch.per_gpu=64"
            )
        return self.per_gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """Arithmetic of the forward and backward pass; master weights are float32 in any case."""

    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`bf16` is autocast (docs/gpu_speed.md says why); `fp16` casts the model and scales the loss
    dynamically (experimental: it needs a GPU, and has not run on one yet)."""
    allow_tf32: bool = False
    """Round the inputs of float32 products and convolutions to 10 bits on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroConfig:
    """How DeepSpeed shares the training state among ranks (Rajbhandari et al. 2020)."""

    stage: Literal[0, 1, 2, 3] = 0
    """0 shares nothing; 1 optimizer state; 2 gradients too; 3 weights too. A model of 100 M
    parameters needs 1.2 GB for all of them, and 0 is the fastest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Exponential moving average of the weights; evaluated beside them."""

    decay: float = 0.0
    """Share of the old average kept at each optimizer step; 0 turns it off."""
    warmup: bool = False
    """Let the share rise from 0 to `decay` as 1 - (1 + step)^(-2/3)."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")
        refuse_idle(self, ("warmup",), where=self.decay > 0, needs="decay")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that a run is made of."""

    model: ModelConfig
    batch: BatchConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    zero: ZeroConfig = field(default_factory=ZeroConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    token_labels: TokenLabelsConfig = field(default_factory=TokenLabelsConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        self._check_per_gpu()
        if self.run.compile == "none" and self.run.compile_mode != "default":
            raise ValueError(
                f"run.compile_mode {self.run.compile_mode} has no effect with run.compile none;"
                " set run.compile to blocks or model"
            )
        self._check_epochs()
        self._check_stage()
        self.token_labels.check_beside(self.augment, self.loss, self.distill)
        if self.loss.bce_threshold == 0 and self.augment.smoothing:
            raise ValueError(
                "loss.bce_threshold 0 makes every class right where augment.smoothing is on; set"
                " smoothing to 0 (DeiT III), or raise the threshold"
            )

    def _check_per_gpu(self) -> None:
        """Refuse a number that cannot be mixed in pairs, and one that results would depend on."""
        size, per_gpu = self.batch.global_size, self.batch.per_gpu
        if per_gpu == "auto":
            for is_on, what, remedy in (
                (self.augment.mix_mode == "batch", "augment.mix_mode batch", "use mix_mode pair"),
                (self.token_labels.mixes, "token_labels.mix_token", "turn it off"),
            ):
                if is_on:
                    raise ValueError(
                        f"batch.per_gpu auto does not go with {what}, whose results depend on the"
                        f" number; give one, or {remedy}"
                    )
        elif self.augment.mixes and per_gpu % 2:
            fits = fitting_per_gpu(size, per_gpu=per_gpu, world_size=1, even=True)
            raise ValueError(
                "batch.per_gpu must be even where augment.mixup or augment.cutmix is on (images are"
                f" mixed in pairs), got {per_gpu}; "
                + (f"use {fits}" if fits else f"make batch.global_size even, it is {size}")
            )

    def _check_stage(self) -> None:
        """Refuse what does not train, or trains something else, at the ZeRO stage."""
        if self.precision.dtype == "fp16" and self.zero.stage == 0:
            raise ValueError(
                "precision.dtype fp16 does not learn with zero.stage 0 (DeepSpeed never scales the"
                " loss there); use zero.stage 1"
            )
        if self.run.tuned and self.zero.stage == 3:
            raise ValueError(
                "run.tuned may compile, which zero.stage 3 does not go with; use zero.stage 1 or 2,"
                " or leave run.tuned out"
            )
        if self.run.compile != "none" and self.zero.stage == 3:
            raise ValueError(
                f"run.compile {self.run.compile} with zero.stage 3 breaks the graph at every"
                " weight; use zero.stage 1 or 2, or run.compile none"
            )

        if (what := self.optim.needs_whole_weights) and self.zero.stage > 0:
            raise ValueError(
                f"{what} looks at whole weights, and zero.stage {self.zero.stage} hands the"
                " optimizer flat pieces of many; use zero.stage 0"
            )

    def _check_epochs(self) -> None:
        """Refuse epochs of augmentation that the run never reaches."""
        total, ramp = self.schedule.total_epochs, self.augment.resolution
        for name, epoch in (
            ("mix_off_epoch", self.augment.mix_off_epoch),
            ("resolution.start_ramp", ramp.start_ramp if ramp else 0),
        ):
            if epoch >= total:
                raise ValueError(
                    f"augment.{name} {epoch} has no effect in a run of {total} epochs, which count"
                    " from 0; leave it out, or choose an earlier one"
                )

    def results_fingerprint(self) -> str:
        """Hash of all values that change results, beyond rounding.

        Not among them: where the data lies and in which format, how the global batch is shared
        among ranks, how the state is shared (ZeRO), and bookkeeping. What came with a later version
        counts where it has an effect, so that runs begun before go on.
        """
        tree = dataclasses.asdict(self)
        tree["run"] = {"seed": self.run.seed}
        if self.run.patience:
            tree["run"]["patience"] = self.run.patience
        del tree["zero"]
        if self.data.loader != "reference":
            # `host` and `dali` differ in rounding only. It was the only other one, and the default.
            tree["data"]["loader"] = "dali"
        for section, name in RESULT_FREE_FIELDS:
            del tree[section][name]
        for path, names in LATER_FIELDS.items():
            _leave_out_defaults(self, tree, path, names)
        for section in LATER_SECTIONS:
            if getattr(self, section) == getattr(self, section).__class__():
                del tree[section]
        if "token_labels" in tree:  # where they lie is no result; `data_fingerprint` has theirs
            tree["token_labels"]["file"] = bool(self.token_labels.file)
        # Both mix within what one rank holds.
        if self.augment.mix_mode == "batch" or self.token_labels.mixes:
            tree["batch"]["per_gpu"] = self.batch.per_gpu
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


RESULT_FREE_FIELDS = (
    ("data", "root"),
    ("data", "cache_dir"),
    ("data", "cache_gb"),
    ("data", "decode"),  # differs in rounding only
    ("data", "threads"),
    ("data", "max_bad_samples"),
    ("data", "timeout_s"),
    ("batch", "per_gpu"),
    ("batch", "evaluation"),
    ("model", "grad_checkpointing"),
)

LATER_FIELDS = {
    ("augment",): (
        *("auto_augment", "color_jitter", "color_jitter_prob", "force_color_jitter"),
        *("grayscale", "gaussian_blur", "erase_mode", "erase_min_count", "erase_max_count"),
        *("mix_prob", "correct_lam", "mix_off_epoch", "repeats", "resolution"),
    ),
    ("data", "crop"): ("mode", "padding", "vflip"),
    ("data",): ("mean", "std", "crop_pct", "eval_interpolation"),
    ("model",): ("args", "init_from", "freeze"),
    ("optim",): (
        *("name", "momentum", "clip_value", "clip_agc", "no_decay", "layer_decay", "backbone_lr"),
    ),
    ("schedule",): ("decay_epochs",),
    ("ema",): ("warmup",),
    ("precision",): ("allow_tf32",),
}
"""Fields that the first release did not have; with their defaults they change nothing."""


LATER_SECTIONS = ("loss", "distill", "evaluation", "token_labels")
"""Sections that the first release did not have."""


def _leave_out_defaults(
    section: object, tree: dict[str, Any], path: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Remove the fields of the section at `path` below `section` that have their defaults."""
    for part in path:
        section, tree = getattr(section, part), tree[part]
    assert dataclasses.is_dataclass(section)
    for item in dataclasses.fields(section):
        empty = item.default_factory() if callable(item.default_factory) else item.default
        if item.name in names and tree[item.name] == empty:
            del tree[item.name]
