"""Real training without Spark: workers are threads of the test's own process."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column

FEATURES = 4


class ThreadLauncher:
    """Runs each worker in a thread on its own batches; a worker's exception ends the job like Spark's would."""

    def __init__(self, parts, folder, fail=None):
        self.parts, self.folder, self.fail = parts, folder, fail or {}
        self.accounts, self.failure, self.threads, self.cancelled = [], None, [], False

    def check(self, task):
        from dkeras_core.exchange import probe

        probe(task.address, task.secret)

    def start(self, task):
        for number, batches in enumerate(self.parts):
            thread = threading.Thread(target=self._run, args=(task, number, batches), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _run(self, task, number, batches):
        from dkeras_core.training.worker import run_worker

        try:
            if number in self.fail:
                raise self.fail[number]
            self.accounts.append(run_worker(task, number, 0, batches, self.folder))
        except BaseException as error:
            self.failure = self.failure or error

    def poll(self):
        if any(thread.is_alive() for thread in self.threads) and self.failure is None:
            return None
        if self.failure is not None:
            raise self.failure
        return self.accounts

    def cancel(self):
        self.cancelled = True
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads), "a worker outlived the run"

    def describe(self):
        return f"{len(self.threads)} threads"


@pytest.fixture(scope="session")
def thread_launcher():
    """The class: ThreadLauncher(parts, folder, fail=None)."""
    return ThreadLauncher


@pytest.fixture(scope="session")
def rows_of():
    """rows_of(count, seed) -> a record batch of features and a label that a line tells from them."""

    def make(count, seed):
        random = np.random.default_rng(seed)
        features = random.normal(size=(count, FEATURES)).astype(np.float32)
        label = (features @ np.array([2, -1, 1, 0.5]) > 0).astype(np.float32)
        return pa.RecordBatch.from_pydict(
            {"features": pa.FixedSizeListArray.from_arrays(features.ravel(), FEATURES), "label": label}
        )

    return make


@pytest.fixture(scope="session")
def validation(rows_of):
    """Rows of the same kind that nobody trains on."""
    from dkeras_core.training.driver import Validation

    columns = (Column("features", shape=(FEATURES,)),), (Column("label"),)
    return Validation.from_batches([rows_of(500, 99)], *columns, metrics=["accuracy"])


@pytest.fixture(scope="session")
def model():
    """A small network; tests take its first weights and leave it as it is."""
    import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])


@pytest.fixture
def run(model, tmp_path):
    """run(parts, **settings) -> (TrainingResult, the states that were observed)."""
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json
    from dkeras_core.training.driver import TrainingSettings, train

    first = FlatModel(model).get()

    def start(parts, *, rows=None, launcher=None, model=model, center=first, state=None, **settings):
        given = {name: settings.pop(name) for name in ("validation", "callbacks", "events") if name in settings}
        defaults = {
            "rule": rules.get("asynchronous_easgd", communication_period=5),
            "optimizer": {"name": "sgd", "learning_rate": 0.5},
            "loss": "binary_crossentropy",
            "epochs": 3,
            "batch_size": 32,
            "workers": len(parts),
            "inputs": (Column("features", shape=(FEATURES,)),),
            "rows": rows if rows is not None else sum(batch.num_rows for part in parts for batch in part),
        }
        states = []
        outcome = train(
            to_json(model),
            center,
            state,
            TrainingSettings(**{**defaults, **settings}),
            launcher or ThreadLauncher(parts, tmp_path),
            observe=states.append,
            interval=0.02,
            **given,
        )
        return outcome, states

    return start
