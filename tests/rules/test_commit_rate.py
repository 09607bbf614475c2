"""What part of an update the server adds: whole ones as in the papers, or 1 / p of each."""

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.rules import Arrival

ADDING = [name for name in rules.names() if "commit_rate" in rules.parameters(name)]


def exchange(rule, before, center, state, steps=10):
    """The worker comes with x = ``before``; returns its message, and its x afterwards."""
    x = np.array(before, np.float32)
    message = rule.message(x, state, steps).copy()
    answer = message.copy()
    rule.apply(center, answer, answer, rule.server_state(center), Arrival(0, 0, 0))
    rule.receive(x, answer, state)
    return message.tolist(), x.tolist()


@pytest.mark.parametrize("name", ADDING)
def test_the_number_of_workers_makes_it_a_number(name):
    made = rules.get(name).for_workers(8)
    assert made.commit_rate == 1 / 8 and made.for_workers(64) == made
    assert rules.get(name).for_workers(1).commit_rate == 1
    assert rules.get(name, commit_rate=1).for_workers(8).commit_rate == 1


@pytest.mark.parametrize("name", ["downpour", "adownpour", "mvadownpour", "asynchronous_delta_averaging"])
def test_a_quarter_of_each_of_four_workers_updates(name):
    rule, center = rules.get(name).for_workers(4), np.array([1.0, 2.0], np.float32)
    state = rule.worker_state(center)
    assert exchange(rule, [9.0, -2.0], center, state) == ([2.0, -1.0], [3.0, 1.0])
    assert exchange(rule, [7.0, 1.0], center, state) == ([1.0, 0.0], [4.0, 1.0])  # since it took the center


@pytest.mark.parametrize(("workers", "steps", "added"), [(4, 8, 1.0), (4, 2, 2.0), (16, 8, 0.5), (1, 1, 8.0)])
def test_adag_adds_at_most_the_mean(workers, steps, added):
    """Of d = 8: d / steps, or d / p where that is less."""
    rule, center = rules.get("adag").for_workers(workers), np.zeros(1, np.float32)
    assert exchange(rule, [8.0], center, rule.worker_state(center), steps) == ([added], [added])


def test_threshold_sharing_counts_as_sent_what_is_over_the_threshold():
    """m = (0.5, 0, -0.5), of which each of two workers adds half; the residuals are those of the whole m."""
    rule, center = rules.get("threshold_sharing", threshold=0.5).for_workers(2), np.zeros(3, np.float32)
    state = rule.worker_state(center)
    message, x = exchange(rule, [2.0, -0.25, -1.0], center, state)
    assert message == [0.25, 0.0, -0.25] and center.tolist() == message
    assert x == [1.75, -0.25, -0.75]  # c + (r - m)
