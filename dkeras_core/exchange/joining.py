"""Reaching the parameter server from a worker: connect with retries, handshake, join; and the probe that only tries."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import handshake
from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.frames import FrameError, Kind, PeerError
from dkeras_core.exchange.security import check_secret
from dkeras_core.exchange.versions import versions as own_versions

Address = tuple[str, int]


def probe(address: Address, secret: bytes, *, versions: dict[str, str] | None = None, deadline: float = 10.0) -> None:
    """Try from this machine whether a worker could join: reachability, secret and versions; nothing is joined.

    Raises ExchangeError with the cause and the next step, at the latest soon after ``deadline`` seconds.
    """
    name = f"a probe on {socket.gethostname()}"
    channel, _ = join(address, secret, name=name, versions=versions, deadline=deadline, timeout=deadline, probe=True)
    channel.close()


def join(
    address: Address,
    secret: bytes,
    *,
    name: str,
    versions: dict[str, str] | None,
    deadline: float,
    timeout: float,
    worker: int = 0,
    attempt: int = 0,
    probe: bool = False,
) -> tuple[Channel, dict[str, Any]]:
    """Connect and join; the open channel and what the server said in its WELCOME. Raises ExchangeError."""
    check_secret(secret)
    channel = Channel(_connect(address, name, deadline), timeout=timeout, worker=worker, attempt=attempt)
    try:
        handshake.as_client(channel, secret)
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "versions": own_versions() if versions is None else versions,
            "probe": probe,
        }
        channel.send_control(Kind.JOIN, content)
        header, welcome = channel.receive()
        if header.kind is Kind.END:
            raise ending(welcome, name)
        if header.kind is not Kind.WELCOME:
            raise FrameError(f"answered the join with {header.kind.name}")
        return channel, welcome
    except BaseException as error:
        channel.close()
        if isinstance(error, PeerError):
            raise ExchangeError(
                f"{name} reached {text(address)} but could not join: the other side {error.what}",
                error.next_step or "look whether this job's driver still runs and what its log says",
            ) from None
        raise


def ending(content: dict[str, Any], name: str) -> TrainingError:
    """The server's END as an exception: TrainingError for a failed run or a rejected push, else ExchangeError."""
    message = f"{name}: {content.get('message', 'the parameter server ended the session')}"
    kind = TrainingError if content.get("code") in ("failed", "rejected") else ExchangeError
    return kind(message, content.get("next"))


def text(address: Address) -> str:
    """host:port, as messages show it."""
    return f"{address[0]}:{address[1]}"


def _connect(address: Address, name: str, deadline: float) -> socket.socket:
    end = time.monotonic() + deadline
    pause = 0.1
    while True:
        left = end - time.monotonic()
        try:
            return socket.create_connection(address, timeout=max(left, 0.1))
        except OSError as error:
            cause = _cause(error, deadline)
        if time.monotonic() + pause >= end:
            raise ExchangeError(
                f"{name} cannot reach the parameter server at {text(address)}: {cause}",
                "set the advertise host (spark.driver.host) to a name of the driver that executors can reach, and let "
                "a firewall between them pass the server's port (a port range can be set)",
            )
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def _cause(error: OSError, deadline: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {deadline:g} s"
    return str(error.strerror or error).lower()
