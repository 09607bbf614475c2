"""Driver, workers, exchange, feed and learning together, without Spark: the workers are threads of this process."""

import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, DataError, StorageError, TrainingError
from dkeras_core.training.events import EventLog

FEATURES = 4


def test_a_run_without_rows_or_with_an_unknown_optimizer_starts_no_worker(run, rows_of):
    with pytest.raises(DataError, match="there are no rows to train on"):
        run([[]])
    with pytest.raises(ConfigError, match=r"unknown optimizer 'adm' .did you mean 'adam'"):
        run([[rows_of(20, 1)]], optimizer={"name": "adm"})


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


def test_the_center_is_validated_while_it_trains(run, rows_of, validation, tmp_path):
    log = EventLog((tmp_path.with_suffix(".events")).write_bytes)
    outcome, _ = run([[rows_of(3200, 1)], [rows_of(3200, 2)]], validation=validation, events=log, epochs=8)
    log.close()
    history = outcome.history
    assert history.epoch[-1] == 8 and history.epoch == sorted(set(history.epoch))
    assert history.history["val_loss"][-1] < history.history["loss"][0]
    assert history.final["val_accuracy"] > 0.93
    assert outcome.account["history"] == history.history and outcome.account["final"] == history.final
    assert b"epoch/val_loss" in tmp_path.with_suffix(".events").read_bytes()


def test_a_worker_that_the_others_wait_for_is_named(run, rows_of, monkeypatch):
    from dkeras_core.training.exchanger import Exchanger

    begin = Exchanger.begin

    def late(self, x, steps):
        if self._state is slow[0]:
            time.sleep(0.05)
        begin(self, x, steps)

    slow = []
    monkeypatch.setattr(Exchanger, "begin", late)
    start = Exchanger.start
    monkeypatch.setattr(Exchanger, "start", lambda self, x: (start(self, x), slow.append(self._state))[0])
    outcome, _ = run([[rows_of(1920, 1)], [rows_of(1920, 2)]], rule=rules.get("easgd", communication_period=5))
    accounts = outcome.account["workers"]
    assert sum(account["late"] for account in accounts) == outcome.account["exchange"]["count"]
    said = [warning for warning in outcome.account["warnings"] if "came last to" in warning]
    assert len(said) == 1 and max(account["late_seconds"] for account in accounts) > 1


def test_one_worker_alone_is_validated_too(run, rows_of, validation):
    rule = rules.get("sequential")
    outcome, _ = run([[rows_of(1280, 1)]], validation=validation, rule=rule, epochs=3000, target_loss=0.3)
    assert outcome.history.stopped.startswith("val_loss") and outcome.history.final["val_loss"] < 0.4


def test_a_run_that_is_good_enough_ends_early(run, rows_of, validation):
    parts = [[rows_of(1920, 1)], [rows_of(1920, 2)]]
    outcome, states = run(parts, validation=validation, epochs=4000, target_loss=0.3)
    account = outcome.account
    assert account["stopped"].startswith("val_loss ") and account["stopped"].endswith("has reached the target 0.3")
    assert 0 < account["rows_trained"] < 4000 * 3840
    assert min(state["validation"]["val_loss"] for state in states if "validation" in state) <= 0.3
    assert all(worker["stopped"] == account["stopped"] for worker in account["workers"])
    assert outcome.history.final["val_loss"] < 0.4


def test_an_ensemble_is_all_workers_last_vectors(run, rows_of, validation):
    outcome, _ = run([[rows_of(640, 1)], [rows_of(640, 2)]], validation=validation, epochs=5, result="ensemble")
    assert outcome.account["result"] == "ensemble" and outcome.history.final["val_accuracy"] > 0.9
    assert len(outcome.weights) == 2 and not np.array_equal(*outcome.weights)


