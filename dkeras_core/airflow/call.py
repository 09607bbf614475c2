"""A call of the command `dkeras` that may submit: nothing of it goes on when the task's process is gone."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dkeras_core import errors
from dkeras_core.errors import ConfigError, DkerasError

_DEFAULT = Path(__file__).resolve().parents[2] / "build/venv/bin/dkeras"
_STOP_SECONDS = 20.0
_ASK_SECONDS = 2.0
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def program() -> str:
    """Return the command: DKERAS_COMMAND, else Airflow's setting ``[dkeras] command``, else that of the checkout."""
    from airflow.configuration import conf

    return os.environ.get("DKERAS_COMMAND") or conf.get("dkeras", "command", fallback=None) or str(_DEFAULT)


class Call:
    """One call that answers with a JSON object; use as a context manager, which leaves no process behind.

    When this process dies the call is told to end (SIGTERM) and takes back what it has begun. Its output goes through
    files: Airflow waits for a dead task as long as a child of it holds a pipe.
    """

    def __init__(self, arguments: Sequence[str], *, command: str | None = None):
        self._argv = [command or program(), *arguments]
        self._process: subprocess.Popen | None = None
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Call:
        enter = self._files.enter_context
        self._out = enter(tempfile.TemporaryFile("w+"))
        told = enter(tempfile.NamedTemporaryFile(prefix="dkeras-", suffix=".err"))
        self._read = enter(Path(told.name).open(errors="replace"))
        parent = os.getpid()
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=told,
                env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
                start_new_session=True,  # what ends this process by its group leaves the call time to clean up
                preexec_fn=lambda: _end_with(parent),
            )
        except OSError as error:
            self._files.close()
            raise ConfigError(
                f"{self._argv[0]} cannot be run: {error}", "set DKERAS_COMMAND to the command of the bundle's tools"
            ) from error
        return self

    def __exit__(self, *_) -> None:
        self.stop(_STOP_SECONDS)
        self._files.close()

    def result(self, say: Callable[[str], None], unwanted: Callable[[], bool] = lambda: False) -> dict | None:
        """Wait for the end, passing on what it says line by line; return its JSON object.

        ``unwanted`` is asked every 2 s; when it says yes the call is ended, and the answer is None.

        Raises
        ------
        DkerasError
            What the command has ended with, as the class that its exit status stands for.
        """
        lines: list[str] = []
        ended, due = False, 0.0
        while not ended:
            if time.monotonic() >= due:
                if unwanted():
                    self.stop(_STOP_SECONDS)
                    return None
                due = time.monotonic() + _ASK_SECONDS
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
            ended = self._process.poll() is not None
            for line in iter(self._read.readline, ""):
                lines.append(line.rstrip("\n"))
                say(lines[-1])
        if self._process.returncode:
            raise _error(self._process.returncode, lines, self._argv)
        return self.printed()

    def printed(self) -> dict:
        """Return the JSON object that the call has printed, also when it ended with an error."""
        self._out.seek(0)
        text = self._out.read()
        try:
            return json.loads(text)
        except ValueError:
            raise DkerasError(f"`{' '.join(self._argv)}` has not answered in JSON: {text[:300]!r}") from None

    def stop(self, seconds: float) -> bool:
        """Tell the call to end and wait for it; return whether it has."""
        process = self._process
        if process is None or process.poll() is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return process.poll() is not None


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:  # it died before it was asked about
        os._exit(1)


def _error(code: int, lines: list[str], argv: list[str]) -> DkerasError:
    """The error that the command has printed, as its own class."""
    kinds = {kind.exit_code: kind for kind in vars(errors).values() if _is_error(kind) and "exit_code" in vars(kind)}
    what = [line.removeprefix("error ") for line in lines if line.startswith("error ")]
    following = [line.strip().removeprefix("next ") for line in lines if line.strip().startswith("next ")]
    kind = kinds.get(code, DkerasError)
    told = what[-1] if what else "; ".join(lines[-3:]) or "it has said nothing"
    made = kind(told if what else f"`{' '.join(argv)}` ended with status {code}: {told}", *following[-1:])
    made.exit_code = code
    return made


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, DkerasError)
