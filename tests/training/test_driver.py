"""Driver, workers, exchange, feed and learning together, without Spark: the workers are threads of this process."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column
from dkeras_core.errors import TrainingError
from dkeras_core.training.driver import TrainingSettings, train

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


def rows_of(count, seed):
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, FEATURES)).astype(np.float32)
    label = (features @ np.array([2, -1, 1, 0.5]) > 0).astype(np.float32)
    return pa.RecordBatch.from_pydict(
        {"features": pa.FixedSizeListArray.from_arrays(features.ravel(), FEATURES), "label": label}
    )


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])


def run(model, parts, folder, *, rows=None, epochs=3, launcher=None, result="mean", **settings):
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json

    states = []
    defaults = {
        "rule": rules.get("asynchronous_easgd", communication_period=5),
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "loss": "binary_crossentropy",
        "epochs": epochs,
        "batch_size": 32,
        "workers": len(parts),
        "inputs": (Column("features", shape=(FEATURES,)),),
        "rows": rows if rows is not None else sum(batch.num_rows for part in parts for batch in part),
        "result": result,
    }
    outcome = train(
        to_json(model),
        FlatModel(model).get(),
        None,
        TrainingSettings(**{**defaults, **settings}),
        launcher or ThreadLauncher(parts, folder),
        observe=states.append,
        interval=0.05,
    )
    return outcome, states


def test_two_workers_learn_and_every_row_is_accounted_for(model, tmp_path):
    from dkeras_core.learning.flat import FlatModel

    parts = [[rows_of(500, 1), rows_of(333, 2)], [rows_of(700, 3)]]
    outcome, states = run(model, parts, tmp_path)
    account = outcome.account
    assert account["rows_in"] == 1533
    assert account["rows_trained"] == 3 * 1533
    assert [worker["rows"] for worker in account["workers"]] == [833, 700]
    assert account["exchange"]["count"] == sum(worker["exchanges"] for worker in account["workers"])
    assert states[-1]["workers"]["finished"] == 2
    FlatModel(model).set(outcome.weights)
    test = rows_of(2000, 9)
    features = np.asarray(test.column("features").flatten()).reshape(-1, FEATURES)
    scores = model.predict(features, verbose=0)[:, 0]
    assert np.mean((scores > 0.5) == (np.asarray(test.column("label")) > 0.5)) > 0.93
    assert list(tmp_path.iterdir()) == []


def test_mean_center_and_ema_are_told_apart(model, tmp_path):
    parts = [[rows_of(200, 1)], [rows_of(200, 2)]]
    outcome, _ = run(model, parts, tmp_path, result="center", epochs=1)
    assert np.array_equal(outcome.weights, outcome.center)
    assert not np.array_equal(outcome.center, outcome.ema)


def test_rows_that_went_missing_fail_the_run(model, tmp_path):
    with pytest.raises(TrainingError, match=r"rows do not add up: 400 .* 399"):
        run(model, [[rows_of(199, 1)], [rows_of(200, 2)]], tmp_path, rows=400, epochs=1)


def test_a_worker_without_rows_is_no_error(model, tmp_path):
    outcome, _ = run(model, [[rows_of(200, 1)], []], tmp_path, epochs=1)
    assert [worker["rows"] for worker in outcome.account["workers"]] == [200, 0]


def test_a_failing_worker_stops_the_others_and_is_the_cause(model, tmp_path):
    endless = (rows_of(100, seed) for seed in range(10**9))
    launcher = ThreadLauncher([endless, []], tmp_path, fail={1: RuntimeError("the disk is on fire")})
    with pytest.raises(RuntimeError, match="on fire"):
        run(model, [[], []], tmp_path, rows=1, launcher=launcher)
    assert launcher.cancelled
    assert list(tmp_path.iterdir()) == []


def test_values_that_explode_are_named_with_worker_and_setting(model, tmp_path):
    bad = rows_of(300, 1)
    bad = pa.RecordBatch.from_pydict(
        {
            "features": pa.FixedSizeListArray.from_arrays(np.full(300 * FEATURES, 1e30, np.float32), FEATURES),
            "label": bad.column("label"),
        }
    )
    with pytest.raises(TrainingError, match=r"the loss of worker 0 became nan"):
        run(model, [[bad]], tmp_path, optimizer={"name": "sgd", "learning_rate": 1e10})


def test_nobody_comes(model, tmp_path):
    launcher = ThreadLauncher([], tmp_path)
    launcher.poll = lambda: None
    with pytest.raises(TrainingError, match=r"no worker joined within 0 s: 0 threads"):
        run(model, [[]], tmp_path, rows=1, launcher=launcher, join_deadline=0.2)
