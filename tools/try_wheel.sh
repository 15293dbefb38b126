#!/bin/sh
# Build the wheel, install it with the locked dependencies in an empty environment, and use it from
# another directory: what it lacks would be found in a checkout.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo "$PWD/.bootstrap/bin/uv")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
rm -rf dist
"$uv" build --quiet --wheel --out-dir dist
if pkg-config --exists libjpeg 2>/dev/null; then
    "$uv" build --quiet --wheel --out-dir dist native
fi
UV_PROJECT_ENVIRONMENT="$place/env" UV_PYTHON_DOWNLOADS=never \
    "$uv" sync --quiet --locked --no-dev --no-install-project
"$uv" pip install --quiet --python "$place/env/bin/python" --no-deps dist/millstream-*.whl

cd "$place"
PATH="$place/env/bin:$PATH"
make-shards --help >/dev/null
python - <<'PYTHON'
from importlib.metadata import packages_distributions
from importlib.resources import files

import launch
import models
import pipeline
import trainer

for package in ("pipeline", "models", "trainer", "tools"):
    assert packages_distributions()[package] == ["millstream"], package
config = files("configs") / "dynamixer_l.yaml"
assert launch.main(["--config", str(config), "--print"]) == 0
assert "dynamixer_l" in models.names()
for package in (pipeline, models, trainer):
    assert "site-packages" in str(package.__file__), package.__file__
PYTHON
echo "the wheel works: $(ls "$OLDPWD"/dist/millstream-*.whl)"
