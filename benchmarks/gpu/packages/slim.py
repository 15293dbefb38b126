"""Take GPU code for other kinds of GPUs out of a library.

CUDA's compiler puts code for every kind of GPU into sections of the ELF file: containers of
entries, each a header and machine code for one architecture, or PTX. What is wanted moves to the
front of its container, which is made that much smaller, as if it had been compiled for that alone;
zeros follow, of which an archive makes nothing. Nothing else in the file moves.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_ELF = b"\x7fELF"
_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_CONTAINER = struct.Struct("<IHHQ")
"""Magic number, version, bytes of the header, bytes of the entries."""
_MAGIC = 0xBA55ED50
_ENTRY = struct.Struct("<HHIQ12xI")
"""Kind, version, bytes of the header, bytes of the code; architecture, such as 90."""
_MACHINE_CODE = 2
_ALIGNMENT = 8


class Entry(NamedTuple):
    """Code for one architecture: where its header begins and where it ends in the file."""

    is_machine_code: bool
    architecture: int
    start: int
    end: int


def keep_architecture(library: bytearray, architecture: int) -> int:
    """Take out GPU code of all others than `architecture`; return how many bytes.

    Containers without machine code for it are left as they are: the driver may have another use for
    them. So are files that are no ELF.
    """
    taken = 0
    for start, end in _fat_sections(library):
        for header, entries, stop in list(_containers(library, start, end)):
            kept = b"".join(
                library[entry.start : entry.end]
                for entry in _entries(library, entries, stop)
                if entry.is_machine_code and entry.architecture == architecture
            )
            if not kept:
                continue
            magic, version, size, _ = _CONTAINER.unpack_from(library, header)
            _CONTAINER.pack_into(library, header, magic, version, size, len(kept))
            library[entries:stop] = kept.ljust(stop - entries, b"\0")
            taken += stop - entries - len(kept)
    return taken


def _fat_sections(library: bytearray) -> Iterator[tuple[int, int]]:
    """Yield where sections with GPU code begin and end."""
    if library[:4] != _ELF:
        return
    (table,) = struct.unpack_from("<Q", library, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", library, 0x3A)
    headers = [
        struct.unpack_from("<I20xQQ", library, table + size * number) for number in range(count)
    ]  # name, offset, size of each section
    _, names, _ = headers[names_at]
    for name, offset, length in headers:
        end = library.index(b"\0", names + name)
        if bytes(library[names + name : end]) in _SECTIONS:
            yield offset, offset + length


def _containers(library: bytearray, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield where each container, and where its entries begin and end."""
    at = start
    while at + _CONTAINER.size <= end:
        magic, _, header, length = _CONTAINER.unpack_from(library, at)
        if magic != _MAGIC:  # what fills up to the next one
            at += _ALIGNMENT
            continue
        yield at, at + header, at + header + length
        at += header + length


def _entries(library: bytearray, start: int, end: int) -> Iterator[Entry]:
    at = start
    while at + _ENTRY.size <= end:
        kind, _, header, length, architecture = _ENTRY.unpack_from(library, at)
        yield Entry(kind == _MACHINE_CODE, architecture, at, at + header + length)
        at += header + length
