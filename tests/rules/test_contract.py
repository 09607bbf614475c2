"""What every rule owes to those that carry it: no allocation, whole messages, work by element, documentation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.rules import Arrival

NAMES = rules.names()
EXCHANGING = [name for name in NAMES if rules.get(name).exchanging and rules.get(name).local != "pieces"]


@pytest.mark.parametrize("name", EXCHANGING)
def test_hot_path_works_in_place(name):
    """No vector is allocated by an exchange; the message is float32, survives the answer, and x keeps its memory."""
    rule = rules.get(name).for_workers(2)
    random = np.random.default_rng(0)
    start, x = (random.normal(size=100_000).astype(np.float32) for _ in range(2))
    center, answer = start.copy(), np.empty_like(x)
    state, server_state = rule.worker_state(start), rule.server_state(center)

    def exchange():
        message = rule.message(x, state, 10)
        rule.apply(center, message, answer, server_state, Arrival(0, 3, 1, 2 if rule.synchronous else 1))
        if rule.local != "averaged_gradients":
            rule.receive(x, answer, state)
        return message

    exchange()
    tracemalloc.start()
    message = exchange()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.size  # a quarter of a float32 vector, less than one of bool
    assert message.dtype == answer.dtype == x.dtype == center.dtype == np.float32
    assert np.isfinite(answer).all() and np.isfinite(x).all() and np.isfinite(center).all()


@pytest.mark.parametrize("name", EXCHANGING)
def test_apply_leaves_the_message_and_works_by_element(name):
    """The server may send a message on, and cuts vectors where it likes."""
    rule = rules.get(name).for_workers(2)
    random = np.random.default_rng(0)
    start, x = (random.normal(size=10).astype(np.float32) for _ in range(2))
    message = rule.message(x, rule.worker_state(start), 10).copy()
    kept, arrival = message.copy(), Arrival(1, 5, 2, 2 if rule.synchronous else 1)
    results = []
    for spans in ([slice(0, 10)], [slice(0, 3), slice(3, 4), slice(4, 10)]):
        center, answer = start.copy(), np.empty_like(x)
        state = rule.server_state(center)
        for span in spans:
            part = {name: vector[span] for name, vector in state.items()}
            rule.apply(center[span], message[span], answer[span], part, arrival)
        results.append((center, answer))
    np.testing.assert_array_equal(message, kept)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", [name for name in EXCHANGING if not rules.get(name).synchronous])
def test_apply_may_answer_in_the_place_of_the_message(name):
    """The server gives an asynchronous rule one array as message and answer."""
    rule = rules.get(name).for_workers(2)
    random = np.random.default_rng(0)
    start, x = (random.normal(size=10).astype(np.float32) for _ in range(2))
    message = rule.message(x, rule.worker_state(start), 10)
    results = []
    for values, answer in ((message.copy(), np.empty_like(message)), [message.copy()] * 2):
        center = start.copy()
        state = rule.server_state(center)
        rule.apply(center, values, answer, state, Arrival(1, 5, 2))
        results.append((center, answer, *state.values()))
    for apart, together in zip(*results, strict=True):
        np.testing.assert_array_equal(apart, together)


@pytest.mark.parametrize("name", NAMES)
def test_communication_periods(name):
    """Words where they mean something; "auto" only where nobody waits for the others; some have no choice."""
    rule = type(rules.get(name))
    if rule.only_period is not None:
        allowed = [rule.only_period]
    else:
        allowed = [1, 7, "epoch", "fit"] + ["auto"] * (not rule.synchronous)
    for value in (1, 7, "epoch", "fit", "auto"):
        if value in allowed:
            assert rules.get(name, communication_period=value).communication_period == value
        else:
            with pytest.raises(ConfigError, match="communication_period must be"):
                rules.get(name, communication_period=value)
    if 7 in allowed:
        assert type(rules.get(name, communication_period=np.int64(7)).communication_period) is int


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name):
    texts = rules.describe(name)
    assert list(texts) == rules.parameters(name)
    assert all(len(text) > 15 and "\n" not in text for text in texts.values())
