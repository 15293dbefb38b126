#!/bin/sh
# Make .venv from uv.lock. Needs python3 >= 3.10 and nothing else: what is missing is installed
# with apt where that is allowed, and named in one sentence where it is not.
set -eu
cd "$(dirname "$0")/.."

has_file() { test -e "$1"; }
python_header() {
    python3 -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")'
}

missing=""
command -v g++ >/dev/null || missing="$missing g++"
has_file "$(python_header)" || missing="$missing python3-dev"
if ! command -v uv >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing="$missing python3-venv"
fi
# FFCV builds against these.
command -v pkg-config >/dev/null || missing="$missing pkg-config"
if ! command -v pkg-config >/dev/null || ! pkg-config --exists opencv4; then
    missing="$missing libopencv-dev"
fi
if ! command -v pkg-config >/dev/null || ! pkg-config --exists libturbojpeg; then
    missing="$missing libturbojpeg0-dev"
fi
# The native extension too, with the C library beside the one that FFCV takes.
if ! command -v pkg-config >/dev/null || ! pkg-config --exists libjpeg; then
    missing="$missing libjpeg-dev"
fi

if [ -n "$missing" ]; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
    echo "Installing system packages:$missing"
    # shellcheck disable=SC2086  # both are lists of words
    if ! { command -v apt-get >/dev/null && $as_root apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq $missing >/dev/null; }; then
        echo "Could not: please run 'sudo apt-get install$missing' and then 'make env' again" \
            "(without libopencv-dev, libturbojpeg0-dev and pkg-config all but FFCV works, without" \
            "libjpeg-dev all but the host loader)." >&2
    fi
fi

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    if [ ! -x .bootstrap/bin/uv ]; then
        python3 -m venv .bootstrap
        .bootstrap/bin/pip install --quiet uv
    fi
    uv=.bootstrap/bin/uv
fi

ffcv="--extra ffcv"
if ! pkg-config --exists opencv4 libturbojpeg 2>/dev/null; then ffcv=""; fi
native="--extra native"
if ! command -v g++ >/dev/null || ! pkg-config --exists libjpeg 2>/dev/null; then native=""; fi
# shellcheck disable=SC2086  # empty or two words each
UV_PYTHON_DOWNLOADS=never "$uv" sync --locked --compile-bytecode --python "$(command -v python3)" \
    --extra imagenet --extra remote --extra ray --extra wandb --extra trackio --group docs $ffcv $native
