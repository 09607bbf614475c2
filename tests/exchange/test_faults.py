"""What peers, networks and strangers do wrong: each time the center is unharmed, the cause named, others go on."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange.frames import Header, Kind
from dkeras_core.rules.easgd import AsynchronousEASGD

N = 1000


def ones(value=1.0):
    return np.full(N, value, np.float32)


def lost(server, worker=0):
    return [w for w in server.status().workers if w.worker == worker and w.state == "lost"]


def started_exchange(channel, values):
    """Send the header of an exchange and a part of its values."""
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, N * 4) + values.tobytes())


def parting(channel):
    """The END that the server sends, after whatever it answered before."""
    while True:
        header, content = channel.receive()
        if header.kind is Kind.END:
            return content
        channel.receive_into(np.empty(header.length // 4, np.float32), time.monotonic() + 2)


@pytest.fixture
def others_go_on(serve, connect):
    """Afterwards a well-behaved worker 1 still exchanges with a center of finite values."""
    servers = []
    yield servers.append
    for server in servers:
        connect(server, 1).exchange(ones())
        assert np.isfinite(server.snapshot()[0]).all()


# Workers that vanish


def test_killed_in_the_middle_of_a_frame(serve, raw, eventually, others_go_on):
    server = serve()
    others_go_on(server)
    channel = raw(server)
    started_exchange(channel, ones()[:100])
    channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, as a kill may
    channel.close()
    eventually(lambda: lost(server))
    assert "connection" in lost(server)[0].reason
    assert any("worker 0 (attempt 0 on" in error for error in server.status().errors)
    assert server.status().exchanges == 0


def test_end_of_stream_between_frames(serve, raw, eventually):
    server = serve()
    raw(server).close()
    eventually(lambda: lost(server))
    assert lost(server)[0].reason == "closed the connection"


def test_a_silent_worker_is_lost_at_its_deadline(serve, raw, eventually):
    server = serve(silence_deadline=0.2)
    channel = raw(server)
    assert "sent nothing for 0.2 s" in parting(channel)["message"]
    eventually(lambda: lost(server))


def test_a_frame_that_stops_half_way_is_lost_at_its_deadline(serve, raw, eventually):
    server = serve(timeout=0.2)
    channel = raw(server)
    started_exchange(channel, ones()[:1])
    assert "stopped in the middle of a frame" in parting(channel)["message"]
    eventually(lambda: lost(server))


def test_a_worker_that_trickles_bytes_meets_the_same_deadline(serve, raw, eventually):
    server = serve(timeout=0.3)
    channel = raw(server)
    started_exchange(channel, ones()[:0])
    begun = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() < begun + 3:
            channel.sock.sendall(b"\0")
            time.sleep(0.02)
    assert time.monotonic() - begun < 2.9
    eventually(lambda: lost(server))


def test_a_worker_that_does_not_read_its_answer(serve, raw, eventually):
    server = serve(timeout=0.3, center=np.zeros(4_000_000, np.float32), shard=64 * 1024)
    channel = raw(server)
    channel.sock.settimeout(3)
    channel.send_control(Kind.CENTER, {})
    eventually(lambda: lost(server))
    assert "took only" in lost(server)[0].reason


def test_the_cause_of_a_failed_worker_reaches_the_driver(serve, connect, eventually):
    server = serve()
    with pytest.raises(ValueError), connect(server) as client:
        client.exchange(ones())
        raise ValueError("loss is nan in layer dense_1")
    eventually(lambda: lost(server))
    assert lost(server)[0].reason == "gave up: ValueError: loss is nan in layer dense_1"


def test_a_worker_that_leaves_early_is_lost(serve, connect, eventually):
    server = serve()
    with connect(server):
        pass
    eventually(lambda: lost(server))
    assert "before it finished" in lost(server)[0].reason
    assert server.status().counts() == {"expected": 2, "joined": 1, "finished": 0, "lost": 1}


def test_half_a_last_vector_does_not_finish_a_worker(serve, raw, connect, eventually):
    server = serve(workers=1)
    channel = raw(server)
    channel.send_control(Kind.FINISH, {})
    assert channel.receive()[0].kind is Kind.GO
    channel.sock.sendall(channel.frame_header(Kind.FINAL, 0, N * 4) + ones()[:500].tobytes())
    channel.close()
    eventually(lambda: lost(server))
    connect(server, 0, attempt=1).finish(ones())
    assert server.wait(2)
    np.testing.assert_array_equal(server.result().mean, ones())


# Bad values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 500, N - 1])
def test_values_that_are_not_finite_are_rejected(serve, connect, others_go_on, bad, place):
    server = serve()
    others_go_on(server)
    client = connect(server, 0)
    values = ones()
    values[place] = bad
    with pytest.raises(TrainingError, match=rf"worker 0 .* not finite: element {place} of 1000 is {bad}"):
        client.exchange(values)
    assert any(f"worker 0 (attempt 0 on {socket.gethostname()})" in error for error in server.status().errors)
    assert server.status().exchanges == 0
    with pytest.raises(ExchangeError, match="can no longer exchange"):
        client.exchange(ones())


def test_largest_floats_are_finite(serve, connect):
    values = ones(np.finfo(np.float32).max)
    values[::2] *= -1
    np.testing.assert_array_equal(connect(serve()).exchange(values), values / 2)


def test_last_vector_and_state_must_be_finite(serve, connect):
    server = serve(state=np.zeros(3, np.float32))
    with pytest.raises(TrainingError, match="not finite: element 2 of 3"):
        connect(server, 0).finish(ones(), np.array([0, 0, np.nan], np.float32))
    with pytest.raises(TrainingError, match="not finite: element 0 of 1000"):
        connect(server, 1).finish(ones(np.inf), np.zeros(3, np.float32))
    assert server.status().finished == 0


@pytest.mark.parametrize("values", [N - 1, N + 1, 0, 2**60])
def test_a_push_of_another_size_is_rejected_unread(serve, raw, others_go_on, values):
    server = serve()
    others_go_on(server)
    channel = raw(server)
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, values * 4))
    end = parting(channel)
    assert end["code"] == "rejected"
    assert "worker 0" in end["message"] and "the driver's model has 1000" in end["message"]
    assert "same model" in end["next"]


def test_a_rejected_worker_is_listened_to_until_it_has_read_why(serve, raw):
    """Closing at once would reset the connection under what it still sends, and on its way the reason may be lost."""
    channel = raw(serve())
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, 8_000_000))
    channel.sock.sendall(bytes(8_000_000))
    assert parting(channel)["code"] == "rejected"


# Bytes that are no frames


def test_garbage_from_a_joined_worker(serve, raw, eventually, others_go_on):
    server = serve()
    others_go_on(server)
    channel = raw(server)
    channel.sock.sendall(b"GET / HTTP/1.1\r\nHost: parameter-server\r\nAccept: */*\r\n\r\n")
    assert "not of this protocol" in parting(channel)["message"]
    eventually(lambda: lost(server))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: parameter-server\r\nAccept: */*\r\n\r\n",
        bytes(100),
        Header(Kind.EXCHANGE, 0, 0, 0, N * 4).pack() + bytes(16) + ones().tobytes(),
        Header(Kind.HELLO, 0, 0, 0, 8).pack() + bytes(16) + bytes(8),
        Header(Kind.HELLO, 0, 0, 0, 2**40).pack() + bytes(16),
    ],
    ids=["http", "zeros", "no handshake", "short nonce", "huge nonce"],
)
def test_strangers(serve, eventually, others_go_on, data):
    server = serve()
    others_go_on(server)
    with socket.create_connection(server.address, timeout=2) as sock:
        sock.sendall(data)
        eventually(lambda: server.status().errors)
        while sock.recv(4096):
            pass
    assert server.status().errors[0].startswith("a connection from 127.0.0.1:")
    assert server.status().joined == 0 and server.status().exchanges == 0


def test_half_open_strangers_do_not_keep_workers_out(serve, connect):
    server = serve(workers=1)
    strangers = [socket.create_connection(server.address, timeout=2) for _ in range(10)]
    connect(server).exchange(ones())
    for sock in strangers:
        sock.close()


def test_more_connections_than_can_belong_here_are_closed(serve, eventually):
    server = serve(workers=1)
    strangers = [socket.create_connection(server.address, timeout=2) for _ in range(36)]
    eventually(lambda: any("are open already" in error for error in server.status().errors))
    for sock in strangers:
        sock.close()


@pytest.mark.parametrize("length", [64 * 1024 + 1, 2**62])
def test_a_control_frame_over_the_limit(serve, raw, length):
    channel = raw(serve())
    channel.sock.sendall(channel.frame_header(Kind.REPORT, 0, length))
    assert "the limit is 65536" in parting(channel)["message"]


@pytest.mark.parametrize("kind", [Kind.SHARD, Kind.STATE, Kind.WELCOME, Kind.DONE, Kind.HELLO, Kind.JOIN, Kind.END])
def test_frames_out_of_place(serve, raw, kind):
    channel = raw(serve())
    channel.sock.sendall(channel.frame_header(kind, 0, 0))
    assert f"out of place ({kind.name})" in parting(channel)["message"]


def test_finish_with_something_else_than_the_last_vector(serve, raw):
    channel = raw(serve())
    channel.send_control(Kind.FINISH, {})
    assert channel.receive()[0].kind is Kind.GO
    channel.send_control(Kind.REPORT, {})
    assert "out of place (REPORT, not FINAL)" in parting(channel)["message"]


def test_an_exchange_after_the_finish(serve, raw):
    server = serve()
    channel = raw(server)
    channel.send_control(Kind.FINISH, {})
    assert channel.receive()[0].kind is Kind.GO
    channel.send_vector(Kind.FINAL, ones())
    assert channel.receive()[0].kind is Kind.DONE
    channel.send_vector(Kind.EXCHANGE, ones())
    assert "has finished and can no longer exchange" in parting(channel)["message"]
    assert server.status().finished == 1 and server.status().exchanges == 0


# Attempts


def test_an_older_attempt_is_fenced(serve, connect):
    server = serve()
    old = connect(server, 0, attempt=1)
    old.exchange(ones())
    new = connect(server, 0, attempt=2)
    before = server.snapshot()[0]
    with pytest.raises(ExchangeError, match=r"attempt 2 on .* has taken the place of worker 0"):
        old.exchange(ones(5))
    np.testing.assert_array_equal(server.snapshot()[0], before)
    new.exchange(ones())
    old.close()
    new.exchange(ones())
    status = server.status()
    assert [(w.attempt, w.state, w.exchanges) for w in status.workers] == [(2, "joined", 2)]


def test_a_fenced_attempt_in_the_middle_of_an_exchange_changes_nothing_more(serve, raw, connect):
    server = serve()
    old = raw(server, 0, attempt=0)
    started_exchange(old, ones()[:64])  # the first shard
    assert old.receive()[0].length == 64 * 4
    old.receive_into(np.empty(64, np.float32), time.monotonic() + 2)
    connect(server, 0, attempt=1)
    old.sock.sendall(ones()[64:].tobytes())
    assert parting(old)["code"] == "fenced"
    assert server.snapshot()[0][64:].max() == 0


def test_a_late_older_attempt_is_refused(serve, connect):
    server = serve()
    new = connect(server, 0, attempt=2)
    for attempt in (0, 1, 2):
        with pytest.raises(ExchangeError, match=f"attempt {attempt} of worker 0 .* refused: attempt 2 .* has joined"):
            connect(server, 0, attempt=attempt)
    new.exchange(ones())


def test_a_lost_worker_may_come_back(serve, raw, connect, eventually):
    server = serve()
    raw(server, 0).close()
    eventually(lambda: lost(server))
    connect(server, 0, attempt=0).exchange(ones())
    assert server.status().lost == 0


def test_a_newer_attempt_of_a_finished_worker_trains_again(serve, connect):
    server = serve(workers=1)
    connect(server, 0, attempt=0).finish(ones())
    with pytest.raises(ExchangeError, match=r"attempt 0 on .* has finished"):
        connect(server, 0, attempt=0)
    again = connect(server, 0, attempt=1)
    assert not server.wait(0.01)
    again.finish(ones())
    assert server.wait(1)


def test_a_worker_number_outside_the_run(serve, connect):
    with pytest.raises(ExchangeError, match="worker 2 does not exist: this run has workers 0 to 1"):
        connect(serve(workers=2), 2)


# The end of a run


@dataclass(frozen=True, kw_only=True)
class Stuck(AsynchronousEASGD):
    """Blocks in the server until it is let go, so that clients wait in an exchange."""

    name: ClassVar[str] = "stuck"
    entered: ClassVar[threading.Semaphore]
    release: ClassVar[threading.Event]

    def apply(self, *arguments):
        self.entered.release()
        self.release.wait(10)
        super().apply(*arguments)


@pytest.fixture
def stuck(serve, connect):
    """A server with two workers that wait for the answer of an exchange: (server, collect their errors)."""
    Stuck.entered, Stuck.release = threading.Semaphore(0), threading.Event()
    server = serve(Stuck(), workers=3, center=np.zeros(64, np.float32), shard=32, timeout=20.0)
    clients = [connect(server, worker) for worker in range(2)]
    raised = {}

    def exchange(worker):
        try:
            clients[worker].exchange(np.ones(64, np.float32))
        except Exception as error:
            raised[worker] = (error, time.monotonic())

    threads = [threading.Thread(target=exchange, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    assert Stuck.entered.acquire(timeout=3)

    def collect():
        for thread in threads:
            thread.join(5)
        return raised

    yield server, collect
    Stuck.release.set()
    collect()


def test_fail_reaches_workers_that_wait_in_an_exchange(stuck):
    server, collect = stuck
    begun = time.monotonic()
    server.fail("worker 7 was lost: out of memory")
    raised = collect()
    assert sorted(raised) == [0, 1]
    for error, _ in raised.values():
        assert type(error) is TrainingError and "worker 7 was lost: out of memory" in error.what
    assert max(when for _, when in raised.values()) - begun < 1
    assert server.status().failure == "worker 7 was lost: out of memory"
    with pytest.raises(TrainingError, match="worker 7 was lost"):
        server.wait(1)


def test_stop_reaches_workers_that_wait_in_an_exchange(stuck):
    server, collect = stuck
    threading.Timer(0.2, Stuck.release.set).start()
    server.stop()
    for error, _ in collect().values():
        assert isinstance(error, ExchangeError) and "the driver has stopped the parameter server" in error.what


def test_fail_reaches_workers_that_compute_and_those_that_come_later(serve, connect):
    server = serve()
    client = connect(server, 0)
    client.center()
    server.fail("disk full")
    server.fail("a later cause does not hide the first")
    for request in (lambda: client.exchange(ones()), lambda: connect(server, 1)):
        with pytest.raises(TrainingError, match="disk full"):
            request()
    with pytest.raises(ExchangeError, match="can no longer exchange"):
        client.report({})
    assert server.snapshot()[0].max() == 0


def test_fail_ends_a_report_and_a_finish_too(serve, connect):
    server = serve()
    clients = [connect(server, 0), connect(server, 1)]
    server.fail("disk full")
    with pytest.raises(TrainingError, match="disk full"):
        clients[0].report({})
    with pytest.raises(TrainingError, match="disk full"):
        clients[1].finish(ones())


def test_the_cause_is_read_even_when_the_server_is_long_gone(serve, connect):
    size = 3_000_000
    server = serve(center=np.zeros(size, np.float32), workers=4, shard=64 * 1024)
    clients = [connect(server, worker) for worker in range(4)]
    server.fail("disk full")
    server.stop(grace=0.1)
    x = np.zeros(size, np.float32)
    for late in (
        lambda: clients[0].finish(x),
        lambda: clients[1].exchange(x),
        lambda: clients[2].report({}),
        clients[3].center,
    ):
        with pytest.raises(TrainingError, match="disk full"):
            late()


def test_wait_wakes_when_the_run_fails(serve):
    server = serve()
    timer = threading.Timer(0.1, server.fail, args=("disk full",))
    timer.start()
    begun = time.monotonic()
    with pytest.raises(TrainingError, match="disk full"):
        server.wait(10)
    assert time.monotonic() - begun < 2


def test_a_failing_report_callback_fails_the_run(serve, connect):
    def callback(worker, attempt, report):
        raise KeyError("rows")

    server = serve(on_report=callback)
    with pytest.raises(TrainingError, match="KeyError: 'rows'"):
        connect(server).report({})
    assert "KeyError" in server.status().failure


def test_a_server_that_dies_without_a_word_is_named(serve, connect):
    server = serve()
    client = connect(server)
    for session in list(server._sessions):
        session.close()
    host, port = server.address
    with pytest.raises(ExchangeError, match=rf"worker 0 .* parameter server at {host}:{port} .*connection"):
        client.exchange(ones())


def test_a_server_that_does_not_answer_is_left_at_the_deadline(stuck, connect):
    server, _ = stuck
    client = connect(server, 2, timeout=0.3)
    begun = time.monotonic()
    with pytest.raises(ExchangeError, match=r"did not complete an exchange within 0.3 s"):
        client.exchange(np.ones(64, np.float32))
    assert time.monotonic() - begun < 2
