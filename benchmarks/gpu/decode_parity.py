"""The same JPEGs through every decoder: pixels of DALI on a GPU and on the CPU, ours, and PIL.

    python -m benchmarks.gpu.decode_parity --output OUT/decode_parity.json

Photographs in every kind of JPEG that ImageNet has, through the loaders themselves, with the crops
of training and of evaluation. Differences are of 8-bit values, from PIL. "DALI's own upsampling" is
what the GPU does unless it is asked for libjpeg's. Of damaged files, whether each loader refuses
them, and with which words.

On a CPU there is no column for the GPU, and there are fewer photographs.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.gpu.frame.experiment import Case, Result, main
from benchmarks.gpu.frame.pictures import Picture, jpeg, photographs
from pipeline.augment.config import AugmentConfig
from pipeline.batch import Placement
from pipeline.config import CropConfig, DataConfig, InputSpec
from pipeline.errors import DataError
from pipeline.formats.open import open_source
from pipeline.loaders import dali_graph
from pipeline.loaders.build import build_loader

_MEAN = (0.5, 0.5, 0.5)
SPEC = InputSpec(size=224, mean=_MEAN, std=_MEAN, crop_pct=0.875, interpolation="bicubic")
_EPOCHS = 2
"""Of training: each draws other crops of the same photographs."""
_CUTS_PER_PHOTOGRAPH = 4
_ORIENTATION, _TURNED = 0x0112, 6
"""EXIF's tag, and a quarter turn."""


def _turned(picture: Picture) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    return jpeg(picture, exif=exif)


