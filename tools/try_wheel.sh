#!/bin/sh
# Build the wheels, install them with the locked dependencies in an empty environment, and use them
# from another directory: what they lack would be found in a checkout. The native one comes last,
# since all else must work without it.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo "$PWD/.bootstrap/bin/uv")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
rm -rf dist
"$uv" build --quiet --wheel --out-dir dist
native=""
if pkg-config --exists libjpeg 2>/dev/null; then
    "$uv" build --quiet --wheel --out-dir dist native
    native=$(echo "$PWD"/dist/millstream_native-*.whl)
fi
UV_PROJECT_ENVIRONMENT="$place/env" UV_PYTHON_DOWNLOADS=never \
    "$uv" sync --quiet --locked --no-dev --no-install-project
"$uv" pip install --quiet --python "$place/env/bin/python" --no-deps dist/millstream-*-py3-none-any.whl

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
if [ -n "$native" ]; then
    "$uv" pip install --quiet --python env/bin/python --no-deps "$native"
    python - <<'PYTHON'
from importlib.metadata import packages_distributions

import millstream_native
import numpy as np

assert packages_distributions()["millstream_native"] == ["millstream-native"]
assert "site-packages" in millstream_native.__file__, millstream_native.__file__
one, corner, size = (np.array([[n, n]], np.int32) for n in (1, 0, 1))
region = one.astype(np.float32)
out = np.zeros((1, 8, 8, 3), np.uint8)
with millstream_native.Pool(1) as pool:
    failures = millstream_native.decode_crops(
        pool, [b"GIF"], one, corner, size, region - 1, region, np.array([False]), out
    )
assert failures == [(0, "unsupported", "not a JPEG")]
PYTHON
fi
echo "what works: $(ls "$OLDPWD"/dist/*.whl)"
