"""What README and CONTRIBUTING tell a user to type exists: files, targets, flags, recipe keys."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import yaml_config
from trainer.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")
MADE_BY_USERS = ("runs/", "shards/", "data/", "/", ".venv")


def typed_lines() -> list[list[str]]:
    """Indented lines and inline code that start with a program of ours."""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    programs = ("make", "python", "deepspeed", "torchrun", "srun")
    lines = [shlex.split(line.partition(" #")[0].partition(" ...")[0]) for line in blocks]
    return [line for line in lines if len(line) > 1 and line[0] in programs]


LINES = typed_lines()


def test_there_are_commands():
    assert len(LINES) >= 10


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_file_that_is_named_exists(line):
    for word in line[1:]:
        if re.fullmatch(r"[\w./-]+\.(py|yaml)", word) and not word.startswith(MADE_BY_USERS):
            assert (ROOT / word).exists()


@pytest.mark.parametrize("line", [x for x in LINES if x[0] == "make"], ids=" ".join)
def test_a_make_target_that_is_named_exists(line):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line[1] in targets


@pytest.mark.parametrize("line", [x for x in LINES if "--config" in x], ids=" ".join)
def test_overrides_that_are_shown_are_valid(line):
    config = ROOT / line[line.index("--config") + 1]
    overrides = [word for word in line if re.fullmatch(r"[a-z_.]+=\S+", word)]
    yaml_config.load(Recipe, config, overrides)


TOOLS = sorted({ROOT / word for line in LINES for word in line if word.startswith("tools/")})


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
def test_every_tool_and_flag_that_is_shown_is_in_its_help(tool):
    shown = subprocess.run(
        [sys.executable, tool, "--help"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    for line in LINES:
        if f"tools/{tool.name}" in line:
            for flag in (word for word in line if word.startswith("--")):
                assert flag in shown.stdout


ALL_PAGES = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
