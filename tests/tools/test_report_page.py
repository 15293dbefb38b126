"""The report in a real browser: drawn, sorted, readable in both widths and colours, and alone."""

import pytest

from tests.support.browser import Browser
from tests.support.reported_runs import write_run
from tools import report_run

WORDS = ["cat", "<script>hurt=1</script>", "dog", "dog", "a very long name of a class indeed"]
DRAWN = (
    "[...document.querySelectorAll('[data-chart]')].map(p => p.querySelectorAll('.trace').length)"
)
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
TEXT = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"


@pytest.fixture(scope="module")
def pages(tmp_path_factory, image_folder):
    root = tmp_path_factory.mktemp("runs")
    runs = [
        write_run(root, image_folder, name="first", words=WORDS),
        write_run(root, image_folder, name="second <i>", words=WORDS, lr=2e-3),
    ]
    assert report_run.main([str(runs[0])]) == 0
    assert report_run.main([*map(str, runs)]) == 0
    return runs[0] / "report.html", root / "report.html"


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=[0, 1], ids=["one run", "two runs"])
def page(request, browser, pages):
    """Opened once: the tests of it come in their order."""
    browser.look(width=1400)
    browser.said.clear()
    browser.asked.clear()
    browser.open(pages[request.param])
    return pages[request.param]


def test_every_chart_is_drawn_and_the_console_is_silent(browser, page):
    drawn = browser.run(DRAWN)
    titles = browser.run("[...document.querySelectorAll('.charts h3')].map(h => h.textContent)")
    assert titles[:2] == ["Top-1, %", "Loss"]
    assert len(titles) == 6
    heat = browser.run("document.querySelectorAll('.heatmaplayer image').length")
    if page.parent.name == "first":
        assert heat == 1
    assert all(count >= 1 for count in drawn[:6])
    assert browser.said == []


def test_no_address_but_the_file_is_asked_for_and_none_may_be(browser, page):
    assert set(browser.asked) == {page.resolve().as_uri()}
    browser.asked.clear()
    refused = browser.run("fetch('http://localhost:9').then(() => 'went', () => 'refused')")
    assert (refused, browser.asked) == ("refused", [])
    assert any("Content Security Policy" in text for text in browser.said)


def test_nothing_that_users_wrote_becomes_markup(browser, page):
    assert browser.run("typeof hurt") == "undefined"
    assert (
        browser.run("document.querySelectorAll('main script, main img[src=x], main i b').length")
        == 0
    )
    shown = browser.run("document.body.innerText")
    assert "<script>hurt=1</script>" in shown


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_the_window_and_colours_follow(browser, page, width, dark):
    browser.look(width=width, dark=dark)
    browser.settle()
    browser.until(f"document.documentElement.scrollWidth === {width}")
    for colour, is_light in ((BACKGROUND, not dark), (TEXT, dark)):
        red = int(browser.run(colour).strip("rgb()").split(",")[0])
        assert (red > 128) == is_light, colour
    # Charts follow a moment later.
    browser.until(
        "[...document.querySelectorAll('.main-svg')]"
        ".every(drawn => drawn.getBoundingClientRect().right <= innerWidth)"
    )


def test_tables_sort_by_the_head_that_is_clicked(browser, page):
    click = "document.querySelectorAll('#classes th button')[{n}].click()"
    rows = "[...document.querySelector('#classes tbody').rows].map(r => r.cells[{n}]{what})"
    number = rows.format(n=1, what=".dataset.value * 1")
    browser.run(click.format(n=1))
    up = browser.run(number)
    assert up == sorted(up)
    assert len(up) == 5
    browser.run(click.format(n=1))
    assert browser.run(number) == up[::-1]
    browser.run(click.format(n=0))
    names = browser.run(rows.format(n=0, what=".textContent"))
    plain = [name for name in names if "<" not in name]
    assert plain == sorted(plain) != []
    head = "document.querySelectorAll('#classes th')[{n}].getAttribute('aria-sort')"
    assert browser.run(head.format(n=0)) == "ascending"
    assert browser.run(head.format(n=1)) is None


def test_steps_chosen_in_one_chart_are_shown_in_all(browser, page):
    charts = "[...document.querySelectorAll('.charts [data-chart]')]"
    dragged = "{'xaxis.range[0]': 5, 'xaxis.range[1]': 15}"  # as a pointer says it
    browser.run(f"Plotly.relayout({charts}[2], {dragged}).then(() => 1)")
    browser.until(f"{charts}.every(chart => chart.layout.xaxis.range.join() === '5,15')")


def test_two_runs_stand_beside_each_other_with_what_differs(browser, page):
    heads = "[...document.querySelectorAll('#classes thead th')].map(h => h.innerText.trim())"
    if page.parent.name == "first":
        assert "taken for most" in browser.run(heads)
        return
    rows = browser.run("[...document.querySelectorAll('#recipes tbody tr')].map(r => r.innerText)")
    assert rows == ["optim.lr\t0.001\t0.002"]
    names = browser.run(
        "[...document.querySelector('#results tbody').rows].map(r => r.cells[0].innerText)"
    )
    assert names == ["first", "second <i>"]
    assert "spread" in browser.run(heads)
