"""Work beside the training: one piece at a time; its error comes to who asks for it."""

import threading

import pytest

from trainer.record.background import Background


def test_what_is_begun_goes_on_beside_its_caller():
    caller_goes_on, asked = threading.Event(), threading.Event()
    background = Background[int](asked.set)

    def work() -> int:
        assert caller_goes_on.wait(60)
        return 7

    background.start(work)
    assert background.poll() is None
    caller_goes_on.set()
    assert background.wait() == 7
    assert background.wait() is None
    assert not asked.is_set()
    background.settle()


def test_an_error_asks_at_once_and_is_raised_once_where_it_is_waited_for():
    asked = threading.Event()
    background = Background[int](asked.set)
    background.start(lambda: int("no number"))
    assert asked.wait(60)
    assert background.poll() is None
    with pytest.raises(ValueError, match="no number"):
        background.wait()
    assert background.wait() is None
    background.settle()


def test_nothing_is_begun_before_the_former_work_has_been_waited_for():
    background = Background[int](lambda: None)
    background.start(lambda: 1)
    with pytest.raises(AssertionError, match="wait for what was begun before"):
        background.start(lambda: 2)
    assert background.wait() == 1
    background.settle()


def test_the_end_lets_work_become_whole_and_raises_nothing():
    done = threading.Event()
    background = Background[int](done.set)
    background.start(lambda: int("no number"))
    background.settle()
    assert done.is_set()
