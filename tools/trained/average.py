"""The mean of several files of weights, in float64, one file in memory at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.weights.checkpoint_files import Weights, WeightsError, read_weights
from pipeline.words import counted
from tools.cli.output_files import write_file
from trainer.events import Evaluated
from trainer.record import checkpoint
from trainer.record.meta import CheckpointError


def files_of_run(run: Path, *, best: int | None, raw: bool) -> list[Path]:
    """The weights of a run's whole checkpoints, oldest first.

    Args:
        run: its folder.
        best: take only so many, those with the highest top-1, the later of equals.
        raw: the weights themselves, where there is an average too.

    Raises:
        WeightsError: if there are not as many.
    """
    folders = sorted((run / "checkpoints").glob("step_*[0-9]"))
    try:
        if best is not None:
            top1 = {path: result.top1 for path in folders if (result := _evaluated(path))}
            folders = sorted(sorted(top1, key=lambda path: (top1[path], path))[-best:])
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{run}: a checkpoint cannot be read: {error}") from error
    if len(folders) < (best or 2):
        kind = "evaluated checkpoint" if best else "checkpoint"
        wanted = f"--best {best} asks for more" if best else "a mean needs two"
        raise WeightsError(
            f"{run}: there {'is' if len(folders) == 1 else 'are'} {counted(len(folders), kind)},"
            f" and {wanted}; run.save_every and run.keep_checkpoints say how many a run leaves"
        )
    averaged = not raw and all((path / "ema.safetensors").exists() for path in folders)
    name = "ema.safetensors" if averaged else "model.safetensors"
    return [path / name for path in folders]


def write_average(files: Sequence[Path], output: Path) -> None:
    """Write the mean; the metadata is that of the last file.

    Raises:
        WeightsError: if they are not of one model.
    """
    mean = average(files)
    metadata = _metadata(files[-1]) | {"format": "pt", "averaged": str(len(files))}
    write_file(output, lambda draft: save_file(mean, draft, metadata))


def average(files: Sequence[Path]) -> Weights:
    """The mean of each weight; counters, which are whole numbers, are the last file's.

    Raises:
        WeightsError: naming the file and the weights that another file does not have.
    """
    total: dict[str, Tensor] = {}
    last: Weights = {}
    metadata = _metadata(files[0])
    for file in files:
        _check_described_alike(metadata, _metadata(file), file, files[0])
        weights = read_weights(file).weights
        if last:
            _check_alike(last, weights, file, files[0])
        for key, weight in weights.items():
            total[key] = total[key] + weight.double() if key in total else weight.double()
        last = weights
    return {
        key: (total[key] / len(files)).to(weight.dtype) if weight.is_floating_point() else weight
        for key, weight in last.items()
    }


def _metadata(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: cannot be read: {error}") from error


def _check_described_alike(
    expected: Mapping[str, str], found: Mapping[str, str], file: Path, first: Path
) -> None:
    """Weights of the same shapes may still be of other models, or of other classes."""
    another = "is of another model than"
    for key, differs in (
        ("model", another),
        ("arguments", another),
        ("classes", "has other classes than"),
    ):
        said, other = found.get(key), expected.get(key)
        if None not in (said, other) and said != other:
            shown = f" ({said}, {other})" if key == "model" else ""
            raise WeightsError(f"{file}: {differs} {first}{shown}; average each apart")


def _check_alike(expected: Weights, found: Weights, file: Path, first: Path) -> None:
    shapes = {key: weight.shape for key, weight in expected.items()}
    others = {key: weight.shape for key, weight in found.items()}
    if odd := sorted(key for key in shapes | others if shapes.get(key) != others.get(key)):
        raise WeightsError(
            f"{file}: is of another model than {first}: {counted(len(odd), 'weight')} of other"
            f" shapes, or in one of them alone, such as {odd[0]}; average each apart"
        )


def _evaluated(path: Path) -> Evaluated | None:
    return checkpoint.read_meta(path).evaluated
