"""Packages for a machine without a network: packed from wheels, verified, unpacked, imported."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torchvision
import triton.backends.nvidia

from benchmarks.gpu.packages import pack, unpack
from benchmarks.gpu.packages.slim import keep_architecture

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}{sys.version_info.minor}"
NAMES = ("hjson", "simplejpeg")
"""One in Python alone, one with a compiled part."""


def write_wheel(folder, name):
    """Put an installed package back into a wheel."""
    found = metadata.distribution(name)
    with zipfile.ZipFile(folder / f"{name}-{found.version}-py3-none-any.whl", "w") as wheel:
        for file in found.files:
            if ".." not in file.parts:
                wheel.write(found.locate_file(file), str(file))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for name in NAMES:
        write_wheel(folder, name)
    return folder


@pytest.fixture(scope="module")
def packed(wheels, tmp_path_factory):
    output = tmp_path_factory.mktemp("packed") / "packages"
    command = [str(wheels), "--output", str(output), "--python", PYTHON, "--limit-mib", "1"]
    assert pack.main(command) == 0
    return output


@pytest.fixture
def packages(packed, tmp_path):
    """A copy, to be damaged."""
    return Path(shutil.copytree(packed, tmp_path / "packages"))


def unpacked(packages, site):
    return unpack.main([str(packages), str(site)])


def test_what_is_packed_can_be_imported_there(packages, tmp_path):
    site = tmp_path / "site"
    assert unpacked(packages, site) == 0
    script = "import hjson, simplejpeg; from importlib import metadata\n"
    script += "print(hjson.__file__, simplejpeg.__file__, metadata.version('hjson'))"
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.count(str(site)) == len(NAMES)
    assert metadata.version("hjson") in said


def test_parts_are_no_larger_than_they_may_be(wheels, packages):
    parts = json.loads((packages / "packages.json").read_text("utf-8"))["parts"]
    assert len(parts) >= 1
    assert all(part["bytes"] <= 1 << 20 for part in parts)
    assert {part["name"] for part in parts} == {f.name for f in packages.glob("*.tar.xz.*")}


def test_a_damaged_part_is_refused_before_anything_is_unpacked(packages, tmp_path, capsys):
    part = packages / "packages.tar.xz.000"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert unpacked(packages, tmp_path / "site") == 2
    assert "damaged on the way" in capsys.readouterr().err
    assert list((tmp_path / "site").iterdir()) == []


def test_a_part_that_has_not_come_yet_is_named(packages, tmp_path, capsys):
    (packages / "packages.tar.xz.000").unlink()
    assert unpacked(packages, tmp_path / "site") == 2
    assert "has no packages.tar.xz.000 yet" in capsys.readouterr().err


def test_the_same_packages_are_unpacked_once(packages, tmp_path, capsys):
    site = tmp_path / "site"
    assert unpacked(packages, site) == 0
    capsys.readouterr()
    assert unpacked(packages, site) == 0
    assert capsys.readouterr().out == ""


def test_a_folder_that_others_can_write_into_is_refused(packages, tmp_path, capsys):
    site = tmp_path / "site"
    site.mkdir()
    site.chmod(0o777)
    assert unpacked(packages, site) == 2
    assert "others may write into it" in capsys.readouterr().err


def test_all_sh_puts_the_packages_on_the_path(packages, tmp_path):
    done = subprocess.run(
        ["sh", str(ROOT / "benchmarks/gpu/all.sh"), "--packages", str(packages), "--help"],
        env={**os.environ, "PYTHON": sys.executable, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout
    assert (tmp_path / f"millstream-gpu-{os.getuid()}" / "hjson").is_dir()


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path, target=None):
        if name in ("deepspeed", "nvidia.dali", "pydantic", "plotly", "simplejpeg", "webdataset",
                    "zlib_ng", "argcomplete", "millstream_native"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import benchmarks.gpu.run_all, benchmarks.gpu.kernel_speed, benchmarks.gpu.model_speed
import benchmarks.bench_model
"""


def test_kernels_and_models_are_measured_without_what_has_to_be_brought():
    subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, check=True)


def test_modules_for_another_python_are_left_out(wheels):
    (wheel,) = wheels.glob("simplejpeg*.whl")

    def compiled(python):
        files = pack.members(wheel, python=python, arch=90)
        return [member.path for member in files if ".cpython-" in member.path]

    assert compiled(PYTHON)
    assert not compiled("399")


def test_two_versions_of_a_package_are_refused(tmp_path, capsys):
    for version in ("1.0", "2.0"):
        (tmp_path / f"some-{version}-py3-none-any.whl").touch()
    assert pack.main([str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "keep one of them" in capsys.readouterr().err


def architectures(library):
    """Of the machine code that cuobjdump finds."""
    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    said = subprocess.run(
        [str(tool), "--list-elf", str(library)], capture_output=True, text=True, check=False
    )
    return set(re.findall(r"sm_(\d+)", said.stdout))


def machine_code(library, folder):
    """What cuobjdump takes out for sm_90, piece by piece."""
    folder.mkdir()
    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    command = [str(tool), "--extract-elf", "sm_90", str(library)]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return [file.read_bytes() for file in sorted(folder.iterdir(), key=number_of)]


def number_of(cubin):
    return int(cubin.name.split(".")[1])


def test_code_for_other_gpus_is_taken_out_and_the_rest_stays(tmp_path):
    (original,) = Path(torchvision.__file__).parent.glob("_C*.so")
    before = architectures(original)
    if "90" not in before:
        pytest.skip("this torchvision is not built for GPUs")
    assert len(before) > 1
    data = bytearray(original.read_bytes())
    taken = keep_architecture(data, 90)
    slim = tmp_path / original.name
    slim.write_bytes(data)
    assert len(data) == original.stat().st_size
    assert taken > len(data) // 4
    assert architectures(slim) == {"90"}
    code = machine_code(slim, tmp_path / "slim")
    assert code == machine_code(original, tmp_path / "original")
    assert code
    load = f"import torch; torch.ops.load_library({str(slim)!r})"  # it is still a library
    subprocess.run([sys.executable, "-c", load], check=True)


def test_a_library_without_the_architecture_is_left_alone():
    (original,) = Path(torchvision.__file__).parent.glob("_C*.so")
    data = bytearray(original.read_bytes())
    assert keep_architecture(data, 30) == 0
    assert data == original.read_bytes()


def test_what_is_no_library_is_left_alone():
    assert keep_architecture(bytearray(b"#!/bin/sh\n"), 90) == 0
