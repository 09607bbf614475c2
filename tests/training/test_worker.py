"""The worker's loop against the real server: when it exchanges what, and how it ends. Workers are threads.

Most tests let local steps be arithmetic that takes no time; those that need Keras are marked slow.
"""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.data.columns import Column
from dkeras_core.errors import DataError, TrainingError


class Arithmetic:
    """Stands for LocalTrainer: each step moves x towards the mean of the batch's features."""

    def __init__(self, model, optimizer, loss, **settings):
        from dkeras_core.learning.flat import FlatModel

        self.model, self.flat, self.fused, self.compile_seconds = model, FlatModel(model), "no", 0.0

    def window(self, window, x):
        for batch in window.features:
            x += np.float32(0.1) * (batch.mean() - x)
        self.losses = np.full(window.steps, np.abs(x).mean())
        return float(self.losses.mean())

    def gradient(self, window, out, x):
        np.subtract(x, window.features.mean(), out=out)
        return float(np.abs(x).mean())

    def step(self, gradient, x):
        x -= np.float32(0.1) * gradient


def breaking(init):
    """``Arithmetic.__init__`` that tells the trainer whether it is that of worker 0, to break it."""

    def told(trainer, model, optimizer, loss, *, seed, **settings):
        init(trainer, model, optimizer, loss)
        trainer.broken, trainer.steps = seed < 2 * 1_000_003, 0

    return told


@pytest.fixture
def quick(run, monkeypatch):
    """As ``run``, without Keras' steps."""
    monkeypatch.setattr("dkeras_core.learning.local.LocalTrainer", Arithmetic)
    return run


def by_worker(outcome):
    return {account["worker"]: account for account in outcome.account["workers"]}


@pytest.mark.parametrize(
    ("period", "steps", "exchanges"),
    [
        (1, 27, 27),
        (4, 27, 7),  # 9 steps an epoch: counted through the epochs, the last 3 at the end
        (7, 27, 4),
        (100, 27, 1),
        ("epoch", 27, 3),
        ("fit", 27, 1),
    ],
)
def test_an_exchange_comes_after_exactly_tau_steps(quick, rows_of, period, steps, exchanges):
    outcome, _ = quick([[rows_of(260, 1)]], rule=rules.get("downpour", communication_period=period))
    account = by_worker(outcome)[0]
    assert (account["steps"], account["exchanges"], account["rows_trained"]) == (steps, exchanges, 780)
    assert account["communication_period"] == period


def test_a_window_is_cut_where_a_long_period_ends(quick, rows_of, monkeypatch):
    """67 is prime: windows of 64 steps, an exchange every 67."""
    from dkeras_core.training.exchanger import Exchanger

    seen, begin = [], Exchanger.begin
    monkeypatch.setattr(Exchanger, "begin", lambda self, x, steps: (seen.append(steps), begin(self, x, steps))[1])
    quick([[rows_of(280, 1)]], rule=rules.get("downpour", communication_period=67), batch_size=2, epochs=1)
    assert seen == [67, 67, 6]


def test_slow_steps_are_cut_so_that_the_worker_is_heard(quick, rows_of, monkeypatch):
    seen, window = [], Arithmetic.window

    def slow(trainer, given, x):
        seen.append(given.steps)
        time.sleep(0.005 * given.steps)
        return window(trainer, given, x)

    monkeypatch.setattr(Arithmetic, "window", slow)
    monkeypatch.setattr("dkeras_core.training.portions.PORTION_SECONDS", 0.02)
    outcome, _ = quick([[rows_of(640, 1)]], rule=rules.get("downpour", communication_period=10))
    assert seen[0] == 1 and max(seen) <= 4 and sum(seen) == 60
    assert by_worker(outcome)[0]["exchanges"] == 6
    seen.clear()
    monkeypatch.setattr("dkeras_core.training.portions.PORTION_SECONDS", 30.0)
    quick([[rows_of(640, 1)]], rule=rules.get("downpour", communication_period=10))
    assert seen == [1, 9, 10, 10, 10, 10, 10]


