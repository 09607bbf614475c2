"""One worker in a process of its own: `python -m dkeras_core.training.process_worker`, started by ProcessLauncher.

Standard input brings one line of JSON (the task, which holds the secret, the worker's number and cores), then its rows
as an Arrow stream, and stays open: when it ends, the launcher has gone, and so does the worker. What it has to say
goes to standard output as one line of JSON, either ``{"account": ...}`` or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

ORPHANED = 3  # exit status of a worker whose launcher has gone


def main() -> int:
    """Run the worker; 0 when it has trained, 1 when it told why it could not."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    source = sys.stdin.buffer
    given = json.loads(source.readline())
    if given["cores"]:
        os.sched_setaffinity(0, given["cores"])

    from dkeras_core.errors import DkerasError

    try:
        answer = {"account": _train(given, source)}
    except DkerasError as error:
        answer = {"error": {"type": type(error).__name__, "what": error.what, "next_step": error.next_step}}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return 0 if "account" in answer else 1


def _train(given: dict, source) -> dict:
    from dkeras_core.learning.settings import configure_threads
    from dkeras_core.training.task import TrainingTask
    from dkeras_core.training.worker import run_worker

    task = TrainingTask.from_json(given["task"])
    configure_threads(task.threads)
    folder = Path(given["folder"] or tempfile.gettempdir())
    return run_worker(task, given["worker"], 0, _rows(source), folder)


def _rows(source) -> Iterator:
    """Yield the record batches, then watch over the launcher."""
    import pyarrow as pa

    with pa.ipc.open_stream(source) as reader:
        yield from reader
    threading.Thread(target=_end_with_launcher, name="launcher-watch", daemon=True).start()


def _end_with_launcher() -> None:
    """End this process when the other side of standard input is closed; nothing more comes from it."""
    os.read(0, 1)  # not through the buffered file, whose lock the interpreter wants when it ends
    os._exit(ORPHANED)  # whatever the other threads are in


if __name__ == "__main__":
    sys.exit(main())
