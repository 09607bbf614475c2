"""Real training in threads: the fixtures of the training room, and a server with clients."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.exchange import Client, ParameterServer, new_secret

_PATH = Path(__file__).parents[1] / "training" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("training_fixtures", _PATH)
_training = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_training)

thread_launcher, rows_of, model = _training.thread_launcher, _training.rows_of, _training.model
run, validation = _training.run, _training.validation

SECRET = new_secret()


@pytest.fixture
def serve():
    """serve(rule, **settings) -> a running server of a center of zeros; stopped at the end of the test."""
    servers = []

    def start(rule="asynchronous_easgd", size=1000, **settings):
        rule = rules.get(rule) if isinstance(rule, str) else rule
        settings = {"workers": 2, "timeout": 5.0, "shard": 256, **settings}
        server = ParameterServer(rule, np.zeros(size, np.float32), secret=SECRET, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(grace=0.3)


@pytest.fixture
def connect():
    """connect(server, worker) -> a client; closed at the end of the test."""
    clients = []

    def open_client(server, worker=0, **settings):
        clients.append(Client.connect(server.address, SECRET, worker=worker, deadline=2.0, timeout=5.0, **settings))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()
