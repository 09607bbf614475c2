"""Exchanges without a network: what reaches x, and when, with and without overlap."""

import threading

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ExchangeError
from dkeras_core.rules import Arrival
from dkeras_core.training.exchanger import NotFinite, finite, make_exchanger


class Server:
    """A client and its center in one; an exchange waits until it is let go."""

    def __init__(self, rule, center):
        self.rule, self.center, self.state = rule, center.copy(), rule.server_state(center)
        self.answer, self.exchanges = np.empty_like(center), 0
        self.gate = threading.Event()
        self.gate.set()
        self.failure = None
        self.threads = set()

    def exchange(self, message):
        assert self.gate.wait(10)
        self.threads.add(threading.current_thread().name)
        if self.failure:
            raise self.failure
        self.rule.apply(self.center, message, self.answer, self.state, Arrival(0, self.exchanges, 0))
        self.exchanges += 1
        return self.answer


class Trainer:
    """Local steps that add 1; the gradient of any window is 0.5; an own step subtracts the gradient."""

    def window(self, window, x):
        x += np.float32(window)
        return 0.0

    def gradient(self, window, out, x):
        out[:] = 0.5
        return 0.0

    def step(self, gradient, x):
        x -= gradient


def begun(name, overlap=False, **parameters):
    rule = rules.get(name, **parameters)
    x = np.zeros(4, np.float32)
    server = Server(rule, x)
    exchanger = make_exchanger(rule, server, Trainer(), overlap=overlap)
    exchanger.start(x)
    return exchanger, server, x


def steps(exchanger, x, count):
    for _ in range(count):
        exchanger.local(8, x)
        exchanger.settle(x)
        exchanger.begin(x, 8)


def test_an_exchange_without_overlap_is_the_papers():
    exchanger, server, x = begun("asynchronous_easgd", moving_rate=0.5)
    steps(exchanger, x, 2)
    exchanger.close()
    assert (x[0], server.center[0]) == (8.0, 8.0)  # 8: e = 4; 4 + 8: e = 4
    assert server.threads == {threading.current_thread().name}


def test_with_overlap_the_elastic_difference_comes_one_period_late():
    exchanger, server, x = begun("asynchronous_easgd", overlap=True, moving_rate=0.5)
    steps(exchanger, x, 2)
    exchanger.local(8, x)
    exchanger.settle(x)
    assert (x[0], server.center[0]) == (16.0, 8.0)  # 8: e = 4; 16 - 4: e = 4; 20 - 4
    assert threading.current_thread().name not in server.threads
    exchanger.close()


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("downpour", {"commit_rate": 1}),
        ("slowmo", {"slow_momentum": 0.0}),
        ("asynchronous_easgd", {"moving_rate": 0.3}),
    ],
)
def test_no_local_step_is_lost(name, parameters, overlap):
    """One worker: all that it did is in the center in the end; of EASGD, in the center and x together."""
    exchanger, server, x = begun(name, overlap, **parameters)
    steps(exchanger, x, 5)
    exchanger.settle(x)
    exchanger.begin(x, 0)
    exchanger.settle(x)
    exchanger.close()
    total = server.center + x if name == "asynchronous_easgd" else server.center
    assert total.tolist() == pytest.approx([40.0] * 4)


def test_local_steps_go_on_while_the_exchange_travels():
    exchanger, server, x = begun("asynchronous_easgd", overlap=True, moving_rate=0.5)
    server.gate.clear()
    exchanger.local(8, x)
    exchanger.begin(x, 8)
    exchanger.local(8, x)  # changes x, not what is on its way
    assert exchanger.busy
    server.gate.set()
    exchanger.settle(x)
    assert not exchanger.busy
    assert (x[0], server.center[0]) == (12.0, 4.0)
    exchanger.close()


def test_what_goes_wrong_under_way_reaches_the_worker():
    exchanger, server, x = begun("asynchronous_easgd", overlap=True)
    server.failure = ExchangeError("the server has gone")
    exchanger.begin(x, 1)
    with pytest.raises(ExchangeError, match="has gone"):
        exchanger.settle(x)
    exchanger.close()
    assert not exchanger._thread.is_alive()


@pytest.mark.parametrize("overlap", [False, True])
def test_what_is_not_finite_is_never_sent(overlap):
    exchanger, server, x = begun("asynchronous_easgd", overlap)
    x[2] = np.nan
    with pytest.raises(NotFinite) as found:
        exchanger.begin(x, 1)
    assert np.isnan(found.value.vector[2])
    exchanger.close()
    assert server.exchanges == 0


def test_a_large_sum_is_finite():
    assert finite(np.full(10, 3e38, np.float32))
    assert not finite(np.array([1, np.inf], np.float32))


def test_the_server_steps_with_a_gradient():
    exchanger, server, x = begun("mdownpour", learning_rate=1.0, momentum=0.0)
    steps(exchanger, x, 3)
    assert x.tolist() == server.center.tolist() == [-1.5] * 4


def test_the_worker_steps_with_the_averaged_gradient():
    exchanger, server, x = begun("gradient_averaging")
    steps(exchanger, x, 3)
    assert x.tolist() == [-1.5] * 4
    assert server.center.tolist() == [0.0] * 4
