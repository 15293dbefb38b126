"""Who imports whom: an import points to a smaller number, heavy libraries have owners."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("pipeline", "models", "trainer", "tools", "benchmarks")
FILES = sorted([ROOT / "launch.py", *(f for name in FOLDERS for f in (ROOT / name).rglob("*.py"))])

LEVELS = {
    "pipeline": 0,
    "pipeline.storage": 1,
    "pipeline.images": 1,
    "pipeline.augment.policies": 1,
    "pipeline.augment.fused": 1,
    "pipeline.augment": 2,
    "models.kernels": 0,
    "models.layers": 1,
    "pipeline.formats": 2,
    "models.trunks": 2,
    "models": 3,
    "models.weights": 4,
    "pipeline.loaders": 3,
    "trainer.optimization": 4,
    "trainer": 5,
    "trainer.recipe": 6,
    "trainer.recipe_keys": 7,
    "trainer.input_spec": 7,
    "trainer.process.early_checks": 7,
    "trainer.engine": 7,
    "trainer.sinks": 6,
    "trainer.record": 7,
    "trainer.record.announcement": 8,
    "trainer.record.log": 8,
    "trainer.watch.step_watch": 8,
    "trainer.record.report": 8,
    "trainer.record.run_folder": 7,
    "trainer.ema": 9,
    "trainer.record.checkpoint": 9,
    "trainer.initial_weights": 10,
    "trainer.tuning": 8,
    "trainer.job": 9,
    "trainer.evaluation": 10,
    "trainer.record.saver": 10,
    "trainer.loop": 11,
    "trainer.objective": 10,
    "trainer.distillation": 10,
    "trainer.capacity": 10,
    "trainer.assembly": 12,
    "launch": 13,
    # Above the trainer, so that training cannot import what prepares data.
    "pipeline.prepare": 0,
    "pipeline.prepare.layouts": 12,
    "pipeline.prepare.writers": 12,
    "pipeline.prepare.conversion": 13,
    "pipeline.prepare.checking": 14,
    "tools.cli": 15,
    "tools.trained": 16,
    "tools.speed": 16,
    "tools.tuning": 16,
    "tools.preview": 16,
    "tools": 17,
    "benchmarks": 18,
}
"""The longest prefix of a module's name decides. Equal levels: only within one folder."""

OWNERS = {
    "deepspeed": ("trainer.engine",),
    "nvidia": ("pipeline.loaders.dali_graph", "pipeline.loaders.dali_operations"),
    "ffcv": ("pipeline.prepare.writers.ffcv_library",),
    "fsspec": ("pipeline.storage.remote",),
    "ray": ("pipeline.prepare.conversion.ray_executor",),
    "timm": ("models", "trainer.optimization.optim", "pipeline.augment.reference_operations"),
    "tensorboard": ("trainer.sinks.tensorboard_sink",),
    "wandb": ("trainer.sinks.wandb_sink",),
    "trackio": ("trainer.sinks.trackio_sink",),
    "triton": ("models.kernels", "pipeline.augment.fused"),
    "yaml": ("trainer.yaml_config",),
    "pydantic": ("trainer.yaml_config",),
    "pydantic_core": ("trainer.yaml_config",),
}
"""What is shipped imports a heavy library in these places alone; benchmarks measure them all."""
SHIPPED = [path for path in FILES if "benchmarks" not in path.relative_to(ROOT).parts]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def level(module: str) -> int:
    prefixes = [name for name in LEVELS if module == name or module.startswith(f"{name}.")]
    return LEVELS[max(prefixes, key=len)]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {module_name(file) for file in FILES}
            found |= {name if name in files else node.module for name in inner}
    return found


def folder(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path if path.is_dir() else path.parent


def ours(module: str) -> bool:
    return module.partition(".")[0] in (*FOLDERS, "launch")


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downwards(path):
    me = module_name(path)
    for other in filter(ours, imports(path)):
        one_room = folder(other) == path.parent or me.startswith("benchmarks.")
        beside = level(other) == level(me) and one_room
        allowed = level(other) < level(me) or beside
        assert allowed, f"{me} (level {level(me)}) imports {other} (level {level(other)})"
        if me.startswith("pipeline"):
            assert other.startswith("pipeline"), f"{me} imports {other}"
        if me.startswith("models"):
            assert other.startswith("models"), f"{me} imports {other}"


@pytest.mark.parametrize("path", SHIPPED, ids=module_name)
def test_heavy_libraries_are_imported_by_their_owners_alone(path):
    me = module_name(path)
    for library in {name.partition(".")[0] for name in imports(path)} & OWNERS.keys():
        owners = OWNERS[library]
        assert any(me == owner or me.startswith(f"{owner}.") for owner in owners), (
            f"{me} imports {library}, which belongs to {', '.join(owners)}"
        )


def test_no_circle_of_imports():
    graph = {module_name(path): set(filter(ours, imports(path))) for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


TRAINING = [path for path in FILES if module_name(path).startswith(("trainer", "launch"))]
TRAINING += [path for path in FILES if module_name(path).startswith("pipeline.loaders")]


def test_training_reaches_nothing_that_prepares_data():
    graph = {module_name(path): imports(path) for path in FILES}
    reached, open_ends = set(), {module_name(path) for path in TRAINING}
    while open_ends:
        reached |= open_ends
        open_ends = {other for me in open_ends for other in graph.get(me, ())} - reached
    assert not [name for name in reached if name.startswith(("pipeline.prepare", "tools"))]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_what_is_shipped_imports_no_benchmark(path):
    if path in SHIPPED:
        assert not [name for name in imports(path) if name.partition(".")[0] == "benchmarks"]


EVERYTHING = sorted([*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.py")])
NAMED = re.compile(r"\bfrom ((?:pipeline|models|trainer|tools|benchmarks)[\w.]*) import (\w+)")


def test_what_scripts_inside_strings_import_exists():
    """No linter sees them."""
    modules = {module_name(path) for path in FILES}
    for path in EVERYTHING:
        for module, name in NAMED.findall(path.read_text(encoding="utf-8")):
            assert module in modules, f"{path.relative_to(ROOT)}: {module}"
            inside = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            if inside.exists():
                text = inside.read_text(encoding="utf-8")
                assert re.search(rf"\b{name}\b", text), f"{path.relative_to(ROOT)}: {name}"


PACKAGES = [path for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", PACKAGES, ids=module_name)
def test_a_package_names_all_of_its_modules_and_no_others(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    files = {file.stem for file in path.parent.glob("*.py")} - {"__init__"}
    folders = {folder.parent.name for folder in path.parent.glob("*/*.py")}
    listed = [part for part in docstring.split("\n\n") if part.startswith("- ")]
    assert set(re.findall(r"`(\w+)`", "".join(listed))) == files | folders


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda f: f.name)
def test_no_room_is_crowded(folder):
    # Of tools, benchmarks and families of models there is a file each.
    limit = 24 if folder.name in ("tools", "benchmarks", "models") else 16
    assert len([f for f in folder.glob("*.py") if f.name != "__init__.py"]) <= limit
