"""Try a version in a process of its own: does it load, and does it give the scores that it was published with?

``python -m dkeras_core.registry.trial FOLDER [--rows FILE --scores FILE]``

FOLDER holds a version on this machine. Its ``sample.json`` is scored again, through the Keras model and through the
SavedModel; ``--rows`` (Arrow, raw columns) are scored too and written to ``--scores`` (NumPy, float32). The last line
on standard output is a JSON object. :func:`run` starts it with the interpreter of the version's packed environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkeras_core.errors import DkerasError, RegistryError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from dkeras_core.registry.environments import Environment
    from dkeras_core.registry.load import LoadedModel

FORMAT = 1
SAMPLE = "sample.json"
SAMPLE_ROWS = 20
TOLERANCE = 1e-5
DEADLINE = 600.0  # seconds
_BATCH = 65_536


@dataclass(frozen=True)
class Outcome:
    """What a trial found: rows of the sample, and how far its scores are off at most, by the model and as served.

    ``rows`` is 0 for versions without a sample; ``served`` is None where there is no SavedModel.
    """

    rows: int
    difference: float
    served: float | None
    versions: dict[str, str]
    seconds: float


def sample(rows: pa.Table, scores: np.ndarray) -> bytes:
    """Return the content of sample.json: raw rows and the scores float32 [n] or [n, k] that they got."""
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    value = {"format": FORMAT, "rows": columns, "scores": scores.tolist()}
    return f"{json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)}\n".encode()


def run(
    folder: Path,
    environment: Environment,
    package: Path,
    rows: Path | None = None,
    scores: Path | None = None,
    cancelled: threading.Event | None = None,
) -> Outcome:
    """Try the version in ``folder`` with another interpreter.

    Parameters
    ----------
    package : Path
        A zip of dkeras_core (yarn/package.py): the code of this process, without what is installed beside it.
    rows, scores : Path, optional
        Raw rows to be scored, and where the scores shall be written.
    cancelled : Event, optional
        The process is ended when another thread sets it.

    Raises
    ------
    RegistryError
        The process failed, with the last line it said, was cancelled, or did not end in ten minutes.
    """
    # -P: nothing is imported from the folder that it is started in.
    command = [environment.python, "-s", "-P", "-m", "dkeras_core.registry.trial", str(folder)]
    if rows is not None:
        command += ["--rows", str(rows), "--scores", str(scores)]
    strangers = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    settings = {name: value for name, value in os.environ.items() if name not in strangers}
    settings |= {"PYTHONPATH": str(package), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=settings,
            cwd=package.parent,
        )  # fmt: skip
    except OSError as error:
        raise RegistryError(
            f"{environment.python} cannot be started: {error.strerror}", "Is it of this machine's kind?"
        ) from error
    with process:
        try:
            out, said = _ended(process, cancelled or threading.Event())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise RegistryError(_last(said) or f"the process ended with {process.returncode} and said nothing")
    try:
        return Outcome(**json.loads(_last(out)))
    except (ValueError, TypeError) as error:  # of a model that prints, or a package of another release
        raise RegistryError(f"the process ended well, but its last line is no result: {_last(out)[:200]!a}") from error


def _ended(process: subprocess.Popen, cancelled: threading.Event) -> tuple[str, str]:
    """Return what the process has written to its two outputs, once it has ended."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and not cancelled.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=0.2)
    if cancelled.is_set():
        raise RegistryError("the trial was cancelled")
    raise RegistryError(f"loading and scoring took more than {DEADLINE:.0f} s", "Look at the machine.")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dkeras_core.registry.trial", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--scores", type=Path)
    options = parser.parse_args(arguments)
    try:
        found = _try(options.folder, options.rows, options.scores)
    except DkerasError as error:
        print(f"{type(error).__name__}: {error.what}".replace("\n", " "), file=sys.stderr)
        return error.exit_code
    print(json.dumps(found), flush=True)
    return 0


def _try(folder: Path, rows: Path | None, target: Path | None) -> dict[str, Any]:
    started = time.monotonic()
    import keras
    import numpy as np

    from dkeras_core.registry.load import load

    model = load(folder)
    difference, served, count = 0.0, None, 0
    if (folder / SAMPLE).exists():
        table, expected = _read_sample(folder, model)
        count = len(expected)
        difference = _distance(model.predict(table), expected)
        if (folder / "saved_model.pb").exists() and keras.backend.backend() == "tensorflow":
            served = _distance(_serve(folder, model.pipeline.transform(table)), expected)
    if rows is not None:
        np.save(target, _score(model, rows))
    return {
        "rows": count,
        "difference": difference,
        "served": served,
        "versions": {"python": sys.version.split()[0], "keras": keras.__version__, "backend": keras.backend.backend()},
        "seconds": round(time.monotonic() - started, 2),
    }


def _read_sample(folder: Path, model: LoadedModel) -> tuple[pa.Table, np.ndarray]:
    import numpy as np
    import pyarrow as pa

    value = json.loads((folder / SAMPLE).read_bytes())
    if value["format"] > FORMAT:
        raise RegistryError(f"{SAMPLE} is of format {value['format']}, this dkeras reads {FORMAT}")
    numbers = set(model.pipeline.numeric)
    columns: Mapping[str, Iterable] = value["rows"]
    table = pa.table({n: pa.array(v, pa.float64() if n in numbers else pa.string()) for n, v in columns.items()})
    return table, np.asarray(value["scores"], np.float32)


def _serve(folder: Path, features: np.ndarray) -> np.ndarray:
    """Score as TensorFlow Serving would."""
    import tensorflow as tf

    from dkeras_core.registry.export import INPUT, OUTPUT

    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    scores = signature(**{INPUT: tf.constant(features)})[OUTPUT].numpy()
    return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores


def _distance(scores: np.ndarray, expected: np.ndarray) -> float:
    import numpy as np

    if scores.shape != expected.shape:
        raise RegistryError(f"the sample gets scores of shape {scores.shape}, it was published with {expected.shape}")
    if not np.isfinite(scores).all():
        raise RegistryError(f"{int((~np.isfinite(scores)).sum())} scores of the sample are NaN or infinite")
    return float(np.abs(scores - expected).max())


def _score(model: LoadedModel, path: Path) -> np.ndarray:
    """Score the raw rows of an Arrow file, some at a time."""
    import numpy as np
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        parts = [model.predict(table.slice(at, _BATCH)) for at in range(0, table.num_rows, _BATCH)]
    return np.concatenate(parts).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
