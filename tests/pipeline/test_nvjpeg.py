"""An nvJPEG whose pixels differ from the CPU's is refused."""

from importlib import metadata

import pytest

from pipeline.loaders.build import check_nvjpeg


@pytest.mark.parametrize("version", ["12.4.0.76", "13.1.9"])
def test_an_old_one_is_refused_with_a_remedy(monkeypatch, version):
    monkeypatch.setattr(metadata, "version", lambda _: version)
    with pytest.raises(ValueError, match=f"nvidia-nvjpeg is {version}.*or use data.decode cpu"):
        check_nvjpeg()


@pytest.mark.parametrize("version", ["13.2.0.1", "13.3.2.43", "14.0.0"])
def test_a_new_one_is_taken(monkeypatch, version):
    monkeypatch.setattr(metadata, "version", lambda _: version)
    check_nvjpeg()


def test_one_that_is_no_package_is_taken(monkeypatch):
    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    check_nvjpeg()
