"""Write docs/recipe_keys.md and docs/recipe.schema.json from the recipe's dataclasses.

python docs/write_recipe_keys.py
"""

import json
from pathlib import Path

from trainer import recipe_keys

HERE = Path(__file__).parent


def contents() -> dict[Path, str]:
    """What each file has to be."""
    schema = json.dumps(recipe_keys.json_schema(), indent=2) + "\n"
    return {HERE / "recipe_keys.md": recipe_keys.as_markdown(), HERE / "recipe.schema.json": schema}


if __name__ == "__main__":
    for path, text in contents().items():
        path.write_text(text, encoding="utf-8")
