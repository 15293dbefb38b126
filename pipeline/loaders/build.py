"""Builds the loader that a recipe asks for."""

from pipeline.augment.config import AugmentConfig
from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.source import Source
from pipeline.loaders.encoded import EncodedBatches


def build_loader(
    source: Source,
    *,
    data: DataConfig,
    augment: AugmentConfig,
    spec: InputSpec,
    batch_size: int,
    accumulation: int,
    placement: Placement,
    seed: int,
    training: bool,
) -> Loader:
    """Build the loader that `data` asks for.

    Args:
        source: the samples.
        data: which loader, how many threads, what to do about unreadable images.
        augment: what is done to training images.
        spec: the size of the images, and the evaluation resize.
        batch_size: images of one rank's micro-batch.
        accumulation: micro-batches of an optimizer step; 1 in evaluation.
        placement: rank, number of ranks and device.
        seed: of the run; keys order and draws.
        training: shuffle, draw crops and drop the tail; or else go through all samples in order,
            crop their centres and pad the last batch.

    Raises:
        ValueError: if the training set has fewer samples than one optimizer step, or if the loader
            lacks what the recipe asks for.
    """
    batches = EncodedBatches(
        source,
        data=data,
        augment=augment,
        spec=spec,
        batch_size=batch_size,
        accumulation=accumulation,
        placement=placement,
        seed=seed,
        training=training,
    )
    if data.loader == "dali":
        if training:
            _check_graph(data, augment)
        from pipeline.loaders.dali_loader import DaliLoader

        return DaliLoader(batches, spec=spec, device=placement.device)
    from pipeline.loaders.reference_loader import ReferenceLoader

    return ReferenceLoader(batches, spec=spec, device=placement.device)


def _check_graph(data: DataConfig, augment: AugmentConfig) -> None:
    """Refuse what the DALI graph does not do.

    Raises:
        ValueError: naming it.
    """
    operations = augment.auto_augment or any(augment.jitter_strengths)
    if operations or augment.grayscale or augment.gaussian_blur:
        what = "operations on single images (augment.auto_augment and the like)"
    elif data.crop.mode == "pad":
        what = "data.crop.mode 'pad'"
    elif augment.resolution:
        what = "augment.resolution"
    else:
        return
    raise ValueError(f"data.loader dali has no {what}; use data.loader reference")
