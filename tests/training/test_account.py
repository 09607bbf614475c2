"""The account of a run: rows that do not add up fail it, and what was odd is said with what to do."""

import json
from types import SimpleNamespace

import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column
from dkeras_core.errors import TrainingError
from dkeras_core.training.account import check_rows, make_account, warnings
from dkeras_core.training.curve import Curve
from dkeras_core.training.history import History
from dkeras_core.training.settings import TrainingSettings


def settings(rule="asynchronous_easgd", **values):
    given = {
        "optimizer": {"name": "adam"}, "loss": "mse", "epochs": 2, "batch_size": 10, "workers": 2, "rows": 2000,
        "inputs": (Column("features", shape=(4,)),),
    }  # fmt: skip
    return TrainingSettings(rule=rules.get(rule), **{**given, **values})


def worker(number, **values):
    return {
        "worker": number, "host": "node", "attempt": 0, "rows": 1000, "rows_trained": 2000, "steps": 2000,
        "exchanges": 200, "loss": 0.3, "fused": "xla", "seconds": 10.0, "spool_seconds": 0.1, "compute_seconds": 9.0,
        "exchange_seconds": 0.1, "wait_seconds": 0.1, **values,
    }  # fmt: skip


def test_a_clean_run_passes_without_a_warning():
    accounts = [worker(0), worker(1)]
    check_rows(accounts, settings())
    assert warnings(settings(), accounts) == []


@pytest.mark.parametrize("reason", ["stopped", "dropped"])
def test_rows_may_be_missing_only_where_a_worker_ended_early(reason):
    short = worker(1, rows_trained=1200)
    with pytest.raises(TrainingError, match=r"3200 were trained in 2 epochs; worker 1 trained 1200 of 1000 x 2"):
        check_rows([worker(0), short], settings())
    check_rows([worker(0), short | {reason: "because"}], settings())
    with pytest.raises(TrainingError, match="worker 0 trained 1999"):
        check_rows([worker(0, rows_trained=1999), short | {reason: "because"}], settings())
    with pytest.raises(TrainingError, match="1999 reached the workers"):
        check_rows([worker(0), worker(1, rows=999, rows_trained=0) | {reason: "because"}], settings())


def test_few_exchanges_come_with_a_period_that_gives_enough():
    (said,) = warnings(settings(), [worker(0), worker(1, steps=100, exchanges=10)])
    assert "worker 1 exchanged only 10 times" in said and "communication_period to 5 or less" in said
    assert warnings(settings("averaging"), [worker(0, exchanges=1), worker(1, exchanges=1)]) == []
    stopped = worker(1, exchanges=3, stopped="it is good enough")
    assert warnings(settings(), [worker(0), stopped]) == []


@pytest.mark.parametrize(
    ("rule", "values", "advice"),
    [
        # an exchange takes 10 ms, a step 4.5 ms: 0.95 x 10 / (0.05 x 4.5) = 42.2
        ("asynchronous_easgd", {"exchange_seconds": 2.0}, "exchanges took 18% .*communication_period 43 would"),
        ("asynchronous_easgd", {"exchange_seconds": 9.0}, "50% .*fewer workers, or communication_period 100"),
        ("gradient_averaging", {"exchange_seconds": 9.0}, "several local steps"),
    ],
)
def test_costly_exchanges_come_with_a_period_that_pays(rule, values, advice):
    found = warnings(settings(rule), [worker(0, **values), worker(1, **values)])
    assert [said for said in found if said.startswith("exchanges took")], found
    import re

    assert re.search(advice, " ".join(found))


def test_a_straggler_is_named():
    found = warnings(settings("easgd"), [worker(0, late=3, late_seconds=0.1), worker(1, late=150, late_seconds=4.0)])
    assert found == [
        "the others waited 4.0 s for worker 1 on node, which came last to 150 of 200 rounds; look at that host, "
        "or use an asynchronous algorithm"
    ]
    once = [worker(0, late=199, late_seconds=0.1), worker(1, late=1, late_seconds=4.0)]
    assert warnings(settings("easgd"), once) == [], "who compiled longest is no straggler"


def test_workers_that_left_or_had_nothing_are_told():
    nothing = worker(2, rows=0, rows_trained=0, steps=0, exchanges=0)
    accounts = [worker(0, attempt=1), worker(1, dropped="its loss became nan"), nothing]
    found = warnings(settings(workers=3), accounts)
    assert "1 of 3 workers were given no rows; use fewer workers" in found
    assert "worker 1 on node dropped out, and the result is made without it: its loss became nan" in found
    assert any("started again: 0" in said for said in found)
    assert "step by step" in warnings(settings(), [worker(0, fused="no (own train_step)"), worker(1)])[0]


def test_the_account_holds_the_history_and_is_json():
    curve, history = Curve(), History(stopped="enough")
    curve.add(0, 0, {"rows": 10, "loss": 0.5})
    history.add(1, 1.5, {"loss": 0.5, "val_loss": 0.4})
    late = [SimpleNamespace(worker=n, late=n, late_seconds=n / 3) for n in range(2)]
    status = SimpleNamespace(exchanges=400, bytes=10, shards=1, workers=late, search=None)
    accounts = [worker(1), worker(0)]
    account = make_account(settings("easgd"), accounts, status, curve, history, 7, 4.0)
    read = json.loads(json.dumps(account))
    assert (read["rows_trained"], read["rows_per_second"], read["seconds"]) == (4000, 1000.0, 4.0)
    assert (read["result"], read["epochs"], read["epoch"], read["epoch_seconds"]) == ("mean", 2, [1], [1.5])
    assert [entry["late"] for entry in read["workers"]] == [0, 1]
    again = History.from_dict(read)
    assert again.to_dict() == json.loads(json.dumps(history.to_dict()))
    assert again.stopped == "enough" and again.history == {"loss": [0.5], "val_loss": [0.4]}
    assert again.curve[0]["loss"] == 0.5 and again.workers[1]["late_seconds"] == 0.333
