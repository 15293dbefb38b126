"""What a model says of loose images, read one by one as evaluation reads them."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from models.build import TimmModel
from models.weights.description import words_for
from pipeline.config import InputSpec
from pipeline.errors import DataError, StorageError
from pipeline.images.pixels import as_rgb
from pipeline.loaders.pil_images import PIL_ERRORS
from pipeline.loaders.reference_loader import evaluation_crop
from pipeline.storage.remote import RemoteFolder
from pipeline.words import counted
from tools.cli.output_files import write_file
from tools.trained.load import TrainedModel
from tools.trained.reports import write_table
from trainer.input_spec import spec_of

_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class with its probability; `words` are WordNet's where `name` is a WordNet id."""

    name: str
    words: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of an image, the most probable first; or why nothing is."""

    image: str
    top: tuple[Guess, ...] = ()
    error: str = ""
    embedding: NDArray[np.float32] | None = None
    """(D,), what the classifier sees; None if nobody asked."""

    def as_json(self) -> dict[str, object]:
        """As `--json` prints it."""
        if self.error:
            return {"image": self.image, "error": self.error}
        guesses = [
            {"class": guess.name, "words": guess.words, "probability": round(guess.probability, 6)}
            for guess in self.top
        ]
        return {"image": self.image, "top": guesses}


class _Headed(Protocol):
    """What timm's models have, for their embeddings."""

    def forward_features(self, images: Tensor) -> Tensor: ...
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor: ...


@dataclass(frozen=True)
class _Reader:
    """Reads an image as evaluation does: (3, size, size) float32, normalised; or says why not."""

    spec: InputSpec
    mean: Tensor = field(init=False)
    std: Tensor = field(init=False)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, torch.tensor(getattr(self.spec, name))[:, None, None])

    def __call__(self, place: str) -> Tensor | str:
        try:
            with Image.open(io.BytesIO(_read(place))) as image:
                pixels = np.array(evaluation_crop(self.spec)(as_rgb(image)))
        except (StorageError, *PIL_ERRORS) as error:
            return _reason(error, place)
        return (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - self.mean) / self.std


def predict_images(
    model: TrainedModel,
    places: Sequence[str],
    *,
    top: int,
    batch_size: int,
    device: str | None,
    wants_embeddings: bool,
) -> Iterator[Answer]:
    """Answer for each of `places` (paths and URLs), in order.

    Raises:
        ValueError: if the model takes no square images, or there is no such device.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = model.model.to(target)
    names = model.description.classes or tuple(map(str, range(num_outputs(model))))
    words = words_for(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(_Reader(spec_of(model.description.input)), places)
        pairs = zip(places, read, strict=True)
        while batch := list(islice(pairs, batch_size)):
            images = [image for _, image in batch if isinstance(image, Tensor)]
            results = iter(_results(network, images, target, top, wants_embeddings))
            for place, image in batch:
                if isinstance(image, str):
                    yield Answer(image=place, error=image)
                    continue
                probabilities, outputs, embedding = next(results)
                guesses = zip(outputs.tolist(), probabilities.tolist(), strict=True)
                yield Answer(
                    image=place,
                    top=tuple(
                        Guess(name=names[i], words=words[i], probability=p) for i, p in guesses
                    ),
                    embedding=None if embedding is None else embedding.numpy(),
                )


def num_outputs(model: TrainedModel) -> int:
    """How many classes the model knows, named or not."""
    return cast("TimmModel", model.model).num_classes


@torch.inference_mode()
def _results(
    network: nn.Module, images: list[Tensor], device: torch.device, top: int, embed: bool
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Probabilities and outputs of the top classes, and the embedding, of each image."""
    if not images:
        return []
    batch = torch.stack(images).to(device)
    embeddings: Sequence[Tensor | None] = [None] * len(images)
    if embed:
        headed = cast("_Headed", network)
        features = headed.forward_features(batch)
        embeddings = list(headed.forward_head(features, pre_logits=True).float().cpu())
        logits = headed.forward_head(features)
    else:
        logits = network(batch)
    best = logits.float().softmax(1).topk(min(top, logits.shape[1]), dim=1)
    return list(zip(best.values.cpu(), best.indices.cpu(), embeddings, strict=True))


def write_files(
    answers: Sequence[Answer], *, csv: Path | None, embeddings: Path | None
) -> Iterator[str]:
    """Write what is asked for; yields a line about each."""
    if csv is not None:
        _write_csv(csv, answers)
        yield f"{csv}: predictions"
    if embeddings is not None:
        good = [answer for answer in answers if answer.embedding is not None]
        content = {
            "embeddings": np.array([answer.embedding for answer in good], np.float32),
            "images": np.array([answer.image for answer in good]),
        }
        write_file(embeddings, lambda draft: np.savez(draft, **content))
        yield f"{embeddings}: embeddings of {counted(len(good), 'image')}"


def _write_csv(path: Path, answers: Sequence[Answer]) -> None:
    places = range(max((len(answer.top) for answer in answers), default=0))
    columns = [f"{what}_{i + 1}" for i in places for what in ("class", "words", "probability")]
    rows = (
        [answer.image, answer.error]
        + [cell for g in answer.top for cell in (g.name, g.words, f"{g.probability:.6f}")]
        + [""] * (0 if answer.top else len(columns))
        for answer in answers
    )
    write_table(path, ["image", "error", *columns], rows)


def _reason(error: Exception, place: str) -> str:
    """Why there is no image; `place` is not said again, and nothing of Python's own."""
    if isinstance(error, (StorageError, DataError)):  # they name the URL, or its folder
        return str(error).removeprefix(f"{place}: ").removeprefix(f"{place.rpartition('/')[0]}: ")
    if isinstance(error, UnidentifiedImageError):
        return "cannot be read as an image: it is of no format that is known"
    if isinstance(error, OSError) and error.strerror:  # of the file or the URL
        return f"cannot be read: {error.strerror}"
    return f"cannot be read as an image: {error}"


def _read(place: str) -> bytes:
    if "://" not in place:
        return Path(place).read_bytes()
    folder, _, name = place.rpartition("/")
    return RemoteFolder(folder).read(name)
