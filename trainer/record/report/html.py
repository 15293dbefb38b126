"""HTML whose strings are escaped unless they are HTML already; tables that sort."""

from collections.abc import Sequence
from html import escape


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


Cell = str | int | float | None
"""Text, or a number, by which a column sorts; None where there is nothing."""


def element(name: str, *children: str | None, **attributes: str | None) -> Html:
    """An element with children, of which text is escaped and None left out.

    Args:
        name: of the element.
        children: `Html`, or text.
        attributes: `_` in names is written `-`, and `class_` is `class`; None leaves one out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: str | None) -> Html:
    """Children beside each other."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(child)
            for child in children
            if child is not None
        )
    )


def image(source: str, words: str, *, class_: str | None = None) -> Html:
    """A picture, from a `data:` address."""
    said = f' class="{escape(class_)}"' if class_ else ""
    return Html(f'<img src="{escape(source)}" alt="{escape(words)}" loading="lazy"{said}>')


def section(title: str, *children: str | None, note: str = "") -> Html:
    """A section of the page, with its place in the list of contents."""
    name = title.lower().replace(" ", "-")
    small = element("p", note, class_="note") if note else None
    return element("section", element("h2", title), small, *children, id=name)


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, tall: bool = False) -> Html:
    """A table that sorts by the column whose head is clicked.

    Args:
        header: of the columns.
        rows: text or numbers; a column of numbers is set to the right.
        tall: scrolls by itself where it has many rows.
    """
    numeric = [
        any(isinstance(row[i], (int, float)) for row in rows)
        and not any(isinstance(row[i], str) and not isinstance(row[i], Html) for row in rows)
        for i in range(len(header))
    ]
    heads = [
        element(
            "th",
            element("button", title, type="button"),
            scope="col",
            class_="number" if is_number else None,
        )
        for title, is_number in zip(header, numeric, strict=True)
    ]
    body = [
        element("tr", *(_cell(value, n) for value, n in zip(row, numeric, strict=True)))
        for row in rows
    ]
    made = element("table", element("thead", element("tr", *heads)), element("tbody", *body))
    return element("div", made, class_="table tall" if tall else "table")


def definitions(pairs: Sequence[tuple[str, str]]) -> Html:
    """Names and what they are."""
    lines = [element("div", element("dt", name), element("dd", said)) for name, said in pairs]
    return element("dl", *lines)


def number(value: float) -> str:
    """A number in few digits, such as 98.33, 0.0012, 1,234."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _cell(value: Cell, is_number: bool) -> Html:
    class_ = "number" if is_number else None
    if value is None:
        return element("td", "-", class_=class_)
    if isinstance(value, str):
        return element("td", value, class_=class_)
    return element("td", number(value), class_=class_, data_value=repr(value))
