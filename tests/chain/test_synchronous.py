"""Synchronous algorithms on real YARN: a barrier stage, and what is said when there are not slots for all workers."""

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROOT = "/chain"
STEPS = ("--step", "preprocess", "--step", "train")


def test_workers_of_a_synchronous_algorithm_meet(dkeras, events, result_of):
    algorithm = "{name: slowmo, communication_period: 10}"
    settings = {"root": ROOT, "name": "meeting", "algorithm": algorithm, "training__epochs": "2"}
    outcome = dkeras.submit("--data", str(events), *STEPS, **settings)
    assert outcome.code == 0, outcome.err
    train = result_of(ROOT, "meeting", "train.json")
    assert train["rows_trained"] == 2 * train["rows_in"]
    first, second = (worker["exchanges"] for worker in train["workers"])
    assert abs(first - second) <= 1  # one who has a row more may have a step more


def test_more_workers_than_yarn_gives_slots(dkeras, events):
    settings = {"algorithm": "{name: easgd}", "training__workers": "4", "training__join_deadline": "15"}
    outcome = dkeras.submit("--data", str(events), *STEPS, root=ROOT, name="meeting", **settings)
    assert outcome.code == 6, outcome.err
    assert "easgd is synchronous and needs 4 task slots at once, but after 15 s" in outcome.err, outcome.err
    assert "2 of 2 executors are registered with 2 task slots" in outcome.err
    assert "use at most 2 workers" in outcome.err
