"""FFCV files checked sample by sample, to name those that are damaged."""

from pathlib import Path

from pipeline.errors import DataError, Problem, UnusableImageError
from pipeline.formats.ffcv_source import BetonSource
from pipeline.formats.source import Sample
from pipeline.images.header import read_header
from pipeline.images.usable import check_usable


def check_beton_samples(path: Path, *, deep: bool) -> list[Problem]:
    """Look at each sample; the place of a problem is FILE:KEY.

    Args:
        path: of the file.
        deep: decode every image that is not raw pixels.
    """
    try:
        source = BetonSource(path)
    except DataError as error:
        return [Problem("damaged file", path.name, str(error))]
    problems = []
    for index in range(len(source)):
        where = f"{path.name}:{source.keys[index].as_py()}"
        try:
            [sample] = source.read_many([index])
            if deep and sample.data.ndim == 1:
                _check_image(sample)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, where, str(error)))
        except ValueError as error:
            problems.append(Problem("damaged sample", where, str(error)))
    return problems


def _check_image(sample: Sample) -> None:
    data = sample.data.tobytes()
    header = read_header(data)
    if (header.width, header.height) != (sample.width, sample.height):
        raise ValueError(f"{header.width} x {header.height} pixels, which the tables deny")
    check_usable(header, data, must_load=True, decode=True)
