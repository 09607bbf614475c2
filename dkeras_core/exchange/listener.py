"""The server's listening socket: a fixed port, a free one, or the first free one of a range."""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from dkeras_core.errors import ConfigError, ExchangeError

ANY = ("", "0.0.0.0", "::", "*")


def advertised(host: str, advertise: str | None) -> str:
    """The host that workers are told. Raises ConfigError when the bind host cannot be reached as such."""
    if advertise:
        return advertise
    if host in ANY:
        raise ConfigError(
            f"the parameter server binds all interfaces ({host!r}), so it cannot know by which name workers reach it",
            "set the advertise host (spark.driver.host)",
        )
    return host


class Listener:
    """A listening socket whose ``accept`` can be ended from another thread."""

    def __init__(self, host: str, port: int | tuple[int, int]):
        self._sock = _bind("" if host == "*" else host, _ports(port))
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        self._wake_read, self._wake_write = os.pipe()
        self._poll = select.poll()  # unlike select, not limited to 1,024 descriptors
        for source in (self._sock, self._wake_read):
            self._poll.register(source, select.POLLIN)

    def accept(self) -> tuple[socket.socket, str] | None:
        """The next connection and its peer's address; None once ``stop`` was called."""
        while True:
            if any(descriptor == self._wake_read for descriptor, _ in self._poll.poll()):
                return None
            try:
                sock, address = self._sock.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    time.sleep(0.1)  # out of descriptors: wait for one, do not spin
                continue
            return sock, f"{address[0]}:{address[1]}"

    def stop(self) -> None:
        """Let ``accept`` return None."""
        os.write(self._wake_write, b"x")

    def close(self) -> None:
        """Release the port; after the thread that accepts has ended."""
        self._sock.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def _ports(port: int | tuple[int, int]) -> range:
    low, high = port if isinstance(port, tuple | list) else (port, port)
    if not (0 <= low <= high <= 65535) or (low == 0 and high > 0):
        raise ConfigError(
            f"port must be 0, a port, or a range (low, high), not {port!r}", "use for example [40000, 40100]"
        )
    return range(low, high + 1)


def _bind(host: str, ports: range) -> socket.socket:
    where = f"{host or '*'}:{ports[0]}" + (f" to {ports[-1]}" if len(ports) > 1 else "")
    try:
        family, _, _, _, _ = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ExchangeError(
            f"the parameter server cannot bind {where}: {error.strerror or error}",
            "set the bind host to an address of the driver's machine",
        ) from None
    for port in ports:
        try:
            return socket.create_server((host, port), family=family, backlog=256)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ExchangeError(
                    f"the parameter server cannot bind {host or '*'}:{port}: {error.strerror}",
                    "set the bind host to an address of the driver's machine",
                ) from None
    raise ExchangeError(
        f"the parameter server cannot bind {where}: no port is free there or permitted",
        "use port 0 for any free port, or a wider range",
    )
