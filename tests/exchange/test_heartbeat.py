"""A worker that computes for long lives; one that is stopped, cut off or hangs is found, each within its deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import heartbeat
from dkeras_core.exchange.channel import Disconnected
from dkeras_core.exchange.frames import Kind
from dkeras_core.exchange.heartbeat import Heartbeat

N = 1000
SILENCE = 1.0  # seconds: long beside what a loaded machine keeps a thread waiting
PACKAGE = Path(__file__).resolve().parents[2]

WORKER = """
import sys, time
import numpy as np
from dkeras_core.exchange import Client

host, port, secret, worker = sys.argv[1:]
with Client.connect((host, int(port)), bytes.fromhex(secret), worker=int(worker)) as client:
    x = client.center()[0]
    print("joined", flush=True)
    sys.stdin.readline()
    client.exchange(x)
    print("exchanged", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def process(secret):
    """process(server, worker) -> a worker in a process of its own that has joined and exchanges at a line of input."""
    started = []

    def start(server, worker):
        arguments = [*map(str, server.address), secret.hex(), str(worker)]
        child = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            cwd=PACKAGE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdout.readline() == "joined\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def states(server):
    return {w.worker: w.state for w in server.status().workers}


def in_threads(*calls):
    """Run the calls side by side; what they returned or raised, in their order."""
    found = [None] * len(calls)

    def run(number, call):
        try:
            found[number] = call()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["asynchronous_easgd", "easgd"])
def test_a_step_of_three_deadlines_is_waited_for(serve, connect, rule):
    """Workers 0 and 2 of the synchronous rule wait meanwhile, longer than the barrier's own deadline."""
    server = serve(rules.get(rule), workers=3, silence_deadline=SILENCE, barrier_deadline=SILENCE)
    clients = [connect(server, worker) for worker in range(3)]

    def work(worker):
        if worker == 1:
            time.sleep(3 * SILENCE)  # the step
        clients[worker].exchange(np.full(N, worker, np.float32))
        clients[worker].finish(np.full(N, worker, np.float32))
        return "finished"

    assert in_threads(*[lambda w=w: work(w) for w in range(3)]) == ["finished"] * 3
    assert set(states(server).values()) == {"finished"}
    assert server.status().errors == []


@pytest.mark.slow
def test_a_stopped_process_is_found_within_the_deadline_and_fails_the_round(serve, connect, process, eventually):
    server = serve(rules.get("easgd"), workers=3, silence_deadline=SILENCE, barrier_deadline=2 * SILENCE)
    clients = {worker: connect(server, worker) for worker in (0, 2)}
    child = process(server, 1)
    child.stdin.write("\n")
    child.stdin.flush()
    x = np.ones(N, np.float32)
    in_threads(*[lambda c=c: c.exchange(x) for c in clients.values()])
    assert child.stdout.readline() == "exchanged\n"
    time.sleep(2.5 * SILENCE)  # it sleeps in its step, and lives
    assert states(server)[1] == "joined"

    os.kill(child.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    found = in_threads(*[lambda c=c: c.exchange(x) for c in clients.values()])
    assert all(isinstance(error, TrainingError) for error in found), found
    assert "worker 1 on" in str(found[0]) and f"sent nothing for {SILENCE:g} s" in str(found[0])
    assert states(server)[1] == "lost"
    assert time.monotonic() - stopped < 20  # the silence, then the barrier's deadline


@pytest.mark.slow
def test_a_stopped_process_of_an_asynchronous_rule_is_lost_alone(serve, connect, process, eventually):
    server = serve(workers=2, silence_deadline=SILENCE)
    other = connect(server, 0)
    child = process(server, 1)
    os.kill(child.pid, signal.SIGSTOP)
    eventually(lambda: states(server)[1] == "lost", 15)
    other.exchange(np.ones(N, np.float32))
    assert states(server)[0] == "joined"
    os.kill(child.pid, signal.SIGCONT)  # it finds its place closed, and another attempt may take it
    connect(server, 1, attempt=1).exchange(np.ones(N, np.float32))


@pytest.mark.slow
def test_one_that_hangs_is_lost_at_a_deadline_of_its_own(serve, connect, eventually):
    server = serve(workers=2, silence_deadline=SILENCE, step_deadline=2.5)
    begun = time.monotonic()
    client = connect(server)
    eventually(lambda: states(server)[0] == "lost", 15)
    assert time.monotonic() - begun > 2.5
    reason = server.status().workers[0].reason
    assert "lives, but has asked for nothing for" in reason
    assert ".py:" in reason and " in wait" in reason  # where this thread is: in the fixture's or the lock's
    with pytest.raises(ExchangeError, match="has asked for nothing"):
        client.exchange(np.ones(N, np.float32))


@pytest.mark.slow
def test_requests_begin_the_deadline_of_a_step_anew(serve, connect):
    server = serve(silence_deadline=2 * SILENCE, step_deadline=1.5)
    client = connect(server)
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        client.report({"rows": 1})
        time.sleep(0.3)
    assert states(server)[0] == "joined"


def test_heartbeats_never_stand_within_a_request(serve, connect, monkeypatch):
    monkeypatch.setattr(heartbeat, "LONGEST", 0.0005)
    server = serve(center=np.zeros(N, np.float32))
    said = []
    send = heartbeat.Channel.send_control
    monkeypatch.setattr(
        heartbeat.Channel, "send_control", lambda self, kind, content: (said.append(kind), send(self, kind, content))[1]
    )
    clients = [connect(server, worker) for worker in range(2)]

    def work(client):
        for _ in range(200):
            client.exchange(np.ones(N, np.float32))
            client.report({"rows": 1})
            time.sleep(0.002)
        client.finish(np.ones(N, np.float32))
        return True

    assert in_threads(*[lambda c=c: work(c) for c in clients]) == [True, True]
    assert said.count(Kind.ALIVE) > 10
    assert server.status().exchanges == 400 and server.status().errors == []


class Recorder:
    """A channel that notes what is sent on it."""

    def __init__(self, error=None):
        self.bytes_sent, self.sent, self.error = 0, [], error

    def send_control(self, kind, content):
        if self.error:
            raise self.error
        self.sent.append((kind, content))
        self.bytes_sent += 1


def test_one_that_speaks_for_itself_is_left_alone(eventually):
    channel = Recorder()
    beating = Heartbeat(channel, 0.04)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        channel.bytes_sent += 1
        time.sleep(0.0005)
    assert len(channel.sent) <= 3  # on a loaded machine this thread may have had to wait once
    eventually(lambda: len(channel.sent) > 5)
    assert all(kind is Kind.ALIVE and "at" in content for kind, content in channel.sent)
    beating.stop()
    count = len(channel.sent)
    time.sleep(0.1)
    assert len(channel.sent) == count


def test_a_request_under_way_is_not_interrupted_and_a_broken_connection_ends_it(eventually):
    channel = Recorder()
    beating = Heartbeat(channel, 0.04)
    with beating.turn:
        count = len(channel.sent)
        time.sleep(0.2)
        assert len(channel.sent) == count
    beating.stop()
    broken = Heartbeat(Recorder(Disconnected("closed the connection")), 0.04)
    eventually(lambda: not broken._thread.is_alive())
    broken.stop()
