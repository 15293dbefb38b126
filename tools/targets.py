"""What make_shards writes: shards, or FFCV files; and who carries it out.

FFCV takes seconds to import, and need not be there: it is imported only when it is asked for.
"""

import argparse
from functools import partial
from pathlib import Path

from pipeline.formats.beton_config import BetonConfig
from pipeline.formats.conversion import Conversion
from pipeline.formats.convert import RunJobs, run_in_turn
from pipeline.formats.parts import WHOLE
from pipeline.formats.remote_output import staging_folder
from pipeline.formats.scan import Scan
from pipeline.formats.shard_writer import WriteConfig
from pipeline.formats.workers import run_in_processes
from pipeline.storage.remote import RemoteFolder
from tools.shard_options import available_cores, plan_config, write_config

_WORTH_PROCESSES = 5000
_WORTH_PROCESSES_DECODED = 300
"""Fewer images, copied or decoded, are done before processes have started."""
_FFCV_ONLY = ("write_mode", "max_resolution", "smart_threshold", "compress_probability")
_SHARDS_ONLY = ("shard_size", "shard_samples", "metadata", "merge")


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "--format",
        choices=("shards", "ffcv"),
        default="shards",
        help="WebDataset shards (default), or one FFCV file for each split: SPLIT/SPLIT.beton",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="who writes: processes of this machine (default), or the Ray cluster at $RAY_ADDRESS;"
        " --workers is then the number of shards written at a time",
    )
    group = parser.add_argument_group("FFCV files (--format ffcv; names as in FFCV)")
    group.add_argument(
        "--write-mode",
        choices=("copy", "jpg", "raw", "smart", "proportion"),
        help="copy (default) keeps the bytes of JPEGs; the others are FFCV's, with --quality",
    )
    group.add_argument(
        "--max-resolution", type=int, metavar="PIXELS", help="shorten the long side of larger ones"
    )
    group.add_argument(
        "--smart-threshold", type=int, metavar="BYTES", help="smart: more pixels become a JPEG"
    )
    group.add_argument(
        "--compress-probability", type=float, metavar="P", help="proportion: share of JPEGs"
    )


def new_conversion(
    arguments: argparse.Namespace, *, scan: Scan, folder: Path | RemoteFolder, split: str
) -> Conversion:
    """Return the conversion of one split.

    Raises:
        ValueError: if options do not go together, or FFCV is not there.
    """
    layout, writing = plan_config(arguments), write_config(arguments)
    if arguments.format == "shards":
        _refuse(arguments, _FFCV_ONLY, "--format ffcv")
        remote = folder if isinstance(folder, RemoteFolder) else None
        return Conversion(
            scan=scan,
            folder=folder if isinstance(folder, Path) else staging_folder(folder, arguments.part),
            split=split,
            layout=layout,
            writing=writing,
            remote=remote,
        )
    if isinstance(folder, RemoteFolder):
        raise ValueError(f"{folder.url}: --format ffcv writes to local folders only")
    _refuse(arguments, _SHARDS_ONLY, "--format shards")
    if arguments.part != WHOLE:
        raise ValueError("--part needs --format shards: an FFCV file is written in one piece")
    beton, writing = _ffcv_configs(arguments, writing)
    try:
        from pipeline.formats.beton_conversion import BetonConversion
    except ImportError as error:
        raise ValueError(
            f"--format ffcv needs FFCV, which cannot be imported ({error}): install libopencv-dev,"
            " libturbojpeg0-dev and pkg-config, then 'pip install millstream[ffcv]'"
        ) from error
    return BetonConversion(
        scan=scan, folder=folder, split=split, layout=layout, writing=writing, beton=beton
    )


def new_runner(arguments: argparse.Namespace, conversion: Conversion) -> RunJobs:
    """Return what writes the shards of `conversion`, with so many workers as are worth it.

    Raises:
        ValueError: if Ray is wanted and not there, or of no use.
    """
    if arguments.executor == "ray":
        return _ray_runner(arguments)
    if arguments.format == "ffcv":
        from pipeline.formats.beton_conversion import BetonConversion, run_beton

        assert isinstance(conversion, BetonConversion)
        return run_beton(conversion.beton, arguments.workers or available_cores())
    intake = conversion.writing.intake
    is_slow = bool(intake.recode.quality) or intake.verify
    worth = _WORTH_PROCESSES_DECODED if is_slow else _WORTH_PROCESSES
    if not arguments.workers and len(conversion.scan) < worth:
        return run_in_turn
    workers = min(arguments.workers or available_cores(), conversion.plan().num_shards)
    return run_in_turn if workers <= 1 else partial(run_in_processes, workers=workers)


def _ray_runner(arguments: argparse.Namespace) -> RunJobs:
    if arguments.format == "ffcv":
        raise ValueError("--executor ray needs --format shards: an FFCV file has one writer")
    try:
        from pipeline.formats.ray_executor import run_on_ray
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
) -> tuple[BetonConfig, WriteConfig]:
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
        return BetonConfig(mode=mode, **given), writing
    if arguments.quality:
        given["quality"] = arguments.quality
    arguments_without = argparse.Namespace(**{**vars(arguments), "quality": 0})
    return BetonConfig(mode=mode, **given), write_config(arguments_without)
