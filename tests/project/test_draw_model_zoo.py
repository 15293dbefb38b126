"""The picture of the zoo shows what the table says."""

import csv
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_each_model_with_an_accuracy_at_224_pixels_is_a_point_of_its_family():
    drawing = runpy.run_path(str(DOCS / "draw_model_zoo.py"))
    with (DOCS / "model_zoo.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] not in drawing["APART"]]
    expected = {
        (int(row["parameters"]) / 1e6, int(row["macs"]) / 1e9, float(row["paper_top1"]))
        for row in rows
        if (row["input_pixels"], row["classes"]) == ("224", "1000") and row["paper_top1"]
    }
    found = drawing["points"]()
    assert {point for points in found.values() for point in points} == expected
    assert len(found) <= len(drawing["COLOURS"])
    assert [len(found[key]) for key in ("dynamixer", "cyclemlp_b", "cyclemlp")] == [3, 5, 3]
