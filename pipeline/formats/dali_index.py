"""DALI's index of a shard, the text that `wds2idx` makes of a tar: written, read and compared."""

from pipeline.images.names import member_extension
from pipeline.storage.tar_writer import BLOCK

DALI_INDEX_VERSION = "v1.2"


def dali_line(key: str, extension: str, offset: int, length: int, label: int) -> str:
    """Return DALI's line of a sample with an image and its label members."""
    cls = offset + length + -length % BLOCK + BLOCK
    return (
        f"{extension} {offset} {length} {key}.{extension}"
        f" cls {cls} {len(str(label))} {key}.cls i4 {cls + 2 * BLOCK} 4 {key}.i4"
    )


def extensions_by_offset(content: bytes) -> dict[int, str]:
    """Return the extension of each image in one of DALI's indexes, by its offset."""
    # Not splitlines: keys have line ends of Unicode in them.
    lines = content.decode(errors="replace").removesuffix("\n").split("\n")[1:]
    entries = (line.split(" ", 2) for line in lines)
    return {int(e[1]): member_extension(f"image.{e[0]}") for e in entries if _is_entry(e)}


def _is_entry(words: list[str]) -> bool:
    return len(words) == 3 and words[1].isascii() and words[1].isdecimal()


def is_dali_line(line: str, row: dict[str, int | str]) -> bool:
    """Whether `line` is of the sample; members that no reader of DALI's takes do not count."""
    numbers = (int(row[name]) for name in ("offset", "length", "label"))
    wanted = dali_line(str(row["key"]), line.partition(" ")[0], *numbers)
    return line == wanted or line.startswith(f"{wanted} json ")
