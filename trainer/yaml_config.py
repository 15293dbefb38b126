"""YAML files and dotted overrides -> a typed, frozen configuration, or an error in words.

One tree is built first (the file over its `base`, then overrides), checked for unknown keys, and
then validated as a whole, so that every mistake is reported at once. Sections raise plain
`ValueError`s; the path of the section is put in front here, so none knows where it is mounted.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

Config = TypeVar("Config")
Tree = dict[str, object]


class ConfigError(ValueError):
    """A configuration that cannot be used; each line names key path, value, rule and remedy."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML silently keeps the last of two equal keys; this loader refuses them."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"{key}: given twice (line {line}); remove one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(cls: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read `path`, apply `key.path=value` overrides and validate the result as `cls`.

    A file may begin with `base: OTHER.yaml`, a path relative to itself: it then says only what
    differs. Sections are merged key by key; lists and values are replaced.

    Raises:
        ConfigError: one line for each mistake.
    """
    tree = _with_base(path, ())
    for item in overrides:
        _apply(tree, item)
    return from_tree(cls, tree, where=str(path))


def from_tree(cls: type[Config], tree: Tree, *, where: str) -> Config:
    """Validate a tree of plain values as the dataclass `cls`; `where` heads the error message.

    Raises:
        ConfigError: one line for each mistake.
    """
    problems = _shape_problems(cls, tree, "")
    if not problems:
        try:
            return TypeAdapter(cls).validate_python(tree)
        except ValidationError as error:
            problems = [_describe(detail) for detail in error.errors()]
    raise ConfigError("\n".join([f"{where}:", *(f"  {problem}" for problem in problems)]))


def dump(config: object) -> str:
    """The configuration as YAML that `load` reads back to an equal value."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: object) -> Tree:
    """The configuration as values that YAML and JSON know."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _with_base(path: Path, above: tuple[Path, ...]) -> Tree:
    """The tree of a file over that of its base; `above` are the files that led here."""
    chain = (*above, path)
    if path.resolve() in [other.resolve() for other in above]:
        raise ConfigError(f"base: {' -> '.join(map(str, chain))} is a circle; leave one base out")
    if above and not path.is_file():
        raise ConfigError(
            f"{above[-1]}: base: there is no file {path}; the path is relative to the file"
        )
    tree = _read(path)
    if "base" not in tree:
        return tree
    name = tree.pop("base")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: base: expected the path of a YAML file, got {name!r}")
    return _merged(_with_base(path.parent / name, chain), tree)


def _merged(base: Tree, tree: Tree) -> Tree:
    """`tree` over `base`: sections key by key, anything else replaced."""
    merged = dict(base)
    for key, value in tree.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merged(cast(Tree, below), cast(Tree, value)) if both else value
    return merged


def one_line(value: object) -> str:
    """A value as a recipe writes it, on one line."""
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return (
        yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    )


def json_schema(cls: type) -> dict[str, object]:
    """The JSON schema of what `from_tree` takes for `cls`."""
    return TypeAdapter(cls).json_schema()


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give an existing YAML file") from None
    try:
        # The loader is a SafeLoader: it builds plain values only.
        tree = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections (key: value), got {type(tree).__name__}")
    return tree


def _apply(tree: Tree, item: str) -> None:
    key, equals, text = item.removeprefix("--").partition("=")
    if not equals or not key:
        raise ConfigError(f"{item!r}: an override is written key.path=value, e.g. optim.lr=1e-3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{key}: {text!r} is not a YAML value; quote it") from None
    *sections, name = key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section; see --print")
        node = child
    node[name] = value


def section_class(annotation: object) -> type | None:
    """The dataclass behind a field's annotation, through `X | None`; None for plain values."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for choice in typing.get_args(annotation):
            if isinstance(choice, type) and dataclasses.is_dataclass(choice):
                return choice
    return None


def _shape_problems(cls: type, tree: Tree, prefix: str) -> list[str]:
    """Unknown keys, sections that are values, and booleans that YAML 1.1 made of words."""
    hints = typing.get_type_hints(cls)
    problems: list[str] = []
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(hints)}"
            problems.append(f"{path}: unknown key; {hint}")
            continue
        section = section_class(hints[key])
        if section is not None and isinstance(value, dict):
            problems += _shape_problems(section, value, f"{path}.")
        elif section is not None and value is not None:
            problems.append(f"{path}: a section of key: value pairs belongs here, got {value!r}")
        elif isinstance(value, bool) and not _takes_bool(hints[key]):
            problems.append(
                f"{path}: got {value!r}; YAML reads on, off, yes and no as booleans: quote it"
            )
    return problems


def _takes_bool(annotation: object) -> bool:
    return annotation is bool or bool in typing.get_args(annotation)


def _describe(detail: ErrorDetails) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    value = detail["input"]
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "missing":
        return f"{path}: missing; it has no default"
    if kind == "value_error":
        return f"{path}: {context['error']}" if path else str(context["error"])
    if kind == "literal_error":
        return f"{path}: expected {context['expected']}, got {value!r}"
    expected = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    if expected in ("float", "int", "string", "bool", "tuple"):
        return f"{path}: expected {expected}, got {type(value).__name__} {value!r}"
    return f"{path}: {detail['msg']}, got {value!r}"
