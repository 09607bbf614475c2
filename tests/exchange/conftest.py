from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from meeting import together

from dkeras_core import rules
from dkeras_core.exchange import Client, ParameterServer, new_secret
from dkeras_core.exchange.joining import join

SECRET = new_secret()
N = 1000
SHARD = 64  # many shards, the last one short


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("exchange-")]
    assert not left


@pytest.fixture
def secret():
    return SECRET


@pytest.fixture
def serve():
    """serve(**settings) -> a running server; stopped at the end of the test."""
    servers = []

    def start(rule=None, center=None, state=None, **settings):
        settings = {"workers": 2, "secret": SECRET, "shard": SHARD, "timeout": 5.0, **settings}
        center = np.zeros(N, np.float32) if center is None else center
        server = ParameterServer(rule or rules.get("asynchronous_easgd"), center, state, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(grace=0.3)


@pytest.fixture
def connect():
    """connect(server, worker, attempt) -> a client; closed at the end of the test."""
    clients = []

    def open_client(server, worker=0, attempt=0, **settings):
        client = Client.connect(
            server.address, SECRET, worker=worker, attempt=attempt, **{"deadline": 2.0, "timeout": 5.0, **settings}
        )
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def raw():
    """raw(server, worker, attempt) -> the bare channel of a joined worker, to misbehave with."""
    channels = []

    def open_channel(server, worker=0, attempt=0):
        channel, _ = join(
            server.address,
            SECRET,
            name="raw",
            versions=None,
            deadline=2.0,
            timeout=5.0,
            worker=worker,
            attempt=attempt,
        )
        channels.append(channel)
        return channel

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def eventually():
    """eventually(condition): wait until ``condition()`` holds."""

    def wait(condition, seconds=3.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(0.005)

    return wait


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
