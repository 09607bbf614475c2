"""Sandblaster L-BFGS from the rows to the result: the optimum of a convex model, whoever computes which piece."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.training.pieces import PIECE, Layout
from dkeras_core.training.processes import ProcessLauncher

FEATURES, ROWS, PENALTY = 4, 1203, 0.002


@pytest.fixture(scope="module")
def rows(rows_of):
    """Rows of which no line tells the labels without error."""
    batch = rows_of(ROWS, 1)
    label = np.asarray(batch.column("label")).copy()
    label[::10] = 1 - label[::10]
    return batch.set_column(1, "label", pa.array(label))


@pytest.fixture(scope="module")
def linear():
    import keras

    penalty = keras.regularizers.L2(PENALTY)
    dense = keras.layers.Dense(1, "sigmoid", kernel_regularizer=penalty, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((FEATURES,)), dense])


@pytest.fixture
def search(run, rows, linear):
    """search(workers, copies=, launcher=, **settings) -> TrainingResult."""

    def start(workers, *, copies=2, pieces_per_worker=4, model=linear, iterations=40, batches=None, **settings):
        from dkeras_core.learning.flat import FlatModel

        layout = Layout(workers, workers * pieces_per_worker, min(copies, workers), True)
        numbers = np.arange(ROWS) % layout.pieces
        told = rows.append_column(PIECE.name, pa.array(numbers, pa.int32()))
        parts = [[told.take(pa.array(layout.with_worker(worker, numbers)))] for worker in range(workers)]
        rule = rules.get("sandblaster_lbfgs", copies=copies, pieces_per_worker=pieces_per_worker, iterations=iterations)
        given = {"model": model, "center": FlatModel(model).get(), "rows": ROWS, "batch_size": 64, "rule": rule}
        return run(batches or parts, **given | settings)

    return start


@pytest.fixture(scope="module")
def optimum(rows):
    from sklearn.linear_model import LogisticRegression

    features = np.asarray(rows.column("features").flatten()).reshape(-1, FEATURES)
    theirs = LogisticRegression(C=1 / (2 * PENALTY * ROWS), tol=1e-8, max_iter=1000)
    theirs.fit(features, np.asarray(rows.column("label")))
    return np.concatenate([theirs.coef_[0], theirs.intercept_])


@pytest.mark.slow
def test_the_optimum_of_scikit_learn(search, optimum, validation):
    outcome, states = search(2, validation=validation)
    np.testing.assert_allclose(outcome.weights, optimum, atol=5e-3)
    np.testing.assert_array_equal(outcome.weights, outcome.center)
    account, found = outcome.account, outcome.account["search"]
    losses = [iteration["loss"] for iteration in found["iterations"]]
    assert losses == sorted(losses, reverse=True) and losses[0] == pytest.approx(np.log(2), abs=1e-4)
    assert sum(worker["pieces"] for worker in account["workers"]) == 8 * found["evaluations"]
    assert account["rows_trained"] >= found["evaluations"] * ROWS and account["epochs"] == 40
    assert found["ended"] and found["evaluations"] == account["exchange"]["count"] >= len(losses)
    assert outcome.history.epoch == list(range(1, len(losses)))
    assert outcome.history.history["loss"] == losses[1:]
    assert outcome.history.final["val_accuracy"] > 0.9
    assert states[-1]["epoch"] == len(losses) - 1 and states[-1]["gradient_norm"] < 0.01


def test_it_ends_at_the_target(search, monkeypatch):
    from dkeras_core.exchange import Client

    work = Client.work  # slowly, so that the driver sees it on its way
    monkeypatch.setattr(Client, "work", lambda self, *result: (time.sleep(0.02), work(self, *result))[1])
    outcome, _ = search(1, target_loss=0.5)
    assert outcome.account["stopped"].startswith("loss 0.") and "target 0.5" in outcome.account["stopped"]
    assert outcome.account["search"]["ended"] == outcome.account["stopped"]


def test_it_does_not_wait_for_a_holder_that_hangs(search, monkeypatch, thread_launcher, tmp_path):
    """Worker 1 is lost with its first piece and never ends; worker 0 holds that piece too."""
    from dkeras_core.training.search_worker import SearchRun

    released, compute, cancel = threading.Event(), SearchRun._compute, thread_launcher.cancel

    def hanging(self, *task):
        if self._worker == 1:
            self._client.close("RuntimeError: the network is gone")
            assert released.wait(60)
        return compute(self, *task)

    monkeypatch.setattr(SearchRun, "_compute", hanging)
    monkeypatch.setattr(thread_launcher, "cancel", lambda self: (released.set(), cancel(self)))
    monkeypatch.setattr("dkeras_core.training.lost.GRACE", 0.1)
    outcome, _ = search(2, join_deadline=3.0)
    account = outcome.account
    assert account["search"]["ended"]
    assert [worker["pieces"] for worker in account["workers"]] == [8 * account["search"]["evaluations"], 0]
    assert "the network is gone" in account["workers"][1]["dropped"]
    assert "worker 1 on" in account["warnings"][0] and "dropped out" in account["warnings"][0]


def test_layers_that_change_the_loss_are_refused(search):
    import keras

    for layer in (keras.layers.Dropout(0.5, name="odd"), keras.layers.BatchNormalization(name="odd")):
        model = keras.Sequential([keras.Input((FEATURES,)), layer, keras.layers.Dense(1)])
        with pytest.raises(ConfigError, match=r"layer 'odd' \(\w+\) (draws random|takes statistics)"):
            search(2, model=model)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"result": "ema"}, "all the same; use center"),
        ({"warm_start": 3}, "make no steps of their own"),
        ({"overlap": True}, "needs the answer"),
        ({"wire": "bfloat16"}, "which need float32"),
    ],
)
def test_settings_without_meaning_are_refused(search, settings, why):
    with pytest.raises(ConfigError, match=why):
        search(2, **settings)


def test_a_loss_that_is_not_finite_at_first_is_named(search, linear):
    with pytest.raises(TrainingError, match=r"the loss of worker 0 is (nan|inf) at the initial parameters"):
        search(1, center=np.full(FEATURES + 1, 3e38, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 2])
def test_any_number_of_workers_takes_the_same_way(search, copies):
    one, three = search(1, iterations=5)[0], search(3, iterations=5, copies=copies)[0]
    np.testing.assert_allclose(one.weights, three.weights, atol=1e-3)
    losses = [[i["loss"] for i in outcome.account["search"]["iterations"]] for outcome in (one, three)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
def test_in_processes(search, rows, optimum, tmp_path):
    launcher = ProcessLauncher(pa.Table.from_batches([rows]), folder=tmp_path)
    outcome, _ = search(2, launcher=launcher)
    np.testing.assert_allclose(outcome.weights, optimum, atol=5e-3)
    assert [worker["rows"] for worker in outcome.account["workers"]] == [ROWS, ROWS]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_on_spark(search, spark, rows, optimum):
    from dkeras_core.training.spark import SparkLauncher

    features = np.asarray(rows.column("features").flatten()).reshape(ROWS, -1).tolist()
    data = list(zip(features, np.asarray(rows.column("label")).tolist(), strict=True))
    frame = spark.createDataFrame(data, "features array<float>, label float").repartition(5)
    outcome, _ = search(2, launcher=SparkLauncher(spark, frame))
    np.testing.assert_allclose(outcome.weights, optimum, atol=5e-3)
    assert [worker["rows"] for worker in outcome.account["workers"]] == [ROWS, ROWS]
    outcome, _ = search(2, launcher=SparkLauncher(spark, frame), copies=1, iterations=2)
    assert sum(worker["rows"] for worker in outcome.account["workers"]) == ROWS
    with pytest.raises(TrainingError, match="needs the rows of all workers at every evaluation and needs 3 task slots"):
        search(3, launcher=SparkLauncher(spark, frame, join_deadline=0.1))