def test_a_model_with_moving_statistics_is_validated_with_them(run, rows_of, validation):
    import keras

    from dkeras_core.learning.flat import FlatModel

    keras.utils.set_random_seed(1)
    layers = [keras.layers.BatchNormalization(momentum=0.9), keras.layers.Dense(8, "relu")]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(1, "sigmoid")])
    flat = FlatModel(model)
    parts = []
    for seed in (1, 2):  # shifted far away, so that the initial statistics would tell nothing
        batch = rows_of(960, seed)
        moved = np.asarray(batch.column("features").flatten()) * 10 + 100
        parts.append([batch.set_column(0, "features", pa.FixedSizeListArray.from_arrays(moved, FEATURES))])
    held = replace(validation, x=validation.x * 10 + 100)
    first = {"model": model, "center": flat.get(), "state": flat.get_state()}
    outcome, _ = run(parts, validation=held, epochs=6, **first)
    assert outcome.history.history["val_accuracy"][-1] > 0.9 and outcome.history.final["val_accuracy"] > 0.9
    assert outcome.state[:FEATURES] == pytest.approx(np.full(FEATURES, 100), rel=0.05)  # the moving mean


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
    explosive = {"name": "sgd", "learning_rate": 1e10}
    with pytest.raises(TrainingError, match=r"the loss of worker 0 became nan"):
        run([[bad]], optimizer=explosive)
    with pytest.raises(TrainingError, match=r"all workers with rows dropped out, .* because the loss of worker 0"):
        run([[bad], []], optimizer=explosive, on_nonfinite="drop")


def test_more_workers_than_rows_are_refused_before_anything_starts(run, rows_of):
    with pytest.raises(DataError, match=r"1 rows cannot be shared by 2 workers\n.*at most 1"):
        run([[rows_of(1, 1)], []])


def test_nobody_comes(run, thread_launcher, tmp_path):
    launcher = thread_launcher([], tmp_path)
    launcher.poll = lambda: None
    with pytest.raises(TrainingError, match=r"no worker joined within 0 s: 0 threads"):
        run([[]], rows=1, launcher=launcher, join_deadline=0.2)


class TestLost:
    """What the launcher never tells: its ``poll`` says that the workers run, as Spark's does between attempts."""

    @pytest.fixture
    def silent(self, thread_launcher, tmp_path, monkeypatch):
        """silent(parts) -> a launcher that tells nothing; the threads of its workers end when it cancels them."""
        monkeypatch.setattr("dkeras_core.training.lost.GRACE", 0.1)

        def make(parts):
            launcher = thread_launcher(parts, tmp_path)
            launcher.poll, launcher.released, cancel = lambda: None, threading.Event(), launcher.cancel
            launcher.cancel = lambda: (launcher.released.set(), cancel())
            return launcher

        return make

    @pytest.mark.parametrize("kind", [ConfigError, DataError, StorageError, TrainingError])
    def test_what_a_worker_gave_up_for_ends_the_run_in_its_own_class(self, run, silent, kind):
        def broken():
            raise kind("column 'age', row 7: no number", "drop that row\nor fill it")
            yield

        with pytest.raises(kind, match=r"worker 0 on .* gave up: column 'age', row 7: no number") as caught:
            run([[]], rows=1, launcher=silent([broken()]))
        assert type(caught.value) is kind and caught.value.next_step == "drop that row\nor fill it"

    def test_an_error_that_another_attempt_may_not_meet_is_waited_for(self, run, silent):
        def broken():
            raise OSError("the disk is full")
            yield

        with pytest.raises(
            TrainingError, match=r"worker 0 on .* was lost \(gave up: OSError: .*joined for 1 s"
        ) as caught:
            run([[]], rows=1, launcher=silent([broken()]), join_deadline=1.0)
        assert "training.join_deadline" in caught.value.next_step

    def test_a_worker_that_hangs_ends_the_run(self, run, silent):
        def hanging():
            assert launcher.released.wait(20)
            yield from ()

        launcher = silent([hanging()])
        lost = r"worker 0 on .* was lost \(lives, but has asked .* for \d s: it is at .* in wait\).* no new"
        with pytest.raises(TrainingError, match=lost) as caught:
            run([[]], rows=1, launcher=launcher, silence_deadline=2.0, step_deadline=1.0, join_deadline=1.0)
        assert launcher.cancelled
        assert "training.step_deadline" in caught.value.next_step

    def test_a_run_that_has_failed_in_the_server_ends(self, run, silent, monkeypatch):
        from dkeras_core.training.curve import Curve

        monkeypatch.setattr(Curve, "add", lambda *report: 1 / 0)
        with pytest.raises(TrainingError, match="ZeroDivisionError"):
            run([[]], rows=1, launcher=silent([[]]))