KINDS: dict[str, Callable[[Picture], bytes]] = {
    "4:2:0": partial(jpeg, subsampling=2),
    "4:2:2": partial(jpeg, subsampling=1),
    "4:4:4": partial(jpeg, subsampling=0),
    "4:2:0, progressive": partial(jpeg, subsampling=2, progressive=True),
    "4:2:0, quality 40": partial(jpeg, subsampling=2, quality=40),
    "gray": partial(jpeg, mode="L"),
    "CMYK": partial(jpeg, mode="CMYK"),
    "turned by EXIF": _turned,
}
DAMAGED: dict[str, Callable[[Picture], bytes]] = {
    "cut off": lambda picture: jpeg(picture)[: len(jpeg(picture)) * 6 // 10],
    "ends after its header": lambda picture: jpeg(picture)[:700],
    "bytes overwritten": lambda picture: _overwritten(jpeg(picture)),
}
SPLITS = ("training", "evaluation")


def _overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


class Decoder(NamedTuple):
    """A loader, where it decodes, and whether it is asked for libjpeg's upsampling."""

    loader: Literal["host", "dali", "reference"]
    on_gpu: bool = False
    fancy: bool = True


DECODERS = {
    "DALI, GPU": Decoder("dali", on_gpu=True),
    "DALI's own upsampling, GPU": Decoder("dali", on_gpu=True, fancy=False),
    "DALI, CPU": Decoder("dali"),
    "host": Decoder("host"),
}
_PIL = Decoder("reference")


def decoders(device: torch.device) -> dict[str, Decoder]:
    """Return those that there are on this machine."""
    has_host = importlib.util.find_spec("millstream_native") is not None
    return {
        name: decoder
        for name, decoder in DECODERS.items()
        if (device.type == "cuda" or not decoder.on_gpu) and (has_host or decoder.loader != "host")
    }


def cuts(pictures: dict[str, Picture], count: int) -> list[Picture]:
    """Return `count` parts of each photograph, of odd and even sizes."""
    rng, parts = np.random.default_rng(0), []
    for picture in pictures.values():
        for _ in range(count):
            height, width = (int(rng.integers(side // 2, side + 1)) for side in picture.shape[:2])
            top = int(rng.integers(picture.shape[0] - height + 1))
            left = int(rng.integers(picture.shape[1] - width + 1))
            parts.append(picture[top : top + height, left : left + width])
    return parts


@contextmanager
def upsampling(*, fancy: bool) -> Iterator[None]:
    """Let DALI's graphs that are built meanwhile upsample chroma as libjpeg, or as DALI does."""
    decode = dali_graph.fn.decoders.image_slice

    def decoded(*inputs: Any, **options: Any) -> Any:
        return decode(*inputs, **{**options, "jpeg_fancy_upsampling": fancy})

    with mock.patch.object(dali_graph.fn.decoders, "image_slice", decoded):
        yield


def pixels(
    folder: Path, decoder: Decoder, device: torch.device, *, training: bool
) -> NDArray[np.int16]:
    """Return (N, 3, size, size), epoch after epoch, what a loader makes of a folder.

    Raises:
        DataError: if it refuses an image.
    """
    source = open_source(folder)
    with upsampling(fancy=decoder.fancy):
        loader = build_loader(
            source,
            data=DataConfig(
                loader=decoder.loader, threads=2, crop=CropConfig(interpolation="random")
            ),
            augment=AugmentConfig(),
            spec=SPEC,
            batch_size=len(source),
            accumulation=1,
            placement=Placement(device=device if decoder.on_gpu else torch.device("cpu")),
            seed=0,
            training=training,
        )
    with closing(loader):
        batches = [
            batch.images.cpu().numpy().astype(np.int16)
            for epoch in range(_EPOCHS if training else 1)
            for batch in loader.batches(epoch)
        ]
    return np.concatenate(batches)


def compared(pictures: list[Picture], kind: str, split: str, device: torch.device) -> Result:
    """Return how far each decoder is from PIL, for files of one kind."""
    training = split == "training"
    with tempfile.TemporaryDirectory() as scratch:
        folder = written(pictures, KINDS[kind], Path(scratch))
        exact = pixels(folder, _PIL, device, training=training)
        found = {
            name: _outcome(partial(pixels, folder, decoder, device, training=training), exact)
            for name, decoder in decoders(device).items()
        }
    return {"images": len(exact), "decoders": found}


def _outcome(decode: Callable[[], NDArray[np.int16]], exact: NDArray[np.int16]) -> Result:
    try:
        differences = np.abs(decode() - exact)
    except DataError as error:
        return {"refused": str(error)}
    return {
        "mean": float(differences.mean()),
        "max": int(differences.max()),
        "share_above_2": float((differences > 2).mean()),
    }


def refusals(picture: Picture, kind: str, device: torch.device) -> Result:
    """Return what each loader says of a damaged file; None where it makes an image of it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = written([picture], DAMAGED[kind], Path(scratch))
        said: dict[str, str | None] = {}
        for name, decoder in {"PIL": _PIL, **decoders(device)}.items():
            said[name] = None
            try:
                pixels(folder, decoder, device, training=False)
            except DataError as error:
                said[name] = str(error).replace(scratch, "")
    return {"refusals": said}


def written(pictures: list[Picture], encode: Callable[[Picture], bytes], folder: Path) -> Path:
    """Write pictures as files of one class below `folder`; return that."""
    (folder / "class").mkdir()
    for number, picture in enumerate(pictures):
        (folder / "class" / f"{number:04d}.jpg").write_bytes(encode(picture))
    return folder


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """Return a case a kind of file and a split, and one a kind of damage."""
    on_gpu = arguments.device.type == "cuda"
    every = photographs()
    chosen = every if on_gpu else dict(list(every.items())[:2])
    pictures = cuts(chosen, _CUTS_PER_PHOTOGRAPH if on_gpu else 1)
    sound = {
        f"{kind}, {split}": partial(compared, pictures, kind, split, arguments.device)
        for kind in KINDS
        for split in SPLITS
    }
    damaged = {kind: partial(refusals, pictures[0], kind, arguments.device) for kind in DAMAGED}
    return {**sound, **damaged}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, cases))
