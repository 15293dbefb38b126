"""Pages of docs/ whose tables are made: each stands between `<!-- NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Mapping


def filled(text: str, tables: Mapping[str, str]) -> str:
    """Return `text` with everything in its place.

    Raises:
        KeyError: if a mark names no table.
    """

    def fill(mark: re.Match[str]) -> str:
        return f"<!-- {mark[1]} -->\n\n{tables[mark[1]]}\n\n<!-- end -->"

    return re.sub(r"<!-- ([^>]+?) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)
