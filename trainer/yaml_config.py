"""YAML files and dotted overrides -> a typed, frozen configuration, or an error in words.

One tree is built first (the file over its `base`, then overrides), checked for unknown keys, and
then validated as a whole, so that every mistake is reported at once. Sections raise plain
`ValueError`s; the path of the section is put in front here, so none knows where it is mounted.
"""

import copy
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

_COMMAND_LINE = "the command line"
"""Where a value stands that no file has; it heads the messages about overrides."""
_SECTION = "a section of key: value pairs belongs here"
_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "string": "text in quotes",
    "bool": "true or false",
    "tuple": "a list in brackets, such as [a, b]",
    "list": "a list in brackets, such as [a, b]",
    "dict": "pairs in braces, such as {key: value}",
}
"""What pydantic calls by Python's names."""
_MOST_SHOWN = 60
"""Characters of a value in a message."""


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
    changed = copy.deepcopy(tree)
    for item in overrides:
        apply_override(changed, item)
    config, problems = _validated(cls, changed)
    if config is not None:
        return config
    # What the file alone gets wrong, too, is its own; the rest came with the overrides.
    in_file = _validated(cls, tree)[1] if overrides else problems
    own = [problem for problem in problems if problem in in_file]
    given = [problem for problem in problems if problem not in in_file]
    raise ConfigError(
        "\n".join([*_listed(f"{_COMMAND_LINE}, over {path}", given), *_listed(str(path), own)])
    )


def apply_override(tree: Tree, item: str) -> None:
    """Put the override `item`, such as `optim.lr=1e-3`, into `tree`.

    Raises:
        ConfigError: if it is not of that form.
    """
    key, equals, text = item.removeprefix("--").partition("=")
    where = f"{_COMMAND_LINE}: {item}"
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{where}: an override is written key.path=value, e.g. optim.lr=1e-3")
    if key == "base":
        raise ConfigError(
            f"{where}: base stands in a recipe's file alone; give --config {text or 'FILE'}, or a"
            " file of your own that begins with base: FILE"
        )
    try:
        value = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader
    except yaml.YAMLError:
        raise ConfigError(f"{where}: {text!r} is not a YAML value; quote it") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    *sections, name = key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{where}: {section} is a value, not a section; see --print")
        node = child
    node[name] = value


def from_tree(cls: type[Config], tree: Tree, *, where: str) -> Config:
    """Validate a tree of plain values as the dataclass `cls`; `where` heads the error message.

    Raises:
        ConfigError: one line for each mistake.
    """
    config, problems = _validated(cls, tree)
    if config is None:
        raise ConfigError("\n".join(_listed(where, problems)))
    return config


def _validated(cls: type[Config], tree: Tree) -> tuple[Config | None, list[str]]:
    """The configuration, or else what is wrong with it, a line for each mistake."""
    problems = _shape_problems(cls, tree, "")
    if problems:
        return None, problems
    try:
        return TypeAdapter(cls).validate_python(tree), []
    except ValidationError as error:
        return None, _described(error.errors(), tree)


def _listed(where: str, problems: list[str]) -> list[str]:
    return [f"{where}:", *(f"  {problem}" for problem in problems)] if problems else []


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
        raise ConfigError(f"{path}: base: expected the path of a YAML file, got {_shown(name)}")
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
    return _flow(plain)


def _flow(plain: object) -> str:
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("\n...\n").strip()


def json_schema(cls: type) -> dict[str, object]:
    """The JSON schema of what `from_tree` takes for `cls`."""
    return TypeAdapter(cls).json_schema()


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({why}); give an existing YAML file") from None
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
        raise ConfigError(f"{path}: expected sections (key: value), got {_shown(tree)}")
    return tree


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
            problems.append(f"{path}: {_SECTION}, got {_shown(value)}")
        elif isinstance(value, bool) and not _takes_bool(hints[key]):
            problems.append(
                f"{path}: got {_shown(value)}; YAML reads on, off, yes and no as true and false:"
                " quote it where text is meant"
            )
    return problems


def _takes_bool(annotation: object) -> bool:
    return annotation is bool or bool in typing.get_args(annotation)


def _described(errors: Sequence[ErrorDetails], tree: Tree) -> list[str]:
    """A line a key: what may stand there, all kinds of it, and what does."""
    expected: dict[tuple[str, str], list[str]] = {}
    told: list[str] = []
    for detail in errors:
        path, context = _path(detail, tree), detail.get("ctx", {})
        if detail["type"] == "missing":
            told.append(f"{path}: missing; it has no default")
        elif detail["type"] == "value_error":
            told.append(f"{path}: {context['error']}" if path else str(context["error"]))
        elif detail["type"] == "dataclass_type":
            told.append(f"{path}: {_SECTION}, got {_shown(detail['input'])}")
        else:
            kinds = expected.setdefault((path, _shown(detail["input"])), [])
            kinds.append(_kind(detail))
    for (path, value), kinds in expected.items():
        told.append(f"{path}: expected {' or '.join(dict.fromkeys(kinds))}, got {value}")
    return told


def _kind(detail: ErrorDetails) -> str:
    """What pydantic expected, in words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "too_long":
        return f"a list of at most {context['max_length']}"
    kind = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
    message = detail["msg"]
    return _EXPECTED.get(kind) or message[0].lower() + message[1:]


def _path(detail: ErrorDetails, tree: Tree) -> str:
    """The keys that lead to a mistake; pydantic also names the kind that it tried of several."""
    path, node = "", cast("object", tree)
    for part in detail["loc"]:
        if isinstance(node, dict) and part in node:
            node, path = node[part], f"{path}.{part}"
        elif isinstance(node, list | tuple) and isinstance(part, int):
            node, path = node[part] if part < len(node) else None, f"{path}[{part}]"
        elif detail["type"] == "missing":
            path = f"{path}.{part}"
    return path.removeprefix(".")


def _shown(value: object) -> str:
    """Text in quotes, anything else as YAML writes it; cut where it is long."""
    text = repr(value) if isinstance(value, str) else _flow(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 4]} ..."
