"""What a recipe can say: each key with its type, default and meaning, from the dataclasses.

The meaning is the string below a field, which only the source has; so nothing is written twice.
`launch.py --explain`, docs/recipe_keys.md, the JSON schema for editors, and what TAB offers on a
command line, are made of it.
"""

import argparse
import ast
import dataclasses
import difflib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer import yaml_config
from trainer.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A line that a recipe can have."""

    path: str
    """Such as `optim.lr`."""
    type: str
    default: str
    """As YAML writes it; `required` where there is none."""
    meaning: str


def recipe_keys() -> list[Key]:
    """All keys, section by section."""
    return list(_keys(Recipe, ""))


def explain(paths: Sequence[str]) -> str:
    """What is known of keys, and of all keys of sections; of every key where nothing is named.

    Raises:
        ValueError: if there is no such key; it names the nearest.
    """
    keys = recipe_keys()
    if unknown := [path for path in paths if not any(_is_of(path, key) for key in keys)]:
        raise ValueError("\n".join(_unknown(path, keys) for path in unknown))
    chosen = {key.path: key for path in paths for key in keys if _is_of(path, key)}
    return "\n".join(_in_words(key) for key in (chosen.values() if paths else keys))


def _is_of(path: str, key: Key) -> bool:
    return key.path == path or key.path.startswith(f"{path}.")


def _unknown(path: str, keys: list[Key]) -> str:
    known = [key.path for key in keys]
    last = [name for name in known if name.rpartition(".")[2] == path]
    near = last or difflib.get_close_matches(path, known, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "--explain alone lists all"
    return f"--explain: there is no key {path!r}; {hint}"


def add_config_option(place: argparse._ActionsContainer, *, required: bool) -> None:
    """Add --config."""
    option = place.add_argument(
        "--config", type=Path, required=required, metavar="FILE", help="recipe, a YAML file"
    )
    # argcomplete looks for the attribute, which argparse does not declare.
    option.completer = complete_config  # pyright: ignore[reportAttributeAccessIssue]


def add_overrides(place: argparse._ActionsContainer) -> None:
    """Add `key.path=value ...`."""
    option = place.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help="instead of what the recipe says (docs/recipe_keys.md)",
    )
    option.completer = complete_override  # pyright: ignore[reportAttributeAccessIssue]


def complete_config(prefix: str, **_: object) -> list[str]:
    """Recipes, and folders of them, whose paths begin with `prefix`."""
    folder = prefix.rpartition("/")[0]
    found = sorted(Path(folder or ".").glob("*")) if not folder or Path(folder).is_dir() else []
    paths = [f"{path}/" if path.is_dir() else str(path) for path in found]
    return [path for path in paths if path.endswith(("/", ".yaml", ".yml"))]


def complete_override(prefix: str, **_: object) -> list[str]:
    """`key=` for keys that begin with `prefix`; `key=value` once it has a key with choices."""
    name, has_key, _value = prefix.partition("=")
    if not has_key:
        return [f"{key.path}=" for key in recipe_keys() if key.path.startswith(name)]
    types = [key.type for key in recipe_keys() if key.path == name]
    if not types:
        return []
    choices = ["true", "false"] if types[0] == "bool" else re.findall(r"`(\S+?)`", types[0])
    return [f"{name}={choice}" for choice in choices]


def as_markdown() -> str:
    """The content of docs/recipe_keys.md."""
    lines = [
        "# Recipe keys",
        "",
        "Every key of a recipe, made from the source by `python docs/write_recipe_keys.py`.",
        "`launch.py --explain KEY` says the same of one key or section. An editor that knows YAML",
        "completes and checks recipes with [recipe.schema.json](recipe.schema.json).",
    ]
    section = ""
    for key in recipe_keys():
        head = key.path.rpartition(".")[0]
        if head != section:
            section = head
            lines += ["", f"## {head}", "", _section_words(head), ""]
            lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        cells = (f"`{key.path}`", key.type, f"`{key.default}`", key.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, object]:
    """A JSON schema of recipes, with the meanings as descriptions; unknown keys are not allowed.

    It asks for no key, since a file may leave all of them to its `base`.
    """
    schema = yaml_config.json_schema(Recipe)
    definitions = typing.cast("dict[str, dict[str, object]]", schema["$defs"])
    _describe(schema, Recipe)
    for cls in _sections(Recipe):
        _describe(definitions[cls.__name__], cls)
    properties = typing.cast("dict[str, object]", schema["properties"])
    properties["base"] = {"type": "string", "description": "A recipe, relative to this, below it."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe(schema: dict[str, object], cls: type) -> None:
    meanings = _meanings(cls)
    schema["additionalProperties"] = False
    schema.pop("required", None)
    schema["description"] = _paragraph(cls.__doc__ or "")
    for name, entry in typing.cast("dict[str, dict[str, object]]", schema["properties"]).items():
        if name in meanings:
            entry["description"] = meanings[name]


def _sections(cls: type) -> Iterator[type]:
    for annotation in typing.get_type_hints(cls).values():
        section = yaml_config.section_class(annotation)
        if section is not None:
            yield section
            yield from _sections(section)


def _keys(cls: type, prefix: str) -> Iterator[Key]:
    hints, meanings = typing.get_type_hints(cls), _meanings(cls)
    for field in dataclasses.fields(cls):
        path, annotation = f"{prefix}{field.name}", hints[field.name]
        section = yaml_config.section_class(annotation)
        if section is not None:
            yield from _keys(section, f"{path}.")
            continue
        yield Key(
            path=path,
            type=_type_words(annotation),
            default=_default_words(field),
            meaning=meanings.get(field.name, ""),
        )


def _meanings(cls: type) -> dict[str, str]:
    """The strings below the fields of a dataclass, each as one line."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = _paragraph(str(below.value.value))
    return found


def _type_words(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            "null" if part is type(None) else _type_words(part) for part in arguments
        )
    if origin in (tuple, list):
        inner = [_type_words(part) for part in arguments if part is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"[{', '.join(inner)}]"
    return getattr(annotation, "__name__", str(annotation))


def _default_words(field: "dataclasses.Field[object]") -> str:
    if field.default is not dataclasses.MISSING:
        return yaml_config.one_line(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return yaml_config.one_line(field.default_factory())
    return "required"


def _section_words(path: str) -> str:
    cls: type = Recipe
    for name in path.split(".") if path else ():
        section = yaml_config.section_class(typing.get_type_hints(cls)[name])
        assert section is not None
        cls = section
    return _paragraph((cls.__doc__ or "").partition("\n\n")[0])


def _paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split())


def _in_words(key: Key) -> str:
    required = key.default == "required"
    head = f"{key.path}: {key.type}; {key.default if required else f'default {key.default}'}"
    meaning = textwrap.fill(key.meaning, 96, initial_indent="    ", subsequent_indent="    ")
    return f"{head}\n{meaning}" if key.meaning else head
