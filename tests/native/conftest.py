"""What the tests of the compiled part share."""

import pytest


@pytest.fixture(scope="module")
def pool():
    native = pytest.importorskip("millstream_native")
    with native.Pool(2) as pool:
        yield pool


@pytest.fixture(params=[False, True], ids=["vectors", "portable"])
def instructions(request):
    """Each processor takes one of two forms of the operations; both are tested where both run."""
    native = pytest.importorskip("millstream_native")
    native._native.use_portable_operations(is_portable=request.param)
    yield
    native._native.use_portable_operations(is_portable=False)
