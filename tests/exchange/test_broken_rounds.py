"""Synchronous rules when workers are lost, or bring what is not finite: which rounds they are in, and which not."""

from __future__ import annotations

import numpy as np
import pytest
from meeting import Averaging, N, full, together

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import waiting as waiting_module
from dkeras_core.exchange.frames import Kind


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
