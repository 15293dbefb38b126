"""Pages of the site that are no files in docs/: the README, the tour, the code's reference.

Links are written for those who read the repository. Here they are turned to pages of the site; if
what they lead to is no page, such as raw results, only their text is left.
"""

import importlib.util
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
FROM_ABOVE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "native/README.md": "native.md",
}
"""Path in the repository -> page."""
_PACKAGES = ("models", "pipeline", "trainer")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, page in FROM_ABOVE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "tour.md", content=tour()))
    for package in packages():
        name = ".".join(package.relative_to(ROOT).parts)
        files.append(File.generated(config, f"api/{name}.md", content=reference(package)))
    return files


def packages() -> list[Path]:
    """The folders of the packages that have a page of the reference."""
    found = (path.parent for name in _PACKAGES for path in (ROOT / name).rglob("__init__.py"))
    return sorted(found)


def tour() -> str:
    """The steps of docs/tour.py, to be read."""
    spec = importlib.util.spec_from_file_location("tour", ROOT / "docs" / "tour.py")
    assert spec is not None, "it is a Python file"
    assert spec.loader is not None, "it is a Python file"
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    lines = ["# A tour of five minutes", "", "    python docs/tour.py", ""]
    lines += ["goes these steps on a CPU and says what comes of each.", ""]
    known = {"folder": "tour", "epochs": script.EPOCHS}
    for number, step in enumerate(script.STEPS, start=1):
        lines += [f"## {number}. {step.title}", "", step.text.format(**known), ""]
        lines += [f"    {command.format(**known)}\n" for command in step.commands]
    return "\n".join(lines)


def reference(package: Path) -> str:
    """A page: what the package says of itself, then each of its modules."""
    name = ".".join(package.relative_to(ROOT).parts)
    lines = [f"# {name}", "", f"::: {name}", "    options:", "      members: []"]
    lines += ["      show_root_heading: false", "      show_root_toc_entry: false", ""]
    for module in sorted(package.glob("[!_]*.py")):
        lines += [f"::: {name}.{module.stem}", ""]
    return "\n".join(lines)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository to pages of the site."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    pages = {page: path for path, page in FROM_ABOVE.items()}
    here = pages.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def target(link: str) -> str | None:
        """Where `link`, of the file `here`, leads on the site; None if to no page or file of it."""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
        there = FROM_ABOVE.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(there) is None and (ROOT / path).exists():
            return None
        return posixpath.relpath(there, posixpath.dirname(page.file.src_uri) or ".")

    def turned(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        if "://" in link:
            return match[0]
        there = target(link)
        return text if there is None else f"[{text}]({there}{anchor})"

    markdown = _LINK.sub(turned, markdown)
    return _PICTURE.sub(lambda m: f"{m[1]}{target(m[2])}{m[3]}", markdown)
