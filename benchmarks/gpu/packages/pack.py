r"""Pack wheels for a machine with a GPU and without a network, in parts that can be carried.

    python -m pip download --no-deps --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --only-binary :all: --dest WHEELS nvidia-dali-cuda130==2.4.0 ...
    python -m benchmarks.gpu.packages.pack WHEELS --output PACKAGES --python 312 --arch 90
    sh benchmarks/gpu/all.sh OUT --packages PACKAGES        # there

Left out: extension modules for other Pythons, headers and tests, and in DALI's libraries the code
for other GPUs; wheels that DALI only names (nvcomp, nvjpeg2k, nvtiff, nvtx, libcst) need not be
there to decode JPEGs. docs/gpu_speed.md lists what the project needs. This is for carrying, not for
publishing.
"""

import argparse
import hashlib
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.packages.slim import keep_architecture
from benchmarks.gpu.packages.unpack import MANIFEST
from pipeline.errors import DataError, OutputError
from pipeline.storage.files import file_sha256, write_atomically
from tools.cli import exits
from tools.cli.numbers import positive

_MIB = 1 << 20
LIMIT_MIB = 60
_FILTERS = [
    {"id": lzma.FILTER_X86},  # most of it is machine code
    {"id": lzma.FILTER_LZMA2, "preset": 9},
]
_LEFT_OUT = re.compile(
    r"/__pycache__/|\.dist-info/(RECORD|sboms/)|nvidia/[^/]+/include/|nvidia/dali/test/"
    r"|nvimgcodec/extensions/lib(opencv|tiff|nvtiff|nvjpeg2k|nvbmp|nvpnm)_ext"
)
_INSTALLED = re.compile(r"^[^/]+\.data/(?:purelib|platlib)/")
"""What a wheel has for the folder of packages; its other .data is for elsewhere."""
_FOR_PYTHON = re.compile(r"\.cpython-(\d+t?)-")
_SLIMMED = "nvidia/dali/"


class Member(NamedTuple):
    """A file of a wheel: its path below the folder of packages, its content and its mode."""

    path: str
    data: bytes
    mode: int


def main(argv: list[str] | None = None) -> int:
    """Pack; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheels", type=Path, help="folder of .whl files, one for each package")
    parser.add_argument("--output", type=Path, required=True, metavar="PACKAGES")
    parser.add_argument("--python", default="312", help="of that machine; default: 312")
    parser.add_argument("--arch", type=positive, default=90, help="of its GPU; default: 90")
    parser.add_argument("--limit-mib", type=positive, default=LIMIT_MIB, help="of a part")
    return exits.told(partial(pack, parser.parse_args(argv)))


def pack(arguments: argparse.Namespace) -> int:
    """Write the parts, then the manifest that makes them complete.

    Raises:
        DataError: if there are no wheels, or two of one package.
        OutputError: if the output has something in it.
    """
    wheels, output = _wheels(arguments.wheels), arguments.output
    if output.is_dir() and any(output.iterdir()):
        raise OutputError(f"{output}: is not empty; name a new folder")
    output.mkdir(parents=True, exist_ok=True)
    parts = _Parts(output, arguments.limit_mib * _MIB)
    with (
        lzma.open(parts, "wb", format=lzma.FORMAT_XZ, filters=_FILTERS) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for wheel in wheels.values():
            for member in members(wheel, python=arguments.python, arch=arguments.arch):
                entry = tarfile.TarInfo(member.path)
                entry.size, entry.mode = len(member.data), member.mode
                archive.addfile(entry, io.BytesIO(member.data))
    manifest = {
        "python": arguments.python,
        "arch": arguments.arch,
        "wheels": {wheel.name: file_sha256(wheel) for wheel in wheels.values()},
        "parts": parts.finish(),
    }
    write_atomically(output / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    for part in manifest["parts"]:
        print(f"{output / part['name']}: {part['bytes'] / _MIB:.1f} MiB")
    return exits.COMPLETE


def _wheels(folder: Path) -> dict[str, Path]:
    """Return the wheels by package."""
    found: dict[str, Path] = {}
    for wheel in sorted(folder.glob("*.whl")):
        package = wheel.name.partition("-")[0].lower()
        if package in found:
            raise DataError(f"{folder}: {found[package].name} and {wheel.name}; keep one of them")
        found[package] = wheel
    if not found:
        raise DataError(f"{folder}: has no .whl files; `pip download` gets them")
    return found


def members(wheel: Path, *, python: str, arch: int) -> Iterator[Member]:
    """Yield the files of a wheel that the machine needs."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = _INSTALLED.sub("", info.filename)
            built_for = _FOR_PYTHON.search(path)
            if (
                info.is_dir()
                or _LEFT_OUT.search(path)
                or path.partition("/")[0].endswith(".data")
                or (built_for and built_for[1] != python)
            ):
                continue
            data, is_library = bytearray(archive.read(info)), ".so" in Path(path).name
            if is_library and path.startswith(_SLIMMED):
                keep_architecture(data, arch)
            runs = is_library or info.external_attr >> 16 & 0o100
            yield Member(path, bytes(data), 0o755 if runs else 0o644)


class _Parts(io.RawIOBase):
    """A stream that is cut into files of a size."""

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__()
        self._folder, self._limit = folder, limit
        self._written: list[dict[str, object]] = []
        self._buffer = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take bytes; write a part as soon as there is one."""
        self._buffer += data
        while len(self._buffer) >= self._limit:
            self._write_part()
        return len(data)

    def finish(self) -> list[dict[str, object]]:
        """Write the rest; return name, SHA-256 and size of all parts."""
        if self._buffer:
            self._write_part()
        return self._written

    def _write_part(self) -> None:
        data = bytes(self._buffer[: self._limit])
        del self._buffer[: self._limit]
        name = f"packages.tar.xz.{len(self._written):03d}"
        write_atomically(self._folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self._written.append({"name": name, "sha256": digest, "bytes": len(data)})


if __name__ == "__main__":
    raise SystemExit(main())
