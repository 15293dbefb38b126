"""Draw docs/report.png: two parts of a run's report in a browser, light and dark.

    PYTHONPATH=. python docs/draw_report.py runs/quickstart

The run is that of `make quickstart`, complete. Needs Debian's chromium.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.support.browser import Browser

WIDTH, HEIGHT = 1060, 1180
"""Of each part in pixels."""


def main() -> None:
    """Take both pictures, and put them beside each other."""
    page = Path(sys.argv[1], "report.html")
    output = Path(__file__).with_name("report.png")
    whole = Image.new("RGB", (2 * WIDTH, HEIGHT))
    with Browser() as browser, tempfile.TemporaryDirectory() as folder:
        for part, (is_dark, start) in enumerate(((False, "header"), (True, "#a-batch"))):
            browser.look(width=WIDTH, height=HEIGHT, dark=is_dark)
            browser.open(page)
            scroll = f"document.querySelector('{start}').getBoundingClientRect().top - 24"
            browser.run("document.documentElement.style.scrollBehavior = 'auto'")
            browser.run(f"scrollTo(0, {scroll})" if part else "scrollTo(0, 0)")
            browser.settle()
            taken = Path(folder, "part.png")
            browser.picture(taken)
            whole.paste(Image.open(taken), (part * WIDTH, 0))
    whole.save(output, optimize=True)
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
