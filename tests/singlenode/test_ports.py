import os
import socket

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import ports


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_taken_port_is_not_free_and_its_holder_is_named(taken):
    assert not ports.is_free(taken)
    assert ports.holder(taken).startswith(f"process {os.getpid()} (")


def test_port_of_a_server_on_all_addresses_is_not_free():
    with socket.create_server(("", 0)) as server:
        assert not ports.is_free(server.getsockname()[1])


def test_holder_that_cannot_be_found():
    assert ports.holder(1) == "another process"


def test_picked_ports_are_different_free_and_below_the_ephemeral_range():
    chosen = ports.pick(["a", "b", "c"])
    assert len(set(chosen.values())) == 3
    assert all(ports.is_free(port) and port in ports.RANGE for port in chosen.values())


def test_no_port_is_left(monkeypatch, taken):
    monkeypatch.setattr(ports, "RANGE", range(taken, taken + 1))
    with pytest.raises(ClusterError, match="no free port"):
        ports.pick(["a"])


def test_avoided_ports_are_not_picked(monkeypatch):
    (first,) = ports.pick(["a"]).values()
    monkeypatch.setattr(ports, "RANGE", range(first, first + 1))
    with pytest.raises(ClusterError):
        ports.pick(["a"], avoid=[first])
