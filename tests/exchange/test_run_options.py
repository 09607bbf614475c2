"""What a run may ask of the server beside the exchange: warm start, last vectors kept, states while training, drops."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import waiting as waiting_module
from dkeras_core.exchange.frames import Kind
from dkeras_core.rules import Rule

N = 1000


def full(value, size=N):
    return np.full(size, value, np.float32)


@dataclass(frozen=True, kw_only=True)
class AveragedCenter(Rule):
    """The center becomes the message; beside it stands the mean of all centers, which is published."""

    name: ClassVar[str] = "averaged_center_for_tests"

    def server_state(self, center):
        return {"average": center.copy()}

    def apply(self, center, message, answer, state, arrival):
        center[:] = message
        state["average"] += (center - state["average"]) / np.float32(arrival.exchanges + 2)
        answer[:] = center

    def receive(self, x, answer, state):
        x[:] = answer


class Publishing(AveragedCenter):
    def published(self, center, state):
        return state["average"]


@pytest.fixture
def background():
    """background(call) -> a list that gets its result; the thread is joined at the end."""
    threads = []

    def start(call):
        results = []

        def run():
            try:
                results.append(call())
            except Exception as error:
                results.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return results

    yield start
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


# Warm start


def test_the_others_take_the_center_that_worker_0_leads_to(serve, connect, background, eventually, monkeypatch):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Publishing(), full(1), warm_start=True)
    second, first = connect(server, 1, timeout=0.3), connect(server, 0)
    assert not first.led and not second.led
    taken = background(lambda: second.center()[0])
    np.testing.assert_array_equal(first.center()[0], full(1))
    time.sleep(0.5)  # longer than the second worker's timeout
    assert not taken
    first.lead(full(7))
    assert first.led
    eventually(lambda: taken)
    np.testing.assert_array_equal(taken[0], full(7))
    np.testing.assert_array_equal(server.snapshot()[0], full(7))
    np.testing.assert_array_equal(server.published()[0], full(7))  # the rule's state begins there too
    first.exchange(full(9))
    np.testing.assert_array_equal(server.published()[0], full(8))


def test_only_worker_0_leads(serve, connect):
    server = serve(warm_start=True)
    with pytest.raises(ExchangeError, match="led, which is for worker 0"):
        connect(server, 1).lead(full(1))


def test_worker_0_may_lead_again(serve, connect):
    """For rules whose center does not move by itself; what the rule keeps beside it stays."""
    server = serve(Publishing())
    client = connect(server)
    assert client.led  # no warm start
    client.exchange(full(4))
    client.lead(full(9))
    np.testing.assert_array_equal(server.snapshot()[0], full(9))
    np.testing.assert_array_equal(server.published()[0], full(2))


def test_the_next_attempt_of_a_leader_need_not_lead(serve, connect):
    server = serve(warm_start=True)
    connect(server, 0).lead(full(1))
    assert connect(server, 0, attempt=1).led


def test_the_next_attempt_of_a_lost_leader_leads(serve, connect, raw, background, eventually):
    server = serve(warm_start=True)
    taken = background(lambda: connect(server, 1).center()[0])
    channel = raw(server, 0)
    channel.sock.sendall(channel.frame_header(Kind.LEAD, 0, N * 4) + full(5)[:500].tobytes())
    channel.close()
    eventually(lambda: server.status().lost)
    client = connect(server, 0, attempt=1)
    assert not client.led and not taken
    client.lead(full(3))
    eventually(lambda: taken)
    np.testing.assert_array_equal(taken[0], full(3))


def test_a_leader_that_never_comes_fails_the_run(serve, connect, monkeypatch):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(warm_start=True, barrier_deadline=0.2)
    with pytest.raises(TrainingError, match=r"waited 0.2 s for worker 0, which has never joined, to lead"):
        connect(server, 1).center()


def test_a_leader_must_lead_with_finite_values(serve, connect):
    with pytest.raises(TrainingError, match="not finite: element 0 of 1000 is nan"):
        connect(serve(warm_start=True)).lead(full(np.nan))


# What is handed over


def test_last_vectors_are_kept_in_the_order_of_the_workers(serve, connect):
    server = serve(workers=3, state=np.zeros(2, np.float32), keep_finals=True)
    for worker in (2, 0, 1):
        connect(server, worker).finish(full(worker), full(worker, 2))
    connect(server, 1, attempt=1).finish(full(10), full(10, 2))
    result = server.result()
    assert [vector[0] for vector in result.finals] == [0, 10, 2]
    assert [state[0] for state in result.final_states] == [0, 10, 2]
    np.testing.assert_array_equal(result.state, [4, 4])


def test_last_vectors_are_not_kept_unasked(serve, connect):
    server = serve(workers=1)
    connect(server).finish(full(1))
    assert server.result().finals is None and server.result().final_states is None


def test_result_publishes_what_the_rule_says(serve, connect):
    for rule, published in ((Publishing(), 2.0), (AveragedCenter(), 4.0)):
        server = serve(rule, workers=1)
        client = connect(server)
        client.exchange(full(4))
        client.finish(full(4))
        np.testing.assert_array_equal(server.result().published, full(published))
        np.testing.assert_array_equal(server.result().center, full(4))


def test_states_of_workers_that_still_train(serve, connect):
    server = serve(state=np.array([1, 2], np.float32))
    np.testing.assert_array_equal(server.state(), [1, 2])
    first, second = connect(server, 0), connect(server, 1)
    first.share_state(full(4, 2))
    np.testing.assert_array_equal(server.state(), [4, 4])
    second.share_state(full(6, 2))
    first.share_state(full(8, 2))
    np.testing.assert_array_equal(server.state(), [7, 7])
    first.finish(full(0), full(10, 2))
    np.testing.assert_array_equal(server.state(), [8, 8])
    np.testing.assert_array_equal(server.result().state, [10, 10])  # of those who have finished
    with pytest.raises(TrainingError, match="not finite"):
        second.share_state(full(np.inf, 2))


def test_no_state_no_mean_of_states(serve):
    assert serve().state() is None


# Workers that leave for good


def test_a_dropped_worker_is_not_waited_for(serve, connect, eventually):
    server = serve()
    connect(server, 0).finish(full(1))
    client = connect(server, 1)
    client.drop("loss is nan", {"rows": 5})
    client.close()
    assert server.wait(2)
    worker = server.status().workers[1]
    assert (worker.state, worker.reason, worker.report) == ("dropped", "loss is nan", {"rows": 5})
    assert server.status().errors[0].endswith("was dropped: loss is nan")
    assert server.status().lost == 0
    np.testing.assert_array_equal(server.result().mean, full(1))
    with pytest.raises(ExchangeError, match="ended its session"):
        client.exchange(full(1))


@pytest.mark.parametrize(("setting", "state"), [("stop", "lost"), ("drop", "dropped")])
def test_a_push_that_is_not_finite(serve, connect, eventually, setting, state):
    server = serve(on_nonfinite=setting)
    with pytest.raises(TrainingError, match="not finite"):
        connect(server, 0).exchange(full(np.nan))
    eventually(lambda: server.status().workers[0].state == state)
    assert "element 0 of 1000 is nan" in server.status().workers[0].reason


def test_closing_breaks_off_a_request_in_another_thread(serve, connect, background, eventually):
    server = serve(warm_start=True)
    client = connect(server, 1)
    waits = background(client.center)
    eventually(lambda: client._busy)
    client.close()
    eventually(lambda: waits)
    assert isinstance(waits[0], ExchangeError)
    eventually(lambda: server.status().lost)
