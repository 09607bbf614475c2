"""Synchronous rules: workers meet at the server, with a deadline and a report of who was last."""

from __future__ import annotations

import random
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


@dataclass(frozen=True, kw_only=True)
class Averaging(Rule):
    """Every round the center becomes the mean; the state counts rounds and workers, shard by shard."""

    name: ClassVar[str] = "averaging_for_tests"
    synchronous: ClassVar[bool] = True

    def server_state(self, center):
        return {"rounds": np.zeros_like(center), "met": np.zeros_like(center)}

    def apply(self, center, message, answer, state, arrival):
        assert (arrival.worker, arrival.staleness) == (0, 0)
        state["rounds"] += 1
        state["met"][:] = arrival.workers
        center[:] = message
        answer[:] = message

    def receive(self, x, answer, state):
        x[:] = answer

    def published(self, center, state):
        return state["met"]


def vector(seed):
    return np.random.default_rng(seed).normal(size=N).astype(np.float32)


def full(value):
    return np.full(N, value, np.float32)


def together(*calls):
    """Run calls in threads of their own; their results, or what they raised."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return results


@pytest.fixture
def background():
    """background(call) -> a function that waits for its result, or raises what it raised."""

    def start(call):
        results = []
        thread = threading.Thread(target=lambda: results.extend(together(call)))
        thread.start()

        def result(seconds=5.0):
            thread.join(seconds)
            assert not thread.is_alive(), "still waits"
            if isinstance(results[0], Exception):
                raise results[0]
            return results[0]

        result.waits = thread.is_alive
        return result

    return start


@pytest.fixture
def waiting(eventually):
    """waiting(server, worker, part): wait until that worker has brought its message of that shard."""

    def wait(server, worker, part=None):
        meeting = server._run.rounds
        eventually(lambda: worker in meeting._deposits and part in (None, meeting._part))

    return wait


def test_all_get_the_rule_applied_to_the_mean(serve, connect):
    server = serve(Averaging(), workers=4)
    clients = [connect(server, worker) for worker in range(4)]
    for k in (1, 2):
        answers = together(*(lambda w=w, c=c, k=k: c.exchange(full(w * k)).copy() for w, c in enumerate(clients)))
        for answer in answers:
            np.testing.assert_array_equal(answer, full(1.5 * k))
    center, version = server.snapshot()
    np.testing.assert_array_equal(center, full(3))
    status = server.status()
    assert version == status.exchanges == 2
    assert [worker.exchanges for worker in status.workers] == [2] * 4
    np.testing.assert_array_equal(server.published()[0], full(4))


def test_one_worker_meets_itself_unchanged(serve, connect):
    np.testing.assert_array_equal(connect(serve(Averaging(), workers=1)).exchange(vector(1)), vector(1))


def test_the_order_of_arrival_leaves_no_trace(serve, connect):
    """Sums of these values differ in their last bits with their order; five runs, workers late by chance, do not."""
    workers, xs = 5, [vector(seed) * np.float32(10.0**seed) for seed in range(5)]
    found = set()
    for run in range(5):
        delay = random.Random(run)
        server = serve(Averaging(), workers=workers)
        clients = [connect(server, worker) for worker in range(workers)]

        def work(worker, client, pauses):
            for pause in pauses:
                time.sleep(pause)
                client.exchange(xs[worker])
            client.finish(xs[worker])
            client.close()

        pauses = [[delay.uniform(0, 0.02) for _ in range(3)] for _ in range(workers)]
        outcomes = together(*(lambda w=w, c=c, p=pauses[w]: work(w, c, p) for w, c in enumerate(clients)))
        assert outcomes == [None] * workers
        result = server.result()
        found.add((result.center.tobytes(), result.mean.tobytes(), result.ema.tobytes()))
        server.stop()
    assert len(found) == 1
    orders = {sum(random.Random(k).sample(xs, 5), np.zeros(N, np.float32)).tobytes() for k in range(10)}
    assert len(orders) > 1  # so the test can tell


def test_the_first_round_waits_until_all_have_joined(serve, connect, background, waiting):
    server = serve(Averaging(), workers=3)
    early = [background(lambda w=w: connect(server, w).exchange(full(w))) for w in (0, 1)]
    for worker in (0, 1):
        waiting(server, worker)
    assert server.status().exchanges == 0
    np.testing.assert_array_equal(connect(server, 2).exchange(full(5)), full(2))
    for answer in early:
        np.testing.assert_array_equal(answer(), full(2))


def test_those_who_finish_leave_the_barrier(serve, connect, background, waiting):
    server = serve(Averaging(), workers=2)
    short, long = connect(server, 1), connect(server, 0)
    answer = background(lambda: long.exchange(full(3)))
    waiting(server, 0)
    done = background(lambda: short.finish(full(1)))
    np.testing.assert_array_equal(answer(), full(3))
    np.testing.assert_array_equal(long.exchange(full(4)), full(4))
    assert done.waits()  # last vectors are taken in the order of the workers' numbers
    long.finish(full(5))
    done()
    assert server.wait(1)
    np.testing.assert_array_equal(server.result().mean, full(3))
    np.testing.assert_array_equal(server.result().published, full(1))


def test_who_waits_hears_from_the_server_and_outlasts_its_own_timeout(serve, connect, background, monkeypatch):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Averaging(), workers=2)
    first, second = connect(server, 0, timeout=0.3), connect(server, 1, timeout=0.3)
    answer = background(lambda: first.exchange(full(1)))
    time.sleep(0.5)
    second.exchange(full(3))
    np.testing.assert_array_equal(answer(), full(2))
    done = background(lambda: second.finish(full(1)))
    time.sleep(0.5)
    first.finish(full(1))
    done()


def test_the_deadline_names_who_is_missing_and_fails_the_run(serve, connect, eventually, monkeypatch):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Averaging(), workers=4, barrier_deadline=0.3)
    early, absent, lost = connect(server, 0), connect(server, 1), connect(server, 3)
    lost.close("spool is full")
    eventually(lambda: server.status().lost)
    with pytest.raises(TrainingError) as caught:
        early.exchange(full(1))
    message = caught.value.what
    assert "waited 0.3 s in a synchronous round for worker 1 on " in message and "(last heard of 0 s ago)" in message
    assert "worker 2, which has never joined" in message
    assert "worker 3 on " in message and "lost: gave up: spool is full" in message
    with pytest.raises(TrainingError, match="synchronous round"):
        absent.exchange(full(1))
    assert "synchronous round" in server.status().failure


def test_one_that_is_slow_but_reports_is_waited_for(serve, connect, background, monkeypatch):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Averaging(), workers=2, barrier_deadline=0.3)
    slow = connect(server, 1)
    answer = background(lambda: connect(server, 0).exchange(full(1)))
    for _ in range(12):
        time.sleep(0.05)
        assert slow.report({}) is None
    np.testing.assert_array_equal(slow.exchange(full(3)), full(2))
    np.testing.assert_array_equal(answer(), full(2))


def test_one_that_is_lost_after_a_long_wait_still_has_the_deadline_to_come_back(
    serve, connect, background, waiting, eventually, monkeypatch
):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Averaging(), workers=3, barrier_deadline=0.4)
    slow, lost = connect(server, 2), connect(server, 1)
    answer = background(lambda: connect(server, 0).exchange(full(1)))
    waits = background(lambda: lost.exchange(full(100)))
    waiting(server, 1)
    for _ in range(12):
        time.sleep(0.05)
        slow.report({})
    lost.close()
    with pytest.raises(ExchangeError):
        waits()
    eventually(lambda: server.status().lost)
    again = background(lambda: connect(server, 1, attempt=1).exchange(full(3)))
    slow.exchange(full(5))
    np.testing.assert_array_equal(answer(), full(3))
    np.testing.assert_array_equal(again(), full(3))


def test_who_came_last_and_for_how_long(serve, connect):
    server = serve(Averaging(), workers=3)
    clients = [connect(server, worker) for worker in range(3)]

    def late(worker, client, seconds):
        for _ in range(2):
            time.sleep(seconds)
            client.exchange(full(worker))

    together(*(lambda w=w, c=c: late(w, c, 0.15 * (w == 1)) for w, c in enumerate(clients)))
    workers = server.status().workers
    assert [worker.late for worker in workers] == [0, 2, 0]
    assert 0.1 < workers[1].late_seconds < 2 and workers[0].late_seconds == 0


def test_waiting_workers_learn_that_the_run_has_failed(serve, connect, background, waiting):
    server = serve(Averaging(), workers=4)  # one never comes
    answers = [background(lambda w=w: connect(server, w).exchange(full(w))) for w in (0, 1)]
    finish = background(lambda: connect(server, 2).finish(full(1)))
    for worker in (0, 1):
        waiting(server, worker)
    server.fail("the queue was closed")
    for call in (*answers, finish):
        with pytest.raises(TrainingError, match="the queue was closed"):
            call()


def test_stop_does_not_wait_for_the_barrier(serve, connect, background, waiting):
    server = serve(Averaging(), workers=2)
    answer = background(lambda: connect(server, 0).exchange(full(1)))
    waiting(server, 0)
    begun = time.monotonic()
    server.stop(grace=0.1)
    assert time.monotonic() - begun < 2
    with pytest.raises(ExchangeError, match="has stopped the parameter server"):
        answer()


# Lost workers


def test_a_message_of_a_dead_attempt_is_not_in_the_sum(
    serve, connect, raw, background, waiting, eventually, monkeypatch
):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = serve(Averaging(), workers=2)
    channel = raw(server, 0)
    channel.send_vector(Kind.EXCHANGE, full(100))
    waiting(server, 0)
    channel.close()
    eventually(lambda: server.status().lost)  # noticed while it waited
    answer = background(lambda: connect(server, 1).exchange(full(3)))
    waiting(server, 1)
    assert server.status().exchanges == 0
    np.testing.assert_array_equal(connect(server, 0, attempt=1).exchange(full(5)), full(4))
    np.testing.assert_array_equal(answer(), full(4))


def test_a_newer_attempt_takes_the_place_of_one_that_waits(serve, connect, background, waiting):
    server = serve(Averaging(), workers=2)
    old = background(lambda: connect(server, 0).exchange(full(100)))
    waiting(server, 0)
    new = background(lambda: connect(server, 0, attempt=1).exchange(full(5)))
    with pytest.raises(ExchangeError, match="has taken the place of worker 0"):
        old()
    np.testing.assert_array_equal(connect(server, 1).exchange(full(3)), full(4))
    np.testing.assert_array_equal(new(), full(4))


def test_a_worker_lost_in_the_middle_of_a_round(serve, connect, raw, background, waiting, eventually):
    """It is in the shards that met before; the round goes on without it, and the next one waits for its next attempt.

    That one, which has come in the middle of the round, is in none of its shards.
    """
    server = serve(Averaging(), workers=3)
    channel, second, third = raw(server, 0), connect(server, 1), connect(server, 2)
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, N * 4) + full(7)[: 3 * 64].tobytes())
    answers = [background(lambda c=c: c.exchange(full(1)).copy()) for c in (second, third)]
    waiting(server, 1, part=3)
    assert all(answer.waits() for answer in answers)
    newer = connect(server, 0, attempt=1)
    early = background(lambda: newer.exchange(full(4)).copy())
    expected = full(1)
    expected[: 3 * 64] = 3
    for answer in answers:
        np.testing.assert_array_equal(answer(), expected)
    assert early.waits()
    for answer in together(lambda: second.exchange(full(7)), lambda: third.exchange(full(7))):
        np.testing.assert_array_equal(answer, full(6))
    np.testing.assert_array_equal(early(), full(6))
    assert server.status().exchanges == 2


def test_a_round_that_all_have_left_in_the_middle_ends_there(serve, connect, raw, waiting, eventually):
    server = serve(Averaging(), workers=2)
    channels = [raw(server, worker) for worker in range(2)]
    for channel in channels:
        channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, N * 4) + full(7)[:100].tobytes())
    eventually(lambda: server._run.rounds._part == 1)
    for channel in channels:
        channel.close()
    eventually(lambda: server.status().lost == 2)
    clients = [connect(server, worker, attempt=1) for worker in range(2)]
    for answer in together(*(lambda w=w, c=c: c.exchange(full(w)) for w, c in enumerate(clients))):
        np.testing.assert_array_equal(answer, full(0.5))


def test_a_worker_lost_while_it_finishes_is_waited_for_again(serve, connect, raw, background, waiting, eventually):
    server = serve(Averaging(), workers=2)
    channel = raw(server, 0)
    channel.send_control(Kind.FINISH, {})
    assert channel.receive()[0].kind is Kind.GO
    channel.close()
    eventually(lambda: server.status().lost)
    answer = background(lambda: connect(server, 1).exchange(full(1)))
    waiting(server, 1)
    assert server.status().exchanges == 0
    connect(server, 0, attempt=1).exchange(full(3))
    np.testing.assert_array_equal(answer(), full(2))


# Bad values


def test_a_message_that_is_not_finite_never_enters_a_round(serve, connect, background):
    server = serve(Averaging(), workers=2)
    bad = full(1)
    bad[70] = np.nan  # in the second shard: the first one meets
    answer = background(lambda: connect(server, 1).exchange(full(3)))
    with pytest.raises(TrainingError, match=r"worker 0 .* not finite: element 70 of 1000"):
        connect(server, 0).exchange(bad)
    expected = full(3)
    expected[:64] = 2
    np.testing.assert_array_equal(answer(), expected)


def test_a_sum_that_overflows_fails_the_run(serve, connect, background):
    server = serve(Averaging(), workers=2)
    huge = full(np.finfo(np.float32).max)
    answer = background(lambda: connect(server, 1).exchange(huge))
    with pytest.raises(TrainingError, match="sum of the messages of 2 workers overflowed"):
        connect(server, 0).exchange(huge)
    with pytest.raises(TrainingError, match="overflowed"):
        answer()
    np.testing.assert_array_equal(server.snapshot()[0], full(0))


def test_vectors_larger_than_all_socket_buffers_meet_chunk_by_chunk(serve, connect):
    size, workers = 4_000_000, 3
    server = serve(Averaging(), np.zeros(size, np.float32), workers=workers, shard=128 * 1024, timeout=30.0)
    clients = [connect(server, worker, timeout=30.0) for worker in range(workers)]
    xs = [np.arange(worker, size + worker, dtype=np.float32) for worker in range(workers)]
    for _ in range(2):
        answers = together(*(lambda w=w, c=c: c.exchange(xs[w]) for w, c in enumerate(clients)))
        for answer in answers:
            np.testing.assert_array_equal(answer, xs[1])


def test_rounds_go_on_without_a_dropped_worker(serve, connect, background, waiting):
    server = serve(Averaging(), workers=3, on_nonfinite="drop")
    answer = background(lambda: connect(server, 0).exchange(full(1)))
    waiting(server, 0)
    connect(server, 1).drop("loss is nan")
    assert answer.waits()
    bad = connect(server, 2)
    with pytest.raises(TrainingError, match="not finite"):
        bad.exchange(full(np.inf))
    np.testing.assert_array_equal(answer(), full(1))
