"""docs/zoo: each family has its page, and what stands there is so."""

import csv
import importlib
import re
from pathlib import Path

import pytest

import models

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "zoo").glob("*.md")}
SECTIONS = ["Idea", "Formula", "Variants", "Numbers", "The authors' code, and ours"]
WITHIN = {"amixer_windowed": "amixer"}
"""Families that share a page with another."""


@pytest.mark.parametrize("family", models.FAMILIES)
def test_a_familys_page_names_its_variants(family):
    page = PAGES[WITHIN.get(family, family)]
    if family == "splitmixer":
        page += PAGES["convmixer"]
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert set(importlib.import_module(f"models.{family}").__all__) & set(models.names()) <= named


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_every_section_in_order_and_is_linked(page):
    assert re.findall("^## (.*)$", PAGES[page], re.MULTILINE) == SECTIONS
    assert f"](zoo/{page}.md)" in (DOCS / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_idea_takes_five_sentences(page):
    idea = PAGES[page].partition("## Idea")[2].partition("## Formula")[0]
    assert len(re.findall(r"[.!?](?=\s)", idea)) == 5


@pytest.mark.parametrize("page", PAGES)
def test_the_formula_is_a_block_of_its_own(page):
    lines = PAGES[page].partition("## Formula")[2].partition("## Variants")[0].splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("    ")]
    assert starts
    # Markdown takes what follows a line of text for more of it.
    assert all(not lines[n - 1] or n - 1 in starts for n in starts)


def test_the_pages_counts_are_the_zoos():
    with (DOCS / "model_zoo.csv").open(encoding="utf-8", newline="") as file:
        zoo = {row["model"]: (row["parameters"], int(row["macs"])) for row in csv.DictReader(file)}
    row = re.compile(r"^\| `(\w+)` \|.*\| ([\d,]+) \| ([\d.]+) \|$", re.MULTILINE)
    found = [match for page in PAGES.values() for match in row.findall(page)]
    assert set(models.names()) <= {name for name, _, _ in found}
    for name, parameters, billions in found:
        counted, macs = zoo[name]
        assert parameters.replace(",", "") == counted, name
        digits = len(billions.partition(".")[2])
        assert billions == f"{macs / 1e9:.{digits}f}", name


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https:)([^)]+)\)", PAGES[page]):
        assert (DOCS / "zoo" / target).exists(), target
    for path in re.findall(r"`(models/[\w/]+\.py)`", PAGES[page]):
        assert (DOCS.parent / path).exists(), path
