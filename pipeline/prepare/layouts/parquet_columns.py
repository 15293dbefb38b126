"""Which columns of a Parquet file hold images and class numbers, and what the classes are called.

The `datasets` library writes an image as a struct of `bytes` and `path`, a class as an integer, and
puts a description of both, as JSON, into the schema's metadata under `huggingface`.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.errors import DataError
from pipeline.formats.source import MAX_CLASSES

_DESCRIPTION = b"huggingface"
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
"""CIFAR-100 has two; the fine one is the class."""


class Columns(NamedTuple):
    """What is read of a file."""

    image: str
    label: str
    has_paths: bool
    """Whether images have the names of their files beside their bytes."""
    classes: tuple[str, ...]
    """Their names in the order of their numbers; empty if the file does not say."""


def find_columns(path: Path, schema: pa.Schema) -> Columns:
    """Find images and labels in the file at `path`, by its schema.

    Raises:
        DataError: if there are none, or several and nothing says which; or if the names of the
            classes cannot be used.
    """
    features = _described(schema)
    kinds = {name: _text(feature.get("_type")) for name, feature in features.items()}
    image = _pick([f.name for f in schema if _holds_images(f.type)], _IMAGE_NAMES, kinds, "Image")
    label = _pick(
        [f.name for f in schema if pa.types.is_integer(f.type)], _LABEL_NAMES, kinds, "ClassLabel"
    )
    if label not in _LABEL_NAMES and kinds.get(label or "") != "ClassLabel":
        _refuse_text(path, schema)  # rather than take another column of numbers for the classes
    if image is None or label is None:
        kind = "images, a struct of bytes and path," if image is None else "class numbers"
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise DataError(
            f"{path}: no one column of {kind} as Hugging Face's datasets writes it, called"
            f" {' or '.join(_IMAGE_NAMES if image is None else _LABEL_NAMES)}; there are {columns}"
        )
    return Columns(
        image,
        label,
        _has_paths(schema.field(image).type),
        _class_names(path, features.get(label, {})),
    )


def _refuse_text(path: Path, schema: pa.Schema) -> None:
    """Say of a column with the usual name of labels that they are no numbers."""
    for name in _LABEL_NAMES:
        if name in schema.names and pa.types.is_null(schema.field(name).type):
            raise DataError(f"{path}: column {name}: every row has null; make_shards needs classes")
        if name in schema.names:
            raise DataError(
                f"{path}: column {name}: its labels are {schema.field(name).type}, and class"
                " numbers (an integer) are expected; with datasets,"
                f" class_encode_column({name!r}) makes them, and names the classes"
            )


def _described(schema: pa.Schema) -> dict[str, Mapping[str, object]]:
    """The description of each column; empty if there is none, or it is of another form."""
    try:
        features = json.loads((schema.metadata or {})[_DESCRIPTION])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or (place := kind.get_field_index("bytes")) < 0:
        return False
    child = kind.field(place).type
    return pa.types.is_binary(child) or pa.types.is_large_binary(child)


def _has_paths(kind: pa.StructType) -> bool:
    place = kind.get_field_index("path")
    return place >= 0 and pa.types.is_string(kind.field(place).type)


def _pick(
    candidates: Collection[str], usual: tuple[str, ...], kinds: Mapping[str, str], kind: str
) -> str | None:
    """The one with a usual name, or the only one that is described as `kind`, or the only one."""
    if named := [name for name in usual if name in candidates]:
        return named[0]
    described = [name for name in candidates if kinds.get(name) == kind]
    for only in (described, list(candidates)):
        if len(only) == 1:
            return only[0]
    return None


def _class_names(path: Path, feature: Mapping[str, object]) -> tuple[str, ...]:
    names = feature.get("names")
    if names is None:
        return ()
    if not (isinstance(names, list) and all(isinstance(n, str) and n.strip() for n in names)):
        raise DataError(f"{path}: its names of classes are no list of names; give --classes FILE")
    if len(set(names)) < len(names) or len(names) > MAX_CLASSES:
        raise DataError(
            f"{path}: {len(names)} names of classes, {len(set(names))} of them different; give"
            f" others with --classes FILE, at most {MAX_CLASSES:,} and no two alike"
        )
    return tuple(names)
