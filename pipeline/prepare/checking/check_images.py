"""A folder of images checked before it is converted or read: every image is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import Problem, UnusableImageError
from pipeline.formats.scan import ByteReader, Scan
from pipeline.images.recode import ImageConfig, prepare_image
from pipeline.prepare.writers.job import Progress

_IMAGES_OF_A_JOB = 256


@dataclass(frozen=True)
class FolderJob:
    """Some images of a scan."""

    reader: ByteReader
    locations: tuple[str, ...]


def folder_jobs(scan: Scan) -> Iterator[FolderJob]:
    """Yield the images of `scan` in jobs of moderate size."""
    for start in range(0, len(scan), _IMAGES_OF_A_JOB):
        entries = range(start, min(start + _IMAGES_OF_A_JOB, len(scan)))
        yield FolderJob(scan.reader, tuple(scan.location(entry) for entry in entries))


def check_images(job: FolderJob, progress: Progress) -> list[Problem]:
    """Decode the images of `job`; returns those that cannot be used."""
    problems, config = [], ImageConfig(verify=True)
    for location in job.locations:
        size = 0
        try:
            data = job.reader.read(location)
            size = len(data)
            prepare_image(data, location, config)
        except UnusableImageError as error:
            problems.append(Problem(error.kind, location, str(error)))
        except OSError as error:
            problems.append(Problem("cannot be read", location, error.strerror or str(error)))
        progress(1, size)
    return problems
