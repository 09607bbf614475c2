"""Synchronous rules: workers meet at the server, with a deadline and a report of who was last."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from meeting import Averaging, N, full, together, vector

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import waiting as waiting_module


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


def test_vectors_larger_than_all_socket_buffers_meet_chunk_by_chunk(serve, connect):
    size, workers = 4_000_000, 3
    server = serve(Averaging(), np.zeros(size, np.float32), workers=workers, shard=128 * 1024, timeout=30.0)
    clients = [connect(server, worker, timeout=30.0) for worker in range(workers)]
    xs = [np.arange(worker, size + worker, dtype=np.float32) for worker in range(workers)]
    for _ in range(2):
        answers = together(*(lambda w=w, c=c: c.exchange(xs[w]) for w, c in enumerate(clients)))
        for answer in answers:
            np.testing.assert_array_equal(answer, xs[1])
