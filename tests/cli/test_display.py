"""What a person sees: steps, the live picture, the lines of a log, and the answer to Ctrl-C."""

import io
import os
import pty
import signal

import pytest
from rich.console import Console

from dkeras_core.cli import display, interruption
from dkeras_core.cli.console import Steps, duration
from dkeras_core.cli.display import LiveDisplay, PlainDisplay
from dkeras_core.errors import ClusterError, Interrupted
from dkeras_core.yarn.answers import application
from dkeras_core.yarn.follow import View

APP = application({"id": "application_1_0001", "state": "RUNNING"})
PROGRESS = {
    "phase": "train",
    "message": "",
    "epoch": 1.5,
    "epochs": 5,
    "rows_per_second": 84000.4,
    "loss": 0.41234,
    "workers": {"expected": 2, "joined": 2, "finished": 1},
    "phases": [
        {
            "name": "preprocess",
            "state": "reused",
            "seconds": 1.2,
            "detail": "8,000 rows",
            "started": "2026-11-22T19:00:00+00:00",
        },
        {"name": "train", "state": "running", "seconds": None, "detail": "", "started": "2026-11-22T19:00:00+00:00"},
    ],
}


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (37.4, "37 s"), (125, "2 min 05 s"), (59.7, "1 min 00 s"), (4320, "1 h 12 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_steps_in_a_log_are_one_line_each_also_when_they_fail():
    shown = console()
    with pytest.raises(ValueError), Steps(shown) as steps:
        with steps.step("cluster") as step:
            step.detail = "two [nodes]"
        with steps.step("environment") as step:
            step.state = "reused"
        with steps.step("upload"):
            raise ValueError
    lines = shown.file.getvalue().splitlines()
    assert lines[0].startswith("cluster: done (two [nodes]), 0.0 s")
    assert lines[1].startswith("environment: reused") and lines[2].startswith("upload: failed")


def test_steps_on_a_terminal_keep_their_lines():
    shown = console(terminal=True)
    with Steps(shown) as steps:
        assert steps.run("cluster", lambda step: 7) == 7
    assert "✓ cluster" in shown.file.getvalue()


def test_the_live_picture_holds_phases_bar_and_numbers():
    shown = console(terminal=True)
    with LiveDisplay("higgs-1", "application_1_0001", display.STEPS, shown) as picture:
        picture.show(View(APP, PROGRESS, None, ("HDFS has not answered",)))
    text = shown.file.getvalue()
    for part in (
        "✓ preprocess", "1.2 s", "8,000 rows", "epoch 1.5 of 5", "84,000 rows/s", "loss 0.4123",
        "workers 2 of 2, 1 done", "· publish", "HDFS has not answered",
    ):  # fmt: skip
        assert part in text, part


def test_figures_of_validation_and_costly_exchanges_are_shown():
    shown = display.numbers(PROGRESS | {"validation": {"epoch": 1, "val_loss": 0.40126, "val_auc": 0.9, "val_x": None}})
    assert shown == "84,000 rows/s, loss 0.4123, val_loss 0.4013, val_auc 0.9000, workers 2 of 2, 1 done"
    assert "exchange" not in display.numbers(PROGRESS | {"exchange_share": 0.05, "validation": None})
    assert "exchange 31% of the time" in display.numbers(PROGRESS | {"exchange_share": 0.312})


def test_a_log_gets_each_change_once(monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    shown = console()
    with PlainDisplay("higgs-1", "application_1_0001", display.STEPS, shown) as picture:
        for _ in range(3):
            picture.show(View(APP, PROGRESS, None))
    text = shown.file.getvalue()
    assert text.count("preprocess: reused (8,000 rows), 1.2 s") == 1
    assert text.count("train: epoch 1.5 of 5, 84,000 rows/s, loss 0.4123, workers 2 of 2, 1 done") == 1
    assert "\x1b" not in text


class Killable:
    def __init__(self, state="KILLED", error=None):
        self.killed, self._state, self._error = [], state, error

    def kill(self, app_id):
        self.killed.append(app_id)
        if self._error:
            raise self._error
        return application({"id": app_id, "state": self._state, "finalStatus": "SUCCEEDED"})


def test_without_a_terminal_an_interruption_kills(monkeypatch):
    monkeypatch.setattr(interruption.sys, "stdin", io.StringIO())
    rm = Killable()
    assert "was killed" in interruption.interrupted(rm, "application_1_0001", "r").what
    assert rm.killed == ["application_1_0001"]
    assert "already ended (SUCCEEDED)" in interruption.interrupted(Killable("FINISHED"), "a", "r").what
    refused = interruption.interrupted(Killable(error=ClusterError("bob may not kill", "ask")), "a", "r")
    assert "may still run" in refused.what and refused.next_step == "ask"


@pytest.mark.parametrize(
    ("typed", "kills"), [(b"y\n", True), (b"yes\n", True), (b"n\n", False), (b"\n", False), (b"", False)]
)
def test_on_a_terminal_only_yes_kills(monkeypatch, typed, kills):
    monkeypatch.setattr(interruption, "ANSWER_DEADLINE", 0.3)
    monkeypatch.setattr(interruption, "stderr", lambda: console(terminal=True))
    keyboard, terminal = pty.openpty()
    try:
        with open(terminal, closefd=False) as stdin:
            monkeypatch.setattr(interruption.sys, "stdin", stdin)
            os.write(keyboard, typed)
            rm = Killable()
            end = interruption.interrupted(rm, "application_1_0001", "r1")
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert bool(rm.killed) is kills
    if not kills:
        assert "goes on" in end.what and "dkeras kill r1" in end.next_step


def test_sigterm_is_an_interruption_inside_the_block_only():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruption.terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) is before
    assert isinstance(Interrupted("x"), KeyboardInterrupt)
