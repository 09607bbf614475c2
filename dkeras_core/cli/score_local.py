"""Scoring without YARN: Spark on the cores of this machine, the version from wherever the registry is."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dkeras_core.cli import place
from dkeras_core.cli.console import Step, Steps, stderr
from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.models.reference import open_registry
from dkeras_core.cli.score_flow import Asked, check_output
from dkeras_core.errors import ConfigError, Interrupted
from dkeras_core.scoring.output import Output
from dkeras_core.scoring.request import ScoreRequest, choose
from dkeras_core.storage import Storage, open_storage
from dkeras_core.storage.paths import split_uri


class _Told:
    """Shows the phases of a scoring as steps on the screen."""

    def __init__(self, steps: Steps):
        self._steps, self._step = steps, Step("")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict]:
        outcome = {"state": "done", "detail": ""}
        with self._steps.step(name) as self._step:
            yield outcome
            self._step.detail = outcome["detail"]

    def update(self, message: str = "", **_) -> None:
        self._step.detail = message


def run(asked: Asked) -> dict:
    """Score on this machine; return what ``_dkeras.json`` says.

    Raises
    ------
    DkerasError
        With cause and next step; the output is as it was.
    Interrupted
        After Ctrl-C or SIGTERM; the same holds.
    """
    if importlib.util.find_spec("keras") is None:
        raise ConfigError(
            "--local needs the training libraries, which this Python does not have",
            "run `make test-tools`, or leave --local out: on YARN they come with the packed environment",
        )
    log = place.BUILD / "runs" / asked.run_id / "score.log"
    with _noise_to(log):
        return _run(asked)


@contextlib.contextmanager
def _noise_to(log: Path) -> Iterator[None]:
    """Send what Java, TensorFlow and Python's logging say to a file; what this program says stays on the screen.

    TensorFlow's first lines heed no setting, and the workers' and Java's go to the descriptor itself.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    screen, before = os.dup(2), sys.stderr
    logged = logging.FileHandler(log)
    logging.getLogger().addHandler(logged)
    with os.fdopen(os.dup(2), "w", buffering=1) as sys.stderr, log.open("ab") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            sys.stderr = before
            logging.getLogger().removeHandler(logged)
            logged.close()


def _run(asked: Asked) -> dict:
    given = asked.given | {name: _uri(asked.given[name]) for name in ("input", "output")}
    inputs, outputs = _storage(given["input"], asked.root), _storage(given["output"], asked.root)
    try:
        with terminable(), Steps() as shown:
            with shown.step("version") as step:
                registry = open_registry(asked.root)
                chosen = choose(registry, asked.model)
                step.detail = str(chosen)
                request = ScoreRequest.of(chosen, **given)
                check_output(inputs, outputs, request, asked.run_id)
            found = _score(asked, registry, request, shown, outputs)
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Interrupted):
            raise
        raise Interrupted(f"interrupted; {asked.given['output']} is as it was") from None
    stderr().print(f"{found['rows']['out']:,} rows scored with {chosen}", soft_wrap=True, markup=False)
    return found


def _score(asked: Asked, registry, request: ScoreRequest, shown: Steps, outputs: Storage) -> dict:
    from dkeras_core.registry.cache import Cache
    from dkeras_core.scoring.score import score

    on_cluster = any(split_uri(path)[0] != "file" for path in (request.input, request.output))
    sys.path[:0] = sorted({str(path.absolute().parent) for path in asked.py_files})
    with tempfile.TemporaryDirectory(prefix="dkeras-score-") as folder:
        with shown.step("Spark") as step:
            spark = _session(Path(folder), place.find(asked.root).config.conf_dir if on_cluster else None)
            for path in asked.py_files:
                spark.sparkContext.addPyFile(str(path.absolute()))
            step.detail = spark.sparkContext.master
        try:
            return score(spark, registry, request, _Told(shown), run=asked.run_id, cache=Cache())
        except BaseException:
            spark.stop()
            # A task that was just writing may have made the folder again that was removed.
            Output(outputs, request.output, asked.run_id).tidy()
            raise
        finally:
            spark.stop()


def _session(folder: Path, conf_dir: Path | None):
    """Start Spark on all cores of this machine; its files are below ``folder``."""
    from pyspark.sql import SparkSession

    from dkeras_core.singlenode.java import find_java

    os.environ.setdefault("JAVA_HOME", str(find_java().home))
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if conf_dir is not None:
        os.environ["HADOOP_CONF_DIR"] = str(conf_dir)
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    builder = SparkSession.builder.master(f"local[{len(os.sched_getaffinity(0))}]").appName("dkeras score")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _uri(path: str) -> str:
    scheme, _, rest = split_uri(path)
    return path if scheme and scheme != "file" else f"file://{Path(rest).absolute()}"


def _storage(path: str, root: str) -> Storage:
    return open_storage(path) if split_uri(path)[0] == "file" else place.find(root).storage
