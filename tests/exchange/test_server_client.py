"""Server and client together, as training uses them."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, ExchangeError, TrainingError
from dkeras_core.rules import Rule

N = 1000


def vector(seed, size=N):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_a_run_from_join_to_result(serve, connect):
    reports = []
    server = serve(
        center=vector(0), state=np.array([1, 2], np.float32), on_report=lambda *report: reports.append(report)
    )
    first, second = connect(server, 0), connect(server, 1, attempt=3)
    assert first.size == N and first.workers == 2
    x, state = first.center()
    np.testing.assert_array_equal(x, vector(0))
    np.testing.assert_array_equal(state, [1, 2])

    answer = first.exchange(vector(1))
    difference = np.float32(0.5) * (vector(1) - vector(0))
    np.testing.assert_array_equal(answer, difference)
    center, version = server.snapshot()
    np.testing.assert_array_equal(center, vector(0) + difference)
    assert version == 1
    assert first.exchange(vector(2)) is answer  # one buffer, made once

    assert second.report({"rows": 10, "loss": 0.5}) is None
    assert reports == [(1, 3, {"rows": 10, "loss": 0.5})]
    assert server.status().counts() == {"expected": 2, "joined": 2, "finished": 0, "lost": 0}
    assert not server.wait(0.01)

    first.finish(vector(3), np.array([1, 1], np.float32), {"rows": 5})
    second.finish(vector(4), np.array([3, 5], np.float32), {"rows": 6})
    assert server.wait(2)
    status = server.status()
    assert (status.finished, status.lost, status.exchanges, status.errors) == (2, 0, 2, [])
    assert [w.report for w in status.workers] == [{"rows": 5}, {"rows": 6}]
    assert [(w.worker, w.attempt, w.exchanges) for w in status.workers] == [(0, 0, 2), (1, 3, 0)]
    assert status.bytes > 2 * 2 * N * 4

    result = server.result()
    np.testing.assert_allclose(result.mean, (vector(3) + vector(4)) / 2, rtol=1e-6)
    np.testing.assert_array_equal(result.state, [2, 3])
    np.testing.assert_array_equal(result.center, server.snapshot()[0])
    assert result.workers == 2 and result.exchanges == 2


def test_without_state_and_with_rule_parameters(serve, connect):
    server = serve(rules.get("asynchronous_easgd", moving_rate="paper"), workers=1)
    client = connect(server)
    assert client.center()[1] is None
    np.testing.assert_allclose(client.exchange(np.ones(N, np.float32)), 0.9, rtol=1e-6)
    client.finish(np.ones(N, np.float32))
    assert server.result().state is None


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 200])
def test_sizes_around_the_shards(serve, connect, size):
    server = serve(center=np.zeros(size, np.float32), workers=1)
    client = connect(server)
    for _ in range(2):
        client.exchange(vector(1, size))
    np.testing.assert_allclose(server.snapshot()[0], 0.75 * vector(1, size), rtol=1e-6)
    client.finish(vector(2, size))
    np.testing.assert_array_equal(server.result().mean, vector(2, size))


def test_vectors_larger_than_all_socket_buffers(serve, connect):
    size = 4_000_000
    server = serve(center=np.zeros(size, np.float32), workers=1, shard=64 * 1024, timeout=30.0)
    client = connect(server, timeout=30.0)
    x = np.arange(size, dtype=np.float32)
    np.testing.assert_array_equal(client.exchange(x), x / 2)
    np.testing.assert_array_equal(client.center()[0], x / 2)


@pytest.mark.parametrize(
    ("rule", "size", "settings", "shards"),
    [
        ("asynchronous_easgd", 400_000, {}, 1),
        ("asynchronous_easgd", 500_000, {}, 2),
        ("asynchronous_easgd", 400_000, {"host": "0.0.0.0", "advertise": "driver"}, 2),
        ("asynchronous_easgd", 400_000, {"wire": "float16"}, 2),
        ("easgd", 400_000, {}, 2),
    ],
)
def test_only_what_is_exchanged_at_once_within_one_machine_stays_whole(serve, rule, size, settings, shards):
    server = serve(rules.get(rule), center=np.zeros(size, np.float32), shard=None, **settings)
    assert server.status().shards == shards


def test_eight_clients_at_once_conserve_the_sum(serve, connect):
    """Each e is added to the center and subtracted from one worker; a lost or torn update would show in the sum."""
    # Shards so long that NumPy lets other threads run in the middle of the rule's arithmetic.
    rule, workers, exchanges, size = rules.get("asynchronous_easgd"), 8, 40, 40_000
    center = np.linspace(0, 1, size, dtype=np.float32)
    server = serve(rule, center=center, workers=workers, shard=16_000)
    xs = [center + worker for worker in range(workers)]
    clients = [connect(server, worker) for worker in range(workers)]

    def work(worker):
        for _ in range(exchanges):
            rule.receive(xs[worker], clients[worker].exchange(xs[worker]), {})
        clients[worker].finish(xs[worker])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    assert server.wait(20)
    for thread in threads:
        thread.join()
    result = server.result()
    before = center * (workers + 1) + sum(range(workers))
    np.testing.assert_allclose(result.center + result.mean * workers, before, rtol=1e-5)
    assert result.exchanges == workers * exchanges
    assert np.ptp([*xs, result.center], axis=0).max() < 7


@dataclass(frozen=True, kw_only=True)
class StaleDownpour(Rule):
    """A rule unlike EASGD, to try the contract: worker state, server state and staleness (DynSGD with momentum)."""

    name: ClassVar[str] = "stale_downpour"

    def worker_state(self, x):
        return {"pulled": x.copy(), "update": np.empty_like(x)}

    def server_state(self, center):
        return {"velocity": np.zeros_like(center)}

    def message(self, x, state, steps):
        return np.subtract(x, state["pulled"], out=state["update"])

    def apply(self, center, message, answer, state, arrival):
        state["velocity"] *= np.float32(0.5)
        state["velocity"] += message / np.float32(arrival.staleness + 1)
        center += state["velocity"]
        answer[:] = center

    def receive(self, x, answer, state):
        x[:] = answer
        state["pulled"][:] = answer


def test_a_rule_with_states_and_staleness(serve, connect):
    rule = StaleDownpour()
    server = serve(rule)
    slow, fast = connect(server, 0), connect(server, 1)
    xs = [slow.center()[0], fast.center()[0]]
    states = [rule.worker_state(x) for x in xs]

    def exchange(client, worker):
        xs[worker] += 1
        rule.receive(xs[worker], client.exchange(rule.message(xs[worker], states[worker], 1)), states[worker])
        return xs[worker][0], xs[worker][-1]

    assert exchange(fast, 1) == (1, 1)  # v = 1, c = 1
    assert exchange(fast, 1) == (2.5, 2.5)  # v = 1.5, c = 2.5
    # Two exchanges came since the slow worker's pull: its update counts a third. v = 0.75 + 1/3
    assert exchange(slow, 0) == pytest.approx((2.5 + 0.75 + 1 / 3,) * 2)
    # None since its own: v = (0.75 + 1/3) / 2 + 1
    assert exchange(slow, 0) == pytest.approx((2.5 + 1.5 * (0.75 + 1 / 3) + 1,) * 2)


def test_tail_average_covers_about_the_last_tenth(serve, connect):
    """With a center that grows by 1 an exchange, the average lags by about a tenth of the run."""
    server = serve(rules.get("asynchronous_easgd", moving_rate=1.0), center=np.zeros(70, np.float32), workers=1)
    client = connect(server)
    for k in range(1, 801):
        client.exchange(np.full(70, k, np.float32))
    client.finish(np.zeros(70, np.float32))
    result = server.result()
    assert np.all(result.center == 800)
    assert np.all(np.abs(800 - result.ema - 80) < 12)


def test_tail_average_of_the_shortest_run_is_its_center(serve, connect):
    server = serve(center=vector(0), workers=1)
    client = connect(server)
    client.exchange(vector(1))
    client.finish(vector(1))
    np.testing.assert_allclose(server.result().ema, server.result().center, rtol=1e-5, atol=1e-6)


def test_a_finished_worker_can_no_longer_exchange(serve, connect):
    client = connect(serve())
    client.finish(vector(0))
    for late in (lambda: client.exchange(vector(1)), lambda: client.report({}), lambda: client.finish(vector(1))):
        with pytest.raises(ExchangeError, match=r"worker 0 .* has finished"):
            late()


def test_stop_request_reaches_a_worker_with_its_report(serve, connect):
    server = serve()
    client = connect(server)
    server.request_stop("target loss reached")
    assert client.report({"rows": 1}) == "target loss reached"
    client.exchange(vector(0))  # it may still finish what it does


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(N), np.zeros(N - 1, np.float32), np.zeros((N, 1), np.float32), [0.0] * N],
    ids=["float64", "short", "column", "list"],
)
def test_wrong_vectors_are_refused_before_they_are_sent(serve, connect, wrong):
    server = serve()
    client = connect(server)
    with pytest.raises(TrainingError, match=r"worker 0 .* must be float32 of shape \(1000,\)"):
        client.exchange(wrong)
    client.exchange(vector(0))  # nothing was sent, so the session goes on


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"center": np.zeros(3)}, "flat float32"),
        ({"center": np.zeros(0, np.float32)}, "flat float32"),
        ({"center": np.array([1, np.nan], np.float32)}, "NaN or infinite"),
        ({"workers": 0}, "at least 1"),
        ({"secret": b"short"}, "32 bytes"),
        ({"host": "0.0.0.0"}, "advertise host"),
        ({"port": (2000, 1000)}, "port must be"),
    ],
)
def test_settings_that_cannot_work(serve, settings, message):
    with pytest.raises(ConfigError, match=message):
        serve(**settings)


def test_result_needs_a_finished_worker(serve):
    with pytest.raises(TrainingError, match="no worker has finished"):
        serve().result()


def test_stop_leaves_no_descriptor_open(serve, connect):
    before = len(os.listdir("/proc/self/fd"))
    server = serve()
    client = connect(server)
    client.exchange(vector(0))
    client.close()
    server.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_server_stops_twice_and_leaves_the_callers_center_alone(serve, connect):
    center = vector(0)
    server = serve(center=center)
    connect(server).exchange(vector(1))
    np.testing.assert_array_equal(center, vector(0))
    server.stop(grace=0.1)
    server.stop()
    with pytest.raises(TrainingError, match="not running"):
        _ = server.address
    assert replace(server.status(), expected=9).expected == 9  # still readable
