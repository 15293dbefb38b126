"""Take GPU code for other kinds of GPUs out of a library.

CUDA's compiler puts code for every kind of GPU into sections of the ELF file: containers of
entries, each a header and machine code for one architecture, or PTX. Entries that are not wanted
become zeros; headers, sizes and places stay, and an archive makes nothing of zeros.
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
    """Code for one architecture: where it lies in the file."""

    is_machine_code: bool
    architecture: int
    start: int
    end: int


def keep_architecture(library: bytearray, architecture: int) -> int:
    """Blank GPU code of all others than `architecture`; return how many bytes.

    Containers without machine code for it are left as they are: the driver may have another use for
    them. So are files that are no ELF.
    """
    blanked = 0
    for start, end in _fat_sections(library):
        for container in _containers(library, start, end):
            entries = list(_entries(library, *container))
            wanted = [e.is_machine_code and e.architecture == architecture for e in entries]
            for entry, keep in zip(entries, wanted, strict=True):
                if any(wanted) and not keep:
                    library[entry.start : entry.end] = bytes(entry.end - entry.start)
                    blanked += entry.end - entry.start
    return blanked


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


def _containers(library: bytearray, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the entries of each container begin and end."""
    at = start
    while at + _CONTAINER.size <= end:
        magic, _, header, length = _CONTAINER.unpack_from(library, at)
        if magic != _MAGIC:  # what fills up to the next one
            at += _ALIGNMENT
            continue
        yield at + header, at + header + length
        at += header + length


def _entries(library: bytearray, start: int, end: int) -> Iterator[Entry]:
    at = start
    while at + _ENTRY.size <= end:
        kind, _, header, length, architecture = _ENTRY.unpack_from(library, at)
        code = at + header
        yield Entry(kind == _MACHINE_CODE, architecture, code, code + length)
        at = code + length
