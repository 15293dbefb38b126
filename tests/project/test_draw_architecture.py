"""The picture of the architecture can be drawn from the imports as they are."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "draw_architecture.py"


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("draw_architecture", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_room_stands_above_all_that_it_imports(drawing):
    names = set(drawing.rooms())
    pairs = drawing.arrows(names)
    rows = drawing.heights(names, pairs)
    assert {"launch", "trainer", "trainer.record", "pipeline.prepare.checking"} <= rows.keys()
    assert all(rows[a] > rows[b] for a, b in pairs)


def test_a_circle_is_an_error_and_no_endless_loop(drawing):
    with pytest.raises(ValueError, match="in a circle: a, b"):
        drawing.heights({"a", "b", "c"}, {("a", "b"), ("b", "a"), ("a", "c")})
