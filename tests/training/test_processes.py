"""Workers as processes of this machine: rows through pipes, one death, and what is left behind."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dkeras_core import rules
from dkeras_core.data.columns import Column
from dkeras_core.errors import ConfigError, DataError, TrainingError
from dkeras_core.training import processes, rows
from dkeras_core.training.processes import ProcessLauncher
from dkeras_core.training.task import TrainingTask


@pytest.fixture
def table(rows_of):
    return pa.Table.from_batches([rows_of(300, 1), rows_of(301, 2)])


@pytest.fixture
def task():
    return TrainingTask(
        address=("127.0.0.1", 1),
        secret=bytes(range(32)),
        rule=rules.get("downpour").to_config(),
        architecture="{}",
        optimizer={"name": "adam"},
        loss="mse",
        epochs=1,
        batch_size=32,
        workers=3,
        seed=1,
        inputs=(Column("features", shape=(4,)), Column("ab", sources=("a", "b"))),
        class_weight={0: 2.0},
    )


def test_a_task_travels_as_json(task):
    assert TrainingTask.from_json(task.to_json()) == task
    assert task.reads == ["features", "a", "b", "label"]


class Sink:
    """A worker that only takes its rows."""

    def __init__(self, worker, environment, message):
        read, write = os.pipe()
        self.message, self.stdin, self.source = message, os.fdopen(write, "wb"), os.fdopen(read, "rb")
        self.ended = False

    def rows(self):
        return pa.ipc.open_stream(self.source).read_all()


@pytest.fixture
def sinks(monkeypatch):
    monkeypatch.setattr(processes, "_Process", Sink)


def test_rows_are_dealt_in_turn(sinks, table, task):
    table = table.append_column("number", pa.array(range(601)))
    launcher = ProcessLauncher(table, cores=sorted(os.sched_getaffinity(0))[:2])
    launcher.start(_reading(task, "number"))
    found = [worker.rows().column("number").to_pylist() for worker in launcher._workers]
    assert found == [list(range(worker, 601, 3)) for worker in range(3)]
    first, second = sorted(os.sched_getaffinity(0))[:2]
    assert [worker.message["cores"] for worker in launcher._workers] == [[first], [second], [first]]


def test_a_folder_of_parquet_is_read_in_pieces(sinks, table, task, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_BATCH_ROWS", 7)
    for name in ("a", "b"):
        pq.write_table(table.append_column("number", pa.array([name] * 601)), tmp_path / f"{name}.parquet")
    launcher = ProcessLauncher(tmp_path)
    launcher.start(_reading(task, "number"))
    found = [worker.rows().column("number").to_pylist() for worker in launcher._workers]
    assert sorted(len(rows) for rows in found) == [400, 401, 401]
    assert found[0] == ["a"] * 201 + ["b"] * 200


def _reading(task, name):
    return TrainingTask(**{**vars(task), "inputs": (Column(name),), "labels": (Column(name),)})


def test_what_cannot_be_read_is_refused(table, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        ProcessLauncher(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no Parquet files"):
        ProcessLauncher(tmp_path)
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop(["label"]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet has other columns or types than a.parquet"):
        ProcessLauncher(tmp_path)
    (tmp_path / "b.parquet").write_text("not Parquet at all")
    with pytest.raises(DataError, match=r"b.parquet cannot be read as Parquet"):
        ProcessLauncher(tmp_path)
    with pytest.raises(ConfigError, match=r"pinned to cores \[9999\]"):
        ProcessLauncher(table, cores=[9999])


def test_a_column_that_is_missing(run, table):
    with pytest.raises(DataError, match="'label' is missing; the rows have features"):
        run([], launcher=ProcessLauncher(table.drop(["label"])), rows=601, workers=2)


def test_a_worker_that_dies_at_once_says_why(run, table, monkeypatch):
    environment = processes._environment
    broken = lambda threads: environment(threads) | {"KERAS_BACKEND": "no such backend"}  # noqa: E731
    monkeypatch.setattr(processes, "_environment", broken)
    with pytest.raises(TrainingError, match=r"(?s)worker 0 \(process \d+\) ended with exit status 1.*no such backend"):
        run([], launcher=ProcessLauncher(table), rows=601, workers=1)


def test_the_secret_stands_neither_in_arguments_nor_in_the_environment(task):
    message = {"task": task.to_json(), "worker": 0, "cores": None, "folder": None}
    worker = processes._Process(0, processes._environment(1), message)
    try:
        seen = psutil.Process(worker._process.pid)
        assert task.secret.hex() not in " ".join([*seen.cmdline(), *seen.environ().values()])
    finally:
        worker.send(signal.SIGKILL)
        worker.close()


@pytest.mark.slow
def test_two_processes_train_every_row(run, table, tmp_path):
    launcher = ProcessLauncher(table, folder=tmp_path)
    outcome, _ = run([], launcher=launcher, rows=601, workers=2, rule=rules.get("easgd", communication_period=3))
    assert [account["rows"] for account in outcome.account["workers"]] == [301, 300]
    assert outcome.account["rows_trained"] == 3 * 601
    assert list(tmp_path.iterdir()) == []
    assert not any(worker._process.poll() is None for worker in launcher._workers)


def test_a_worker_that_is_killed_ends_the_run_and_the_others(run, table):
    launcher = ProcessLauncher(table)
    start = launcher.start

    def shot(task):
        start(task)
        launcher._workers[1].send(signal.SIGKILL)

    launcher.start = shot
    with pytest.raises(TrainingError, match=r"worker 1 \(process \d+\) was ended by SIGKILL"):
        run([], launcher=launcher, rows=601, workers=2)
    assert all(worker.ended for worker in launcher._workers)


@pytest.mark.slow
def test_an_error_of_a_worker_is_the_runs(run, table):
    label = pa.array(np.full(601, 5, np.float32))
    with pytest.raises(DataError, match=r"'label', row 0: 5.0 is out of range"):
        run([], launcher=ProcessLauncher(table.set_column(1, "label", label)), rows=601, workers=2)


@pytest.mark.slow
def test_workers_end_with_their_launcher(table, tmp_path, rows_of, model):
    """The launching process is killed by force: no worker stays behind."""
    from dkeras_core.learning.model_io import to_json

    pq.write_table(pa.Table.from_batches([rows_of(2000, 1)]), tmp_path / "rows.parquet")
    (tmp_path / "model.json").write_text(to_json(model))
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, env=processes._environment(1)
    )
    try:
        workers = [psutil.Process(pid) for pid in json.loads(process.stdout.readline())]
        assert len(workers) == 2
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive


ENDLESS = """
import json, sys, threading, time
from pathlib import Path
from dkeras_core import rules
from dkeras_core.data.columns import Column
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.model_io import from_json
from dkeras_core.training.driver import TrainingSettings, train
from dkeras_core.training.processes import ProcessLauncher

folder = Path(sys.argv[1])
text = (folder / "model.json").read_text()
launcher = ProcessLauncher(folder / "rows.parquet")
told = False

def observe(state):
    global told
    if state["rows"] and not told:
        told = True
        print(json.dumps([worker._process.pid for worker in launcher._workers]), flush=True)

settings = TrainingSettings(
    rule=rules.get("asynchronous_easgd"), optimizer={"name": "adam"}, loss="binary_crossentropy", epochs=10**6,
    batch_size=32, workers=2, rows=2000, inputs=(Column("features", shape=(4,)),),
)
train(text, FlatModel(from_json(text)).get(), None, settings, launcher, observe=observe, interval=0.1)
"""
