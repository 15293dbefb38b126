"""Builds the loader that a recipe asks for."""

from pipeline.batch import Loader, Placement
from pipeline.config import DataConfig, InputSpec
from pipeline.formats.source import Source
from pipeline.loaders.encoded import EncodedBatches


def build_loader(
    source: Source,
    *,
    data: DataConfig,
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
        spec: the size of the images, and the evaluation resize.
        batch_size: images of one rank's micro-batch.
        accumulation: micro-batches of an optimizer step; 1 in evaluation.
        placement: rank, number of ranks and device.
        seed: of the run; keys order and draws.
        training: shuffle, draw crops and drop the tail; or else go through all samples in order,
            crop their centres and pad the last batch.

    Raises:
        ValueError: if the training set has fewer samples than one optimizer step.
    """
    batches = EncodedBatches(
        source,
        data=data,
        batch_size=batch_size,
        accumulation=accumulation,
        placement=placement,
        seed=seed,
        training=training,
    )
    if data.loader == "dali":
        from pipeline.loaders.dali_loader import DaliLoader

        return DaliLoader(batches, spec=spec, device=placement.device)
    from pipeline.loaders.reference_loader import ReferenceLoader

    return ReferenceLoader(batches, spec=spec, device=placement.device)
