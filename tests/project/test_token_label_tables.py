"""The figures of docs/token_labels.md are those of the committed raw results."""

import re

from benchmarks.token_labels import tables


def test_the_page_is_made_from_the_committed_results():
    text = tables.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(tables.tables(tables.read()))
    assert tables.page(text, tables.read()) == text


def test_accuracies_are_those_of_the_epochs_that_the_heads_name():
    runs = {"a": [{"epoch": 9, "top1": 51.66}, {"epoch": 19, "top1": 88.9}]}
    assert tables.students_table(runs).splitlines() == [
        "| top-1 in % after epoch | 10 | 20 |",
        "|---|---:|---:|",
        "| a | 51.7 | 88.9 |",
    ]
