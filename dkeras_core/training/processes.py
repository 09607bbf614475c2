"""The launcher that runs workers as processes of this machine: for laptops, tests, and machines with a GPU."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dkeras_core import errors
from dkeras_core.errors import ConfigError, DataError, ExchangeError, TrainingError
from dkeras_core.training.pieces import PIECE, Layout
from dkeras_core.training.rows import Rows
from dkeras_core.training.task import TrainingTask

_LINES = 30  # of a worker's standard error that are kept
_PACKAGE = Path(__file__).resolve().parents[2]


class ProcessLauncher:
    """Runs ``task.workers`` processes of this Python on this machine, with the Keras backend of this process.

    Rows are dealt to the workers one by one in turn, through their standard input: all get the same number but for
    one, and rows sorted by class do not end in one worker each. Where workers compute pieces, each row goes to as many
    as hold it. On disk there is nothing but the workers' spools.

    Parameters
    ----------
    source : Rows, or what it takes
        A ``pyarrow.Table``, or the path of a Parquet file or of a folder of such files.
    folder : path, optional
        Where the workers spool their rows; default: the folder for temporary files.
    cores : sequence of int, optional
        Pin the workers to these cores, ``task.threads`` to each, in turn. Default: the system places them.

    Raises
    ------
    DataError
        The file or folder is missing, damaged, or holds no Parquet.
    ConfigError
        A core that this process may not use.
    """

    def __init__(self, source, *, folder: str | Path | None = None, cores: Sequence[int] | None = None):
        self._rows = source if isinstance(source, Rows) else Rows(source)
        self._folder = folder
        self._cores = None if cores is None else _allowed(cores)
        self._workers: list[_Process] = []
        self._dealer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def check(self, task: TrainingTask) -> None:
        """Look at the rows' columns and reach the server, before any process starts.

        Raises
        ------
        DataError
            A column is missing.
        ExchangeError
            The server cannot be reached from this machine.
        """
        from dkeras_core.exchange import probe

        missing = [name for name in task.reads if name not in self._rows.names]
        if missing:
            raise DataError(f"column {missing[0]!r} is missing; the rows have {', '.join(self._rows.names)}")
        probe(task.address, task.secret)

    def start(self, task: TrainingTask) -> None:
        """Start the workers and begin to deal the rows; returns at once."""
        environment = _environment(task.threads)
        for worker in range(task.workers):
            cores = None
            if self._cores:
                first = worker * task.threads
                cores = [self._cores[(first + number) % len(self._cores)] for number in range(task.threads)]
            message = {
                "task": task.to_json(),
                "worker": worker,
                "cores": cores,
                "folder": str(self._folder) if self._folder else None,
            }
            self._workers.append(_Process(worker, environment, message))
        self._dealer = threading.Thread(target=self._deal, args=(task,), name="rows", daemon=True)
        self._dealer.start()

    def poll(self) -> list[dict] | None:
        """Return the workers' accounts when all have ended, None while they run; raise what ended one of them."""
        failures = [worker.failure() for worker in self._workers if worker.ended and not worker.account]
        if failures:
            # A worker that was told of another's end is not the cause, if the cause is here as well
            raise next((error for error in failures if not isinstance(error, ExchangeError)), failures[0])
        if self._failure is not None:
            raise self._failure
        if not all(worker.ended for worker in self._workers):
            return None
        self._close()
        return [worker.account for worker in self._workers]

    def cancel(self, deadline: float = 5.0) -> None:
        """End the workers, by force after ``deadline`` seconds, and wait until they are gone."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        until = time.monotonic() + deadline
        while not all(worker.ended for worker in self._workers) and time.monotonic() < until:
            time.sleep(0.02)
        for worker in self._workers:
            worker.send(signal.SIGKILL)
        self._close()

    def describe(self) -> str:
        """Say how many processes run."""
        running = sum(not worker.ended for worker in self._workers)
        return f"{running} of {len(self._workers)} processes are running"

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()
        if self._dealer:
            self._dealer.join()

    def _deal(self, task: TrainingTask) -> None:
        """Write each worker its rows; ends early when one of them no longer reads, which ``poll`` explains."""
        import numpy as np
        import pyarrow as pa

        layout = Layout.of(task)
        schema = pa.schema([self._rows.schema.field(name) for name in task.reads])
        if layout.told:
            schema = schema.append(pa.field(PIECE.name, pa.int32()))
        try:
            with contextlib.ExitStack() as stack:
                streams = [stack.enter_context(pa.ipc.new_stream(w.stdin, schema)) for w in self._workers]
                dealt = 0
                for batch in self._rows.batches(task.reads):
                    pieces = np.arange(dealt, dealt + batch.num_rows) % layout.pieces
                    dealt += batch.num_rows
                    if layout.told:
                        batch = batch.append_column(PIECE.name, pa.array(pieces, pa.int32()))
                    for worker, stream in enumerate(streams):
                        mine = layout.with_worker(worker, pieces)
                        if len(mine):
                            stream.write_batch(batch.take(pa.array(mine)))
            for worker in self._workers:
                worker.stdin.flush()
        except BrokenPipeError:
            pass  # a worker has ended
        except BaseException as error:  # handed over: poll raises it in the driver's main thread
            self._failure = error


class _Process:
    """One worker's process, in a process group of its own so that Ctrl-C reaches the driver alone."""

    def __init__(self, worker: int, environment: dict[str, str], message: dict[str, Any]):
        self._worker = worker
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dkeras_core.training.process_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.stdin = self._process.stdin
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._listener = threading.Thread(target=self._listen, name=f"stderr-{worker}", daemon=True)
        self._listener.start()
        self._answer: dict[str, Any] | None = None
        with contextlib.suppress(BrokenPipeError):  # it died at once: failure() says how
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def account(self) -> dict[str, Any] | None:
        """The worker's account, once it has ended well."""
        return self._answered().get("account")

    def failure(self) -> TrainingError:
        """Why the worker has ended without an account."""
        error = self._answered().get("error")
        if error:
            return getattr(errors, error["type"], TrainingError)(error["what"], error["next_step"])
        status = self._process.returncode
        how = f"ended with exit status {status}"
        next_step = "look at what it said last"
        if status < 0:
            name = signal.Signals(-status).name
            how = f"was ended by {name}"
            next_step = "look for the kernel's out-of-memory messages: fewer workers or a smaller batch need less"
        self._listener.join(5.0)
        said = "".join(f"\n    {line}" for line in self._said)
        return TrainingError(
            f"worker {self._worker} (process {self._process.pid}) {how}" + (f"; it said last:{said}" if said else ""),
            next_step,
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process group, if the process still runs."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def close(self) -> None:
        """Wait for the end of the process and close its pipes."""
        self._process.wait()
        self._answered()
        self._listener.join()
        for pipe in (self.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _answered(self) -> dict[str, Any]:
        if self._answer is None:
            line = self._process.stdout.readline()
            self._answer = json.loads(line) if line.endswith(b"\n") else {}
        return self._answer

    def _listen(self) -> None:
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").rstrip())


def _allowed(cores: Sequence[int]) -> list[int]:
    allowed = os.sched_getaffinity(0)
    if not cores or not allowed.issuperset(cores):
        raise ConfigError(
            f"workers cannot be pinned to cores {list(cores)}: this process may use {sorted(allowed)}",
            "name some of these, or leave cores out",
        )
    return list(cores)


def _environment(threads: int) -> dict[str, str]:
    """This process' environment, paths and Keras backend, for workers that may share one GPU."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(_PACKAGE), *(path or os.getcwd() for path in sys.path)])
    if "keras" in sys.modules:
        environment["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)  # NumPy reads them when it is imported, before the worker knows its task
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return environment
