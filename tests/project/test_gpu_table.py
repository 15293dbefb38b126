"""The figures in docs/gpu_speed.md are those of the committed raw results."""

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import table


def test_the_page_has_every_table_and_no_other():
    text = table.PAGE.read_text(encoding="utf-8")
    marks = re.findall(r"<!-- (?!end)([^>]+?) -->", text)
    assert sorted(marks) == sorted(table.tables())


def test_the_page_is_made_from_the_committed_results():
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.page(text) == text


def test_tables_are_made_without_deepspeed():
    script = "import sys, benchmarks.gpu.table; sys.exit('deepspeed' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
