"""What a run shows while it trains: on a real (pseudo) terminal, and in a file."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console

from trainer.events import Evaluated, Started, Step
from trainer.sinks import display
from trainer.sinks.console import ConsoleProgress
from trainer.sinks.run_view import RunView

ROOT = Path(__file__).parents[2]
STARTED = Started(
    step=0,
    total_steps=100,
    epochs=4,
    batch=40,
    per_gpu=40,
    num_classes=10,
    compile="none",
    lines=("model x",),
)
SCORE = Evaluated(step=25, epoch=0, top1=40.0, top5=80.0, loss=1.5, count=360, ema=True)


def step(number):
    return Step(
        step=number,
        epoch=number // 26,
        loss=1.25,
        lr=1e-3,
        images_per_s=50.0,
        data_wait_s=0.4,
        data_wait_rank=1,
        grad_norm=1.0,
    )


# Trains nothing, and waits to be ended as a user would; what it does with signals is launch.py's.
PROGRAM = """
import sys, time
from tests.trainer.test_console import SCORE, STARTED, step
from trainer.process.signals import StopSignal
from trainer.sinks.console import ConsoleProgress
stop, console = StopSignal(), ConsoleProgress("mine")
try:
    for event in (STARTED, step(25), SCORE, step(50)):
        console(event)
    print("\\nREADY", file=sys.stderr, flush=True)
    while not stop.received:
        time.sleep(0.05)
finally:
    console.close()
print("saved")
"""


class Terminal:
    """A program on a terminal of 100 columns."""

    def __init__(self, command, *, term="xterm-256color"):
        self.main, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],  # its own terminal, so that ^C is a signal
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": term},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        self.written = ""

    def read_until(self, pattern, timeout_s=120):
        """Read on until `pattern` is there, or the end where it is None."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if pattern is not None and re.search(pattern, self.written):
                return
            if pattern is None and self.process.poll() is not None and not self._ready(0):
                return
            if self._ready(0.1):
                self.written += os.read(self.main, 65536).decode()
        raise TimeoutError(f"no {pattern!r} in {self.written!r}")

    def _ready(self, timeout_s):
        return bool(select.select([self.main], [], [], timeout_s)[0])

    def type(self, keys):
        os.write(self.main, keys)

    def settings(self):
        return termios.tcgetattr(self._theirs)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.main)
        os.close(self._theirs)

    def plain(self):
        """What was written, without what moves the cursor or colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)


@pytest.fixture
def terminal():
    opened = []

    def open_terminal(*arguments, **options):
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_a_terminal_shows_all_of_it_and_ctrl_c_leaves_it_sane(terminal):
    shown = terminal([sys.executable, "-c", PROGRAM])
    shown.read_until("50 images/s.*READY|READY(.|\n)*50 images/s")
    shown.type(b"\x03")
    shown.read_until(None)
    assert shown.process.returncode == 0
    text = shown.plain()
    assert "model x" in text
    assert "mine  step 50/100  epoch 1/4" in text
    assert "loss 1.2500  lr 0.001  top-1 40.00 % (EMA)  top-5 80.00 %  best 40.00 %" in text
    assert "50 images/s  data wait 2.0 %  40 s left" in text
    assert text.rstrip().endswith("saved")
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")  # the cursor
    assert shown.settings() == shown.before


def test_a_process_that_is_killed_leaves_the_cursor_visible(terminal):
    shown = terminal([sys.executable, "-c", PROGRAM])
    shown.read_until("READY")
    shown.process.send_signal(signal.SIGKILL)
    shown.read_until(None)
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")


def test_a_terminal_that_cannot_redraw_and_a_file_get_lines(capsys):
    console = ConsoleProgress("mine")
    for event in (STARTED, step(25), SCORE):
        console(event)
    console.close()
    assert capsys.readouterr().out.splitlines() == [
        "model x",
        "step 25/100  epoch 0  loss 1.2500  50 images/s  data wait 0.40 s (rank 1)  60 s left",
        "epoch 0: top-1 40.00 %, top-5 80.00 %, loss 1.5000 on 360 images (EMA weights)",
    ]
    assert not display.can_redraw(Console(force_terminal=True, _environ={"TERM": "dumb"}))


def test_a_run_that_goes_on_knows_the_best_of_before_and_reckons_its_speed_anew():
    rows = [{"event": event.event, **vars_of(event)} for event in (STARTED, step(25), SCORE)]
    view = RunView("mine", [*rows, {**rows[0], "step": 25}, {**rows[1], "step": 30}])
    assert "best 40.00 %" in view.learning()
    # Of 5 steps of 40 images at 50 a second, 0.4 s were waiting.
    assert "data wait 10.0 %" in view.speed()
    assert view.status == ""


def test_a_narrow_terminal_gets_no_more_lines():
    view = RunView("a_run_with_a_long_name")
    rows = ({"event": e.event, **vars_of(e)} for e in (STARTED, step(25), SCORE, step(50)))
    for row in rows:
        view.update(row)
    console = Console(width=40, force_terminal=True, _environ={"TERM": "xterm"})
    with console.capture() as captured:
        console.print(display.drawn(view))
    assert len(captured.get().splitlines()) == 3


def vars_of(event):
    return {name: getattr(event, name) for name in event.__slots__}
