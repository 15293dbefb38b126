"""The reference of recipe keys says what the dataclasses say, and is current."""

import dataclasses
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

import launch
from trainer import recipe_keys, yaml_config
from trainer.recipe import Recipe

ROOT = Path(__file__).parents[2]


def leaves(tree: dict, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found |= leaves(value, f"{path}.") if isinstance(value, dict) else {path}
    return found


@pytest.mark.parametrize("name", ["recipe_keys.md", "recipe.schema.json"])
def test_the_files_in_docs_are_current(name):
    expected = {
        "recipe_keys.md": recipe_keys.as_markdown(),
        "recipe.schema.json": json.dumps(recipe_keys.json_schema(), indent=2) + "\n",
    }
    stored = (ROOT / "docs" / name).read_text()
    assert stored == expected[name], "run: python docs/write_recipe_keys.py"


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_a_resolved_recipe_is_known(path):
    tree = yaml.safe_load(yaml_config.dump(yaml_config.load(Recipe, path)))
    known = {key.path for key in recipe_keys.recipe_keys()}
    sections = {path.rpartition(".")[0] for path in known}  # null where one is left out
    assert leaves(tree) <= known | sections


def test_required_keys_and_defaults_are_the_dataclasses_own():
    keys = {key.path: key for key in recipe_keys.recipe_keys()}
    for section in dataclasses.fields(Recipe):
        cls = yaml_config.section_class(typing.get_type_hints(Recipe)[section.name])
        assert cls is not None
        for field in dataclasses.fields(cls):
            key = keys.get(f"{section.name}.{field.name}")
            if key is None:  # a section of its own
                continue
            missing = (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
            assert (key.default == "required") == missing
            if field.default is not dataclasses.MISSING:
                written = yaml.safe_load(key.default)
                plain = list(field.default) if isinstance(field.default, tuple) else field.default
                assert written == plain


def test_a_meaning_is_the_string_below_the_field():
    keys = {key.path: key for key in recipe_keys.recipe_keys()}
    assert keys["ema.decay"].meaning.startswith("Share of the old average kept")
    assert keys["precision.dtype"].type == "`fp32`, `bf16`, `fp16`"
    assert keys["model.img_size"].type == "int or null"


def test_the_schema_has_the_same_keys_and_no_others():
    schema = recipe_keys.json_schema()
    assert schema["additionalProperties"] is False
    definitions = typing.cast("dict[str, dict]", schema["$defs"])

    def paths(entry: dict, prefix: str) -> set[str]:
        found: set[str] = set()
        for name, value in entry["properties"].items():
            references = [value, *value.get("anyOf", ()), *value.get("allOf", ())]
            targets = [r["$ref"].rpartition("/")[2] for r in references if "$ref" in r]
            inner = paths(definitions[targets[0]], f"{prefix}{name}.") if targets else None
            found |= inner if inner is not None else {f"{prefix}{name}"}
        return found

    assert paths(schema, "") == {"base", *(key.path for key in recipe_keys.recipe_keys())}


def test_explain_says_one_key_or_a_section(capsys):
    assert launch.main(["--explain", "ema.decay"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("ema.decay: float; default 0.0\n    Share of the old average")
    assert launch.main(["--explain", "zero"]) == 0
    assert capsys.readouterr().out.startswith("zero.stage: ")
    assert launch.main(["--explain"]) == 0
    assert capsys.readouterr().out.count("\n") > len(recipe_keys.recipe_keys())


def test_explain_says_all_that_is_asked_for_and_each_key_once(capsys):
    assert launch.main(["--explain", "zero.stage", "ema", "ema.decay"]) == 0
    told = capsys.readouterr().out
    assert [line.partition(":")[0] for line in told.splitlines() if line[0] != " "] == [
        *("zero.stage", "ema.decay", "ema.warmup"),
    ]
    assert launch.main(["--explain", "zero", "lrr", "mixupp"]) == 2
    assert "'lrr'" in (error := capsys.readouterr().err)
    assert "'mixupp'" in error


@pytest.mark.parametrize("idle", ["--print", "optim.lr=1"])
def test_what_has_no_effect_beside_explain_is_refused(idle, capsys):
    with pytest.raises(SystemExit) as ended:
        launch.main([idle, "--explain", "optim.lr"])
    assert ended.value.code == 2
    assert f"{idle} has no effect with --explain" in capsys.readouterr().err


def test_explain_knows_what_was_meant(capsys):
    assert launch.main(["--explain", "lr"]) == 2
    assert "optim.lr" in capsys.readouterr().err
    assert launch.main(["--explain", "augment.mixupp"]) == 2
    assert "augment.mixup" in capsys.readouterr().err


@pytest.mark.parametrize(
    "asked", [("--explain",), ("--config", "configs/quickstart.yaml", "--print")]
)
def test_who_reads_only_the_first_lines_gets_no_traceback(asked):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "launch.py", *asked]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_explain_needs_no_torch():
    script = "import sys, launch; launch.main(['--explain']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
