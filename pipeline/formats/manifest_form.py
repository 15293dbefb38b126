"""The form of a manifest: each key there and of its type, and a checksum over it all.

A manifest is what everything else is checked against, so damage to it must be found first.
"""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints, is_typeddict

from pipeline.storage.files import is_plain_name

CHECKSUM_KEY: Final = "sha256"


def checksum(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of `content` without its own, as JSON with sorted keys and no blanks."""
    rest = {key: value for key, value in content.items() if key != CHECKSUM_KEY}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def form_fault(value: object, form: Any, where: str = "") -> str:
    """Say what of `value`, read from JSON, is not of the type `form`; empty if all is.

    Args:
        value: to be looked at.
        form: a TypedDict, a dict or list with arguments, a union, or a plain type.
        where: the place of `value`, for the answer.
    """
    place = where or "it"
    if is_typeddict(form):
        if not isinstance(value, dict):
            return _unexpected(place, "an object", value)
        for key, item_form in get_type_hints(form).items():
            inner = f"{where}.{key}" if where else key
            if key not in value:
                return f"{inner} is missing"
            if fault := form_fault(value[key], item_form, inner):
                return fault
        return ""
    if get_origin(form) in (list, dict):
        return _fault_within(value, form, place)
    is_union = get_origin(form) in (Union, UnionType)
    kinds = get_args(form) if is_union else (form,)
    if type(value) not in kinds:  # a bool is no number here
        return _unexpected(place, " or ".join(kind.__name__ for kind in kinds), value)
    return ""


def shard_name_fault(names: list[str]) -> str:
    """Say which of the names of shards is no name of a file beside the manifest."""
    if not names:
        return "shards has none"
    for name in names:
        if not is_plain_name(name):
            return f"the shard {name!r} is not a file in the same folder"
    return ""


def _fault_within(value: object, form: Any, where: str) -> str:
    item_form = get_args(form)[-1]  # keys of JSON are strings
    if get_origin(form) is list:
        if not isinstance(value, list):
            return _unexpected(where, "a list", value)
        items = enumerate(value)
    else:
        if not isinstance(value, dict):
            return _unexpected(where, "an object", value)
        items = value.items()
    faults = (form_fault(item, item_form, f"{where}[{key!r}]") for key, item in items)
    return next(filter(None, faults), "")


def _unexpected(where: str, kind: str, value: object) -> str:
    return f"{where}: expected {kind}, got {reprlib.repr(value)}"