@pytest.mark.slow
def test_a_step_and_a_batch_of_rows_may_take_three_deadlines(quick, rows_of, monkeypatch):
    """Worker 1 waits for its rows, worker 0 in its first step; meanwhile the other waits for it in the first round."""
    window, slow_threads = Arithmetic.window, set()

    def slow(trainer, given, x):
        if threading.current_thread() in slow_threads:
            slow_threads.clear()
            time.sleep(3)
        return window(trainer, given, x)

    def rows(seconds):
        if not seconds:
            slow_threads.add(threading.current_thread())
        time.sleep(seconds)
        yield rows_of(64, 1)

    monkeypatch.setattr(Arithmetic, "window", slow)
    outcome, _ = quick(
        [rows(0), rows(3)], rows=128, rule=rules.get("easgd"), silence_deadline=1.0, barrier_deadline=1.0
    )
    assert not slow_threads
    assert [account["rows_trained"] for account in outcome.account["workers"]] == [192, 192]


def test_one_worker_of_downpour_is_the_same_at_any_period(quick, rows_of):
    """Its center is its x at every exchange, so the steps are those of plain training."""
    part = [rows_of(260, 1)]
    weights = [
        quick([part], rule=rules.get("downpour", communication_period=period), result="center")[0].weights
        for period in (1, 5, 9, "fit")
    ]
    for other in weights[1:]:
        np.testing.assert_allclose(other, weights[0], atol=1e-5)


def test_the_automatic_period_is_in_the_account(quick, rows_of):
    outcome, _ = quick(
        [[rows_of(2000, 1)]], rule=rules.get("asynchronous_easgd", communication_period="auto"), epochs=10
    )
    account = by_worker(outcome)[0]
    assert account["period"]["bound"] == 30  # 630 steps: at least 20 exchanges
    assert account["period"]["first"] == 10
    assert account["communication_period"] == account["period"]["last"]
    assert account["exchanges"] >= 20


@pytest.mark.slow
def test_rules_of_gradients(run, rows_of):
    parts = [[rows_of(260, 1)], [rows_of(260, 2)]]
    outcome, _ = run(parts, rule=rules.get("gradient_averaging"))
    assert outcome.account["rows_trained"] == 3 * 520
    assert [account["exchanges"] for account in outcome.account["workers"]] == [27, 27]
    np.testing.assert_allclose(outcome.center, outcome.weights, atol=1e-6)  # worker 0 shows what it has
    center, _ = run(parts, rule=rules.get("mdownpour", learning_rate=0.1))
    assert not np.array_equal(center.weights, outcome.weights)


def test_synchronous_workers_with_unequal_shares(quick, rows_of):
    parts = [[rows_of(100, 1)], [rows_of(300, 2)], []]
    outcome, _ = quick(parts, rule=rules.get("easgd", communication_period=3))
    found = by_worker(outcome)
    assert [found[worker]["rows_trained"] for worker in range(3)] == [300, 900, 0]
    assert [found[worker]["exchanges"] for worker in range(3)] == [4, 10, 0]


