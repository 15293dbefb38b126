"""The figures in docs/gpu_speed.md are those of the committed raw results."""

import re

from benchmarks.gpu import table


def test_the_page_has_every_table_and_no_other():
    text = table.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(table.tables())


def test_the_page_is_made_from_the_committed_results():
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.page(text) == text
