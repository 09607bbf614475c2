import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import ports
from dkeras_core.singlenode.processes import Process


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


HALF_ENDED = """
import ctypes, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
threading.Thread(target=sys.stdin.readline).start()
ctypes.CDLL(None).syscall(60, 0)  # exit: of the first thread alone
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of a system call")
def test_the_port_of_a_process_that_is_ending_is_waited_for():
    """Its first thread has gone, and /proc shows no file of it any more, while its last one still has the port."""
    with subprocess.Popen(
        [sys.executable, "-c", HALF_ENDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline())
        while Process.of(process.pid):
            time.sleep(0.01)
        assert not ports.is_free(port) and ports.holder(port) == "another process"
        threading.Timer(0.3, process.stdin.close).start()
        assert ports.is_left(port)


def test_a_port_that_somebody_holds_is_not_waited_for(taken, monkeypatch):
    monkeypatch.setattr(ports, "_ENDING_SECONDS", 1e9)
    assert not ports.is_left(taken)


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
