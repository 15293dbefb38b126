"""Photographs to decode and to train on: those of skimage's and sklearn's wheels, or one's own.

One's own lie in class folders below `images/` of the folder that `--data` names; ImageNet's are
what loaders meet. Those of the wheels are re-encoded as large as ImageNet's are on average.
"""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

_CLASSES = 4
_SIZE = (375, 500)
"""Height and width of generated photographs: ImageNet's in the middle."""
_QUALITY = 92
_QUALITY_FOR_SIZE = 98
"""Photographs of that size take 100 KB then, as ImageNet's do."""


def photographs() -> dict[str, Picture]:
    """Return real photographs by name, (H, W, 3)."""
    import skimage.data  # not where one has one's own
    from sklearn.datasets import load_sample_images

    loads = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket)
    found = {load.__name__: np.asarray(load(), np.uint8) for load in loads}
    samples = load_sample_images()
    for name, image in zip(samples.filenames, samples.images, strict=True):
        found[Path(name).stem] = np.asarray(image, np.uint8)
    return found


def jpeg(picture: Picture, *, mode: str = "RGB", **options: Any) -> bytes:
    """Encode a picture as PIL does.

    Args:
        picture: (H, W, 3).
        mode: of the file: RGB, L or CMYK.
        options: PIL's, such as quality, subsampling, progressive and exif.
    """
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", **{"quality": _QUALITY, **options})
    return file.getvalue()


def image_folder(data: Path | None, folder: Path, *, at_least: int) -> Path:
    """Make class folders of photographs, each photograph as often as it takes.

    Args:
        data: what `--data` named, or None.
        folder: gets `CLASS/NAME.jpg`.
        at_least: how many there are to be.

    Returns:
        `folder`.
    """
    paths = sorted((data / "images").glob("*/*")) if data else []
    if not paths:
        paths = _generated(folder.with_name(f"{folder.name}_photographs"))
    for number, path in zip(range(at_least), itertools.cycle(paths), strict=False):
        linked = folder / path.parent.name / f"{number:06d}_{path.name}"
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(path.resolve())
    return folder


def _generated(folder: Path) -> list[Path]:
    """Write photographs in class folders; return where they lie."""
    paths = []
    for number, (name, picture) in enumerate(photographs().items()):
        sized = Image.fromarray(picture).resize(_SIZE[::-1], Image.Resampling.LANCZOS)
        path = folder / f"class_{number % _CLASSES}" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(np.asarray(sized), quality=_QUALITY_FOR_SIZE))
        paths.append(path)
    return paths