def test_synchronous_runs_repeat_bit_for_bit(quick, rows_of):
    parts = [[rows_of(200, 1)], [rows_of(260, 2)]]
    first, second = (quick(parts, rule=rules.get("slowmo", communication_period=4))[0].weights for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_overlap_trains_every_row_and_learns(run, rows_of):
    parts = [[rows_of(500, 1)], [rows_of(400, 2)]]
    outcome, _ = run(parts, overlap=True, epochs=5)
    assert outcome.account["rows_trained"] == 4500
    assert all(account["overlap"] and account["loss"] < 0.4 for account in outcome.account["workers"])


class TestWarmStart:
    def test_worker_0_goes_ahead_alone_and_its_rows_count_once(self, quick, rows_of, monkeypatch):
        from dkeras_core.exchange import Client

        led, lead = [], Client.lead
        monkeypatch.setattr(Client, "lead", lambda self, x: (led.append(x.copy()), lead(self, x))[1])
        parts = [[rows_of(260, 1)], [rows_of(260, 2)]]
        outcome, _ = quick(parts, warm_start=12, epochs=2)
        found = by_worker(outcome)
        assert len(led) == 1
        assert [found[w]["rows_trained"] for w in (0, 1)] == [520, 520]
        assert [found[w]["steps"] for w in (0, 1)] == [18, 18]
        assert [found[w]["exchanges"] for w in (0, 1)] == [2, 4]  # 6 steps are left to worker 0: 5 and 1

    def test_the_others_begin_with_its_vector(self, quick, rows_of, monkeypatch):
        from dkeras_core.exchange import Client

        seen = {}
        lead, center = Client.lead, Client.center
        monkeypatch.setattr(Client, "lead", lambda self, x: (seen.update(led=x.copy()), lead(self, x))[1])

        def taken(self):
            found = center(self)
            seen.setdefault("centers", []).append(found[0].copy())
            return found

        monkeypatch.setattr(Client, "center", taken)
        downpour = rules.get("downpour", communication_period="fit")
        quick([[rows_of(260, 1)], [rows_of(260, 2)]], warm_start=9, rule=downpour, epochs=1)
        assert np.array_equal(seen["centers"][1], seen["led"])

    def test_more_steps_than_it_has(self, quick, rows_of):
        outcome, _ = quick([[rows_of(64, 1)], [rows_of(260, 2)]], warm_start=1000)
        assert outcome.account["rows_trained"] == 3 * 324

    def test_worker_0_without_rows(self, quick, rows_of):
        outcome, _ = quick([[], [rows_of(260, 2)]], warm_start=10, epochs=1)
        assert outcome.account["rows_trained"] == 260


class TestNotFinite:
    @pytest.mark.slow
    def test_the_run_stops_and_worker_step_and_layer_are_named(self, run, rows_of):
        features = np.full(300 * 4, 1e30, np.float32)
        bad = pa.RecordBatch.from_pydict(
            {
                "features": pa.FixedSizeListArray.from_arrays(features, 4),
                "label": rows_of(300, 1).column("label"),
            }
        )
        with pytest.raises(TrainingError, match=r"the loss of worker 0 became nan in local step \d+: (.|\n)*dense"):
            run([[bad]], optimizer={"name": "sgd", "learning_rate": 1e10})

    @pytest.fixture
    def broken(self, quick, monkeypatch):
        """Worker 0 of the run has a loss that is not finite from its 4th step on."""
        window = Arithmetic.window

        def local(trainer, given, x):
            loss = window(trainer, given, x)
            before, trainer.steps = trainer.steps, trainer.steps + given.steps
            if trainer.broken and trainer.steps > 3:
                trainer.losses[max(3 - before, 0) :] = np.inf
                return np.inf
            return loss

        kind = type("Broken", (Arithmetic,), {"__init__": breaking(Arithmetic.__init__), "window": local})
        kind.explain_nonfinite = lambda self, window, x: "layer dense is to blame"
        monkeypatch.setattr("dkeras_core.learning.local.LocalTrainer", kind)
        return quick

    def test_the_step_is_named(self, broken, rows_of):
        with pytest.raises(TrainingError, match="the loss of worker 0 became inf in local step 4: layer dense is to"):
            broken([[rows_of(300, 1)], [rows_of(300, 2)]])

    @pytest.mark.parametrize("name", ["asynchronous_easgd", "easgd", "averaging"])
    def test_a_dropped_worker_leaves_the_others_to_it(self, broken, rows_of, name):
        parts = [[rows_of(300, 1)], [rows_of(300, 2)]]
        outcome, _ = broken(parts, on_nonfinite="drop", rule=rules.get(name))
        found = by_worker(outcome)
        assert "became inf in local step 4" in found[0]["dropped"]
        assert [found[worker]["rows_trained"] for worker in (0, 1)] == [32, 900]  # one step was made alone
        alone, _ = broken([[], parts[1]], on_nonfinite="drop", rule=rules.get(name))
        assert np.array_equal(outcome.weights, alone.weights)  # its vector is not in the mean

    def test_a_worker_that_leads_and_drops_does_not_keep_the_others_waiting(self, broken, rows_of):
        outcome, _ = broken([[rows_of(300, 1)], [rows_of(300, 2)]], on_nonfinite="drop", warm_start=20)
        assert by_worker(outcome)[1]["rows_trained"] == 900

    def test_a_vector_is_looked_at_before_it_leads(self, quick, rows_of, monkeypatch):
        def window(trainer, given, x):
            x[:] = np.nan if trainer.broken else 1
            return 0.5

        monkeypatch.setattr(Arithmetic, "__init__", breaking(Arithmetic.__init__))
        monkeypatch.setattr(Arithmetic, "window", window)
        outcome, _ = quick(
            [[rows_of(300, 1)], [rows_of(300, 2)]], on_nonfinite="drop", warm_start=4, rule=rules.get("downpour")
        )
        found = by_worker(outcome)
        assert "its parameters of worker 0 became nan" in found[0]["dropped"] and "dropped" not in found[1]
        assert np.isfinite(outcome.weights).all() and found[1]["rows_trained"] == 900

    @pytest.mark.parametrize("epochs", [1, 3])
    def test_a_state_that_is_not_finite_drops_its_worker(self, quick, rows_of, monkeypatch, epochs):
        import keras

        from dkeras_core.learning.flat import FlatModel

        def window(trainer, given, x):
            x[:] = 1
            if trainer.broken:
                state = trainer.flat.get_state()
                state[5] = np.inf
                trainer.flat.set_state(state)
            return 0.5

        monkeypatch.setattr(Arithmetic, "__init__", breaking(Arithmetic.__init__))
        monkeypatch.setattr(Arithmetic, "window", window)
        layers = [keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(1, "sigmoid")]
        model = keras.Sequential([keras.Input((4,)), *layers])
        flat = FlatModel(model)
        parts, given = [[rows_of(300, 1)], [rows_of(300, 2)]], {"center": flat.get(), "state": flat.get_state()}
        outcome, _ = quick(parts, model=model, **given, on_nonfinite="drop", epochs=epochs)
        found = by_worker(outcome)
        assert "the non-trainable state of worker 0 became inf in norm/moving_variance[1]" in found[0]["dropped"]
        assert "dropped" not in found[1] and np.isfinite(outcome.state).all()

    def test_a_vector_is_looked_at_before_it_is_sent(self, quick, rows_of, monkeypatch):
        def window(trainer, given, x):
            x[7] = np.nan
            return 0.5

        monkeypatch.setattr(Arithmetic, "window", window)
        with pytest.raises(TrainingError, match=r"what it would send of worker 0 became nan in .*kernel\[0, 7\]"):
            quick([[rows_of(300, 1)]])


def test_labels_out_of_range_are_named(quick, rows_of):
    batch = rows_of(100, 1)
    label = np.asarray(batch.column("label")).copy()
    label[42] = 7
    batch = pa.RecordBatch.from_pydict({"features": batch.column("features"), "label": label})
    with pytest.raises(DataError, match=r"'label', row 42: 7.0 is out of range .*\(row of worker 0's share\)"):
        quick([[batch]])


@pytest.mark.slow
def test_several_inputs_outputs_and_weights(run, rows_of):
    import keras

    a, b = keras.Input((4,), name="a"), keras.Input((), name="b")
    hidden = keras.layers.Dense(4)(keras.layers.Concatenate()([a, keras.layers.Reshape((1,))(b)]))
    outputs = [keras.layers.Dense(1, "sigmoid", name="first")(hidden), keras.layers.Dense(1, name="second")(hidden)]
    model = keras.Model([a, b], outputs)
    from dkeras_core.learning.flat import FlatModel

    batch = rows_of(100, 1)
    batch = batch.append_column("b", pa.array(np.arange(100, dtype=np.float32) / 100))
    batch = batch.append_column("second", pa.array(np.ones(100, np.float32)))
    batch = batch.append_column("weight", pa.array(np.full(100, 2, np.float32)))
    outcome, _ = run(
        [[batch]],
        model=model,
        center=FlatModel(model).get(),
        inputs=(Column("features", shape=(4,)), Column("b")),
        labels=(Column("label"), Column("second")),
        weight="weight",
        loss=["binary_crossentropy", "mse"],
        optimizer={"name": "adam"},
    )
    assert outcome.account["rows_trained"] == 300


@pytest.mark.slow
def test_class_weights_and_warm_up_reach_the_trainer(run, rows_of):
    part = [rows_of(200, 1)]
    plain, weighted, slow = (
        run([part], epochs=1, **settings)[0].weights
        for settings in ({}, {"class_weight": {0: 5.0}}, {"warmup": 0.5, "learning_rate_scale": 2.0})
    )
    assert not np.allclose(plain, weighted)
    assert not np.allclose(plain, slow)


def test_it_stops_when_it_is_asked_to(quick, rows_of):
    outcome, _ = quick([[rows_of(500, 1)], [rows_of(500, 2)]], epochs=100_000, target_loss=0.5)
    for account in outcome.account["workers"]:
        assert "loss" in account["stopped"]
        assert 0 < account["rows_trained"] < 500 * 100_000


@pytest.mark.slow
def test_batch_statistics_are_shared_each_epoch_and_averaged(run, rows_of, monkeypatch):
    import keras

    from dkeras_core.exchange import Client
    from dkeras_core.learning.flat import FlatModel

    shared, share = [], Client.share_state
    monkeypatch.setattr(Client, "share_state", lambda self, s: (shared.append(s.copy()), share(self, s))[1])
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(1, "sigmoid")])
    flat = FlatModel(model)
    outcome, _ = run([[rows_of(300, 1)]], model=model, center=flat.get(), state=flat.get_state())
    assert len(shared) == 3
    assert np.array_equal(outcome.state, shared[-1])
