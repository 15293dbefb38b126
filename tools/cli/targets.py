"""What the options of make_shards mean: what is to be written, and by whom."""

import argparse
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.formats.scan import Scan
from pipeline.images.recode import ImageConfig, RecodeConfig
from pipeline.prepare.conversion.conversion import Conversion
from pipeline.prepare.conversion.parts import WHOLE, Part
from pipeline.prepare.conversion.plan import PlanConfig
from pipeline.prepare.conversion.remote_output import staging_folder
from pipeline.prepare.conversion.run import RunJobs, run_in_processes, run_in_turn
from pipeline.prepare.writers.ffcv_config import FfcvConfig
from pipeline.prepare.writers.job import WriteConfig
from pipeline.storage.remote import RemoteFolder
from tools.cli.output_options import DEFAULT_QUALITY

_WORTH_PROCESSES = 5000
_WORTH_PROCESSES_DECODED = 300
"""Fewer images, copied or decoded, are done before processes have started."""
_FFCV_ONLY = ("write_mode", "max_resolution", "smart_threshold", "compress_probability")
_SHARDS_ONLY = ("shard_size", "shard_samples", "metadata", "merge")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the options say of the output, whatever the source."""

    plan_config: PlanConfig
    writing: WriteConfig
    beton: FfcvConfig | None = None
    """Of an FFCV file; None: shards."""


def new_target(arguments: argparse.Namespace, output: Path | RemoteFolder) -> Target:
    """Return what is to be written; a source of millions of images need not be listed before.

    Raises:
        ValueError: if options do not go together, or FFCV is not there.
    """
    layout, writing = _plan_config(arguments), _write_config(arguments)
    if arguments.format == "shards":
        _refuse(arguments, _FFCV_ONLY, "--format ffcv")
        return Target(plan_config=layout, writing=writing)
    if isinstance(output, RemoteFolder):
        raise ValueError(f"{output.url}: --format ffcv writes to local folders only")
    _refuse(arguments, _SHARDS_ONLY, "--format shards")
    if arguments.executor == "ray":
        raise ValueError("--executor ray needs --format shards: an FFCV file has one writer")
    if arguments.part != WHOLE:
        raise ValueError("--part needs --format shards: an FFCV file is written in one piece")
    beton, writing = _ffcv_configs(arguments, writing)
    try:
        import pipeline.prepare.conversion.ffcv_conversion  # noqa: F401 (whether it can be)
    except ImportError as error:
        raise ValueError(
            f"--format ffcv needs FFCV, which cannot be imported ({error}): install libopencv-dev,"
            " libturbojpeg0-dev and pkg-config, then 'pip install millstream[ffcv]'"
        ) from error
    return Target(plan_config=layout, writing=writing, beton=beton)


def new_conversion(
    target: Target, *, scan: Scan, folder: Path | RemoteFolder, split: str, part: Part
) -> Conversion:
    """Return the conversion of one split, or of a part of it."""
    if target.beton is None:
        remote = folder if isinstance(folder, RemoteFolder) else None
        return Conversion(
            scan=scan,
            folder=folder if isinstance(folder, Path) else staging_folder(folder, part),
            split=split,
            plan_config=target.plan_config,
            writing=target.writing,
            remote=remote,
        )
    from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion

    assert isinstance(folder, Path), "new_target refuses others"
    return FfcvConversion(
        scan=scan,
        folder=folder,
        split=split,
        plan_config=target.plan_config,
        writing=target.writing,
        beton=target.beton,
    )


def new_runner(arguments: argparse.Namespace, conversion: Conversion) -> RunJobs:
    """Return what writes the shards of `conversion`, with so many workers as are worth it.

    Raises:
        ValueError: if Ray is wanted and not there, or of no use.
    """
    if arguments.executor == "ray":
        return _ray_runner(arguments)
    if arguments.format == "ffcv":
        from pipeline.prepare.conversion.ffcv_conversion import FfcvConversion, run_ffcv

        assert isinstance(conversion, FfcvConversion)
        return run_ffcv(conversion.beton, arguments.workers or available_cores())
    images = conversion.writing.images
    is_slow = bool(images.recode.quality) or images.verify
    worth = _WORTH_PROCESSES_DECODED if is_slow else _WORTH_PROCESSES
    if not arguments.workers and len(conversion.scan) < worth:
        return run_in_turn
    workers = min(arguments.workers or available_cores(), conversion.plan.num_shards)
    return run_in_turn if workers <= 1 else partial(run_in_processes, workers=workers)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _plan_config(arguments: argparse.Namespace) -> PlanConfig:
    if arguments.shard_samples:
        return PlanConfig(
            order=arguments.order, shard_bytes=0, shard_samples=arguments.shard_samples
        )
    if arguments.shard_size:
        return PlanConfig(order=arguments.order, shard_bytes=arguments.shard_size)
    return PlanConfig(order=arguments.order)


def _write_config(arguments: argparse.Namespace) -> WriteConfig:
    quality = arguments.quality or (DEFAULT_QUALITY if arguments.resize else 0)
    recode = RecodeConfig(resize=arguments.resize, quality=quality, normalize=arguments.normalize)
    return WriteConfig(
        images=ImageConfig(recode=recode, verify=arguments.verify),
        on_error=arguments.on_error,
        checksums=not arguments.no_checksums,
        json_member=arguments.metadata,
    )


def _ray_runner(arguments: argparse.Namespace) -> RunJobs:
    try:
        from pipeline.prepare.conversion.ray_executor import run_on_ray
    except ImportError as error:
        raise ValueError(f"--executor ray: {error}; pip install 'millstream[ray]'") from error
    return partial(run_on_ray, at_once=arguments.workers)


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], remedy: str) -> None:
    """Refuse options that would have no effect."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            raise ValueError(f"--{name.replace('_', '-')} has no effect without {remedy}")


def _ffcv_configs(
    arguments: argparse.Namespace, writing: WriteConfig
) -> tuple[FfcvConfig, WriteConfig]:
    """With `copy`, --resize and --quality are ours, as for shards; else they are FFCV's."""
    mode = arguments.write_mode or "copy"
    if mode == "raw" and arguments.quality:
        raise ValueError("--quality has no effect with --write-mode raw, which stores pixels")
    if mode != "copy" and (arguments.resize or arguments.normalize):
        raise ValueError(
            f"--resize and --normalize encode as JPEG, which --write-mode {mode} would decode and"
            " encode again; use --max-resolution, or --write-mode copy"
        )
    if mode != "proportion":
        _refuse(arguments, ("compress_probability",), "--write-mode proportion")
    given = {name: getattr(arguments, name) for name in _FFCV_ONLY[1:]}
    given = {name: value for name, value in given.items() if value is not None}
    if mode == "copy":
        return FfcvConfig(mode=mode, **given), writing
    if arguments.quality:
        given["quality"] = arguments.quality
    kept = replace(writing.images, recode=replace(writing.images.recode, quality=0))
    return FfcvConfig(mode=mode, **given), replace(writing, images=kept)
