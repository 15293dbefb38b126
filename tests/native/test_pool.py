"""The pool of native threads: its end, forks, and the interpreter's exit."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from tests.native.jpegs import Crop, arguments, decode, encode

native = pytest.importorskip(
    "millstream_native", reason="`make env` builds it where g++ and libjpeg-turbo's header are"
)


@pytest.fixture(scope="module")
def crop():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    return Crop.whole(encode(noise))


def native_threads():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ValueError, match=f"threads must be from 1 to 1024, got {threads}"):
        native.Pool(threads)


def test_closing_ends_the_threads(crop):
    before = native_threads()
    pool = native.Pool(5)
    assert pool.threads == 5
    assert native_threads() == before + 5
    pool.close()
    pool.close()
    assert native_threads() == before
    with pytest.raises(RuntimeError, match="closed"):
        decode(native, pool, [crop])


def test_a_pool_that_nobody_holds_is_closed():
    before = native_threads()
    pool = native.Pool(3)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert native_threads() == before


def test_work_that_has_begun_is_finished_before_the_pool_is_closed(crop):
    pool = native.Pool(1)
    expected, _ = decode(native, pool, [crop])
    images = np.zeros((50, *expected.shape[1:]), np.uint8)
    given = arguments([crop] * 50)
    errors = []

    def call():
        try:
            native.decode_crops(pool, *given, images)
        except RuntimeError as error:  # closed before the call began
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while caller.is_alive() and not images.any():
        pass
    pool.close()
    if not errors:
        assert (images == expected).all()
    caller.join()
    assert not errors


@pytest.fixture
def _rare_switches():
    """Python's threads change only where one gives way."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_rare_switches")
def test_other_threads_of_python_go_on_meanwhile(crop):
    given, images = arguments([crop] * 100), np.empty((100, 8, 8, 3), np.uint8)
    called, went_on = threading.Event(), []

    def go_on():
        called.wait()
        went_on.append(True)

    other = threading.Thread(target=go_on)
    with native.Pool(1) as pool:
        other.start()
        called.set()
        native.decode_crops(pool, *given, images)
        assert went_on
    other.join()


def _use_in_child(pool, crop, answers):
    try:
        decode(native, pool, [crop])
    except RuntimeError as error:
        answers.put(str(error))
    with native.Pool(2) as own:
        answers.put(decode(native, own, [crop])[0])
    pool.close()
    del pool


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_to_make_a_pool_of_its_own(crop):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with native.Pool(2) as pool:
        expected, _ = decode(native, pool, [crop])
        child = context.Process(target=_use_in_child, args=(pool, crop, answers))
        child.start()
        assert "before the process forked" in answers.get(timeout=60)
        np.testing.assert_array_equal(answers.get(timeout=60), expected)
        child.join()
        assert child.exitcode == 0
        np.testing.assert_array_equal(decode(native, pool, [crop])[0], expected)


EXIT = """
import sys, threading
import millstream_native as native
from tests.native.jpegs import Crop, decode
crop = Crop.whole(open(sys.argv[1], "rb").read())
pool = native.Pool(2)
begun = threading.Barrier(5)

def call():
    first = True
    while True:
        try:
            decode(native, pool, [crop] * 3)
        except RuntimeError:
            return
        if first:
            begun.wait()
            first = False

for _ in range(4):
    threading.Thread(target=call, daemon=True).start()
begun.wait()
"""


def test_the_interpreter_ends_while_daemon_threads_decode(crop, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(crop.data)
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, "-c", EXIT, path],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
