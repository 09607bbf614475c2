"""Driver, workers, exchange, feed and learning together, without Spark: the workers are threads of this process."""

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.errors import DataError, TrainingError

FEATURES = 4


def test_two_workers_learn_and_every_row_is_accounted_for(run, rows_of, model, tmp_path):
    from dkeras_core.learning.flat import FlatModel

    parts = [[rows_of(500, 1), rows_of(333, 2)], [rows_of(700, 3)]]
    outcome, states = run(parts)
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


def test_mean_center_and_ema_are_told_apart(run, rows_of):
    parts = [[rows_of(200, 1)], [rows_of(200, 2)]]
    outcome, _ = run(parts, result="center", epochs=1)
    assert np.array_equal(outcome.weights, outcome.center)
    assert not np.array_equal(outcome.center, outcome.ema)


def test_rows_that_went_missing_fail_the_run(run, rows_of):
    with pytest.raises(TrainingError, match=r"rows do not add up: 400 .* 399"):
        run([[rows_of(199, 1)], [rows_of(200, 2)]], rows=400, epochs=1)


def test_a_worker_without_rows_is_no_error(run, rows_of):
    outcome, _ = run([[rows_of(200, 1)], []], epochs=1)
    assert [worker["rows"] for worker in outcome.account["workers"]] == [200, 0]


def test_a_failing_worker_stops_the_others_and_is_the_cause(run, rows_of, thread_launcher, tmp_path):
    endless = (rows_of(100, seed) for seed in range(10**9))
    launcher = thread_launcher([endless, []], tmp_path, fail={1: RuntimeError("the disk is on fire")})
    with pytest.raises(RuntimeError, match="on fire"):
        run([[], []], rows=2, launcher=launcher)
    assert launcher.cancelled
    assert list(tmp_path.iterdir()) == []


def test_values_that_explode_are_named_with_worker_and_setting(run, rows_of):
    bad = rows_of(300, 1)
    bad = pa.RecordBatch.from_pydict(
        {
            "features": pa.FixedSizeListArray.from_arrays(np.full(300 * FEATURES, 1e30, np.float32), FEATURES),
            "label": bad.column("label"),
        }
    )
    with pytest.raises(TrainingError, match=r"the loss of worker 0 became nan"):
        run([[bad]], optimizer={"name": "sgd", "learning_rate": 1e10})


def test_more_workers_than_rows_are_refused_before_anything_starts(run, rows_of):
    with pytest.raises(DataError, match=r"1 rows cannot be shared by 2 workers\n.*at most 1"):
        run([[rows_of(1, 1)], []])


def test_nobody_comes(run, thread_launcher, tmp_path):
    launcher = thread_launcher([], tmp_path)
    launcher.poll = lambda: None
    with pytest.raises(TrainingError, match=r"no worker joined within 0 s: 0 threads"):
        run([[]], rows=1, launcher=launcher, join_deadline=0.2)
