"""The site's navigation has every page once, and links of the repository lead to pages of the site.

`make docs` builds all of it and refuses warnings; this is what can be known without that.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def pages():
    """docs/site/pages.py, which MkDocs loads by its path, too."""
    spec = importlib.util.spec_from_file_location("site_pages", SITE / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(nav):
    for item in nav:
        below = next(iter(item.values())) if isinstance(item, dict) else item
        yield from [below] if isinstance(below, str) else leaves(below)


def all_pages(pages):
    docs = ROOT / "docs"
    written = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    names = [".".join(package.relative_to(ROOT).parts) for package in pages.packages()]
    return written | set(pages.FROM_ABOVE.values()) | {"tour.md"} | {f"api/{n}.md" for n in names}


def test_every_page_is_in_the_navigation_once(pages):
    nav = yaml.safe_load((SITE / "mkdocs.yml").read_text())["nav"]
    assert sorted(leaves(nav)) == sorted(all_pages(pages))


def test_every_module_is_in_the_reference(pages):
    text = "\n".join(pages.reference(package) for package in pages.packages())
    for name in ("models", "pipeline", "trainer"):
        for path in (ROOT / name).rglob("[!_]*.py"):
            assert f"::: {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}\n" in text


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("index.md", "[a](docs/zoo/vip.md)", "[a](zoo/vip.md)"),
        ("index.md", "![b](docs/model_zoo.png)", "![b](model_zoo.png)"),
        ("index.md", "[c](CONTRIBUTING.md) [d](#start)", "[c](contributing.md) [d](#start)"),
        ("index.md", "[raw](benchmarks/results/quickstart)", "raw"),
        ("index.md", "[e](docs/no_such.md)", "[e](no_such.md)"),
        ("pipeline.md", "[f](../native/README.md)", "[f](native.md)"),
        ("zoo/vip.md", "[g](../models.md#gfnet)", "[g](../models.md#gfnet)"),
        ("native.md", "[h](millstream_native/_native.pyi)", "h"),
        ("index.md", "[i](https://arxiv.org/abs/1)", "[i](https://arxiv.org/abs/1)"),
    ],
)
def test_links_lead_to_pages_and_what_is_no_page_loses_its_link(pages, page, text, expected):
    known = all_pages(pages) | {"model_zoo.png"}
    files = SimpleNamespace(get_file_from_path=lambda path: path if path in known else None)
    here = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert pages.on_page_markdown(text, here, None, files) == expected
