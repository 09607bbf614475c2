"""Who may join: the secret, fresh nonces, tags of the session, versions; and reaching the server at all."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest

from dkeras_core.errors import ConfigError, ExchangeError
from dkeras_core.exchange import Client, new_secret, probe, versions
from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.frames import Header, Kind
from dkeras_core.exchange.versions import differences

N = 1000


class Tap:
    """Between one client and the server: passes bytes on and keeps what the client sent."""

    def __init__(self, server):
        self.sent = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._target = server.address
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._pass, args=(server, client, False))
            back.start()
            self._pass(client, server, True)
            back.join()

    def _pass(self, source, target, keep):
        while data := source.recv(65536):
            if keep:
                self.sent += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def close(self):
        self._thread.join(5)
        self._listener.close()


# The secret


def test_client_and_server_with_different_secrets(serve):
    server = serve()
    with pytest.raises(ExchangeError, match="does not hold the secret of this job") as caught:
        Client.connect(server.address, new_secret(), worker=0, deadline=2, timeout=2)
    assert "another job's server" in caught.value.next_step
    assert server.status().joined == 0


def test_whoever_guesses_the_proof_fails_the_challenge(serve, eventually):
    server = serve()
    channel = Channel(socket.create_connection(server.address), timeout=2)
    channel.send_control(Kind.HELLO, bytes(32))
    assert channel.receive_raw()[0].kind is Kind.CHALLENGE
    channel.send_control(Kind.PROOF, bytes(32))
    eventually(lambda: server.status().errors)
    channel.close()
    assert "failed the challenge: it does not hold the secret" in server.status().errors[0]
    assert server.status().joined == 0


def test_a_proof_cannot_be_reflected(serve, eventually):
    server = serve()
    channel = Channel(socket.create_connection(server.address), timeout=2)
    channel.send_control(Kind.HELLO, bytes(32))
    _, answer = channel.receive_raw()
    channel.send_control(Kind.PROOF, answer[32:])
    eventually(lambda: server.status().errors)
    channel.close()
    assert "failed the challenge" in server.status().errors[0]


def test_a_recorded_session_cannot_be_replayed(serve, secret, eventually):
    server = serve()
    tap = Tap(server)
    with Client.connect(tap.address, secret, worker=0, deadline=2, timeout=2) as client:
        client.exchange(np.ones(N, np.float32))
    tap.close()
    eventually(lambda: server.status().lost == 1)
    before = server.status()
    with socket.create_connection(server.address, timeout=2) as sock:
        sock.sendall(tap.sent)
        eventually(lambda: any("failed the challenge" in error for error in server.status().errors))
    assert server.status().joined == before.joined and server.status().exchanges == 1


@pytest.mark.parametrize("what", ["twice", "left out", "changed", "of another session", "as another worker"])
def test_a_frame_holds_for_one_place_in_one_session(serve, raw, what):
    server = serve()
    channel, other = raw(server, 0), raw(server, 1)

    def report(sender, rows):
        content = b'{"rows":%d}' % rows
        return sender.frame_header(Kind.REPORT, 0, len(content), content) + content

    data = report(channel, 1)
    if what == "twice":
        data += data
    elif what == "left out":
        data = report(channel, 2)
    elif what == "changed":
        data = data[:-2] + b"9}"
    elif what == "of another session":
        data = report(other, 1)
    elif what == "as another worker":
        data = Header(Kind.REPORT, worker=1, length=10).pack() + data[28:]
    channel.sock.sendall(data)
    header, content = channel.receive()
    if what == "twice":
        assert header.kind is Kind.REPLY
        header, content = channel.receive()
    assert header.kind is Kind.END and "wrong tag" in content["message"]


def test_the_client_checks_tags_too(serve, connect):
    server = serve()
    client = connect(server)
    (session,) = server._sessions
    session._channel._sent += 1
    with pytest.raises(ExchangeError, match="wrong tag"):
        client.report({})


def test_secrets_are_32_bytes(serve):
    server = serve()
    for secret in (b"", b"x" * 31, "x" * 32, None):
        with pytest.raises(ConfigError, match="32 bytes"):
            probe(server.address, secret)
    assert len(new_secret()) == 32 and new_secret() != new_secret()


# Versions


def test_versions_that_differ_are_refused_with_both_sides(serve, connect):
    server = serve(versions={"python": "3.11.7", "keras": "3.15.1"})
    host = socket.gethostname()
    with pytest.raises(ExchangeError) as caught:
        connect(server, 1, versions={"python": "3.11.9", "keras": "3.14.0"})
    assert f"worker 1 (attempt 0 on {host}) has keras 3.14.0 against the driver's 3.15.1" in caught.value.what
    assert "python" not in caught.value.what
    assert "same packed environment" in caught.value.next_step
    assert server.status().joined == 0
    connect(server, 1, versions={"python": "3.11.0", "keras": "3.15.3", "more": "1"})


def test_differences():
    assert differences({"numpy": "2.4.6"}, {"numpy": "2.4.1"}) == []
    assert differences({"numpy": "2.4.6"}, {"numpy": "2.3.6"}) == ["numpy 2.3.6 against the driver's 2.4.6"]
    assert differences({"numpy": "2.4.6"}, {}) == ["numpy missing against the driver's 2.4.6"]
    assert differences({"backend": "jax"}, {"backend": "tensorflow"}) == ["backend tensorflow against the driver's jax"]
    assert differences({}, {"numpy": "1"}) == []


def test_versions_of_this_process():
    assert versions()["numpy"] == np.__version__ and set(versions()) == {"python", "numpy", "keras"}


# Probe


def test_probe_reaches_and_joins_nothing(serve, secret, connect, eventually):
    server = serve(workers=1)
    client = connect(server, 0)
    probe(server.address, secret, deadline=2)
    client.exchange(np.ones(N, np.float32))
    assert server.status().counts() == {"expected": 1, "joined": 1, "finished": 0, "lost": 0}
    assert server.status().errors == []


def test_probe_names_what_stands_in_the_way(serve, secret):
    server = serve(versions={"keras": "2.0.0"})
    with pytest.raises(ExchangeError, match="versions disagree: a probe from"):
        probe(server.address, secret, deadline=2)
    with pytest.raises(ExchangeError, match="does not hold the secret"):
        probe(server.address, new_secret(), deadline=2)


# Reaching the server


def test_nobody_listens(serve, connect, secret):
    server = serve()
    host, port = server.address
    server.stop()
    begun = time.monotonic()
    with pytest.raises(ExchangeError) as caught:
        Client.connect((host, port), secret, worker=3, deadline=0.5)
    assert time.monotonic() - begun < 2
    assert caught.value.what == (
        f"worker 3 on {socket.gethostname()} cannot reach the parameter server at {host}:{port}: connection refused"
    )
    for word in ("spark.driver.host", "advertise", "firewall"):
        assert word in caught.value.next_step


def test_a_server_that_comes_late_is_waited_for(serve, secret):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    started = []
    timer = threading.Timer(0.3, lambda: started.append(serve(port=port)))
    timer.start()
    Client.connect(("127.0.0.1", port), secret, worker=0, deadline=5).close()
    timer.join()


def test_an_unknown_host_is_named(secret):
    with pytest.raises(ExchangeError, match=r"at no-such-host\.invalid:1: "):
        probe(("no-such-host.invalid", 1), secret, deadline=0.1)


def test_something_else_listens_there(secret):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"SSH-2.0-OpenSSH_9.6 and more bytes than a header takes\r\n")
                sock.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ExchangeError, match=r"a probe on .* reached .* not of this protocol .*SSH-"):
            probe(listener.getsockname(), secret, deadline=2)
        thread.join()


def test_something_that_never_answers(secret):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.monotonic()
        with pytest.raises(ExchangeError, match=r"sent nothing for 0.3 s"):
            probe(listener.getsockname(), secret, deadline=0.3)
        assert time.monotonic() - begun < 2
