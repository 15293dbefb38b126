"""The figures in docs/shards.md are those of the committed raw results."""

import re

from benchmarks import data_tables


def test_the_page_has_every_table_and_no_other():
    text = data_tables.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(data_tables.tables())


def test_the_page_is_made_from_the_committed_results():
    text = data_tables.PAGE.read_text(encoding="utf-8")
    assert data_tables.page(text) == text
