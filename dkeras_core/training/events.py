"""Scalars in the event files that TensorBoard reads, written without TensorFlow.

An event file is a row of records (``length | crc | data | crc``), each an ``Event`` message of Protocol Buffers with
a time, a step and named numbers. Only those fields are written here.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping

from dkeras_core.errors import DkerasError

POINTS = 500
"""Moments sampled in the time that the run has had so far, so that a long run's file stays small."""


class EventLog:
    """The event file of one run, kept in memory and written as a whole now and then, in a thread of its own.

    Parameters
    ----------
    write : callable(bytes)
        Puts the file where it belongs, replacing what was there. What it raises is said on standard error and tried
        again later: a file system that fails for a while must not end a training.
    interval : float
        Seconds between writes at least; later a twentieth of the time so far, so that the bytes written stay within
        about twenty times the file.
    """

    def __init__(self, write: Callable[[bytes], None], interval: float = 10.0):
        self._write, self._interval = write, interval
        self._lock = threading.Lock()
        self._begun = self._sampled = time.monotonic()
        self._data = bytearray(_record(_event(time.time(), 0, version="brain.Event:2")))
        self._written = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def add(self, values: Mapping[str, float | None], step: int) -> None:
        """Append one event with a number for each tag; None is left out."""
        found = {tag: float(value) for tag, value in values.items() if value is not None}
        if found:
            record = _record(_event(time.time(), step, found))
            with self._lock:
                self._data += record

    def sample(self, values: Mapping[str, float | None], step: int) -> None:
        """Append like :meth:`add`, unless the last sample was taken only a moment ago."""
        now = time.monotonic()
        if now - self._sampled >= max(1.0, (now - self._begun) / POINTS):
            self._sampled = now
            self.add(values, step)

    def close(self) -> None:
        """Write what is left. May be called more than once."""
        self._closing.set()
        self._thread.join()
        self._flush()

    def _run(self) -> None:
        while not self._closing.wait(max(self._interval, (time.monotonic() - self._begun) / 20)):
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            data = bytes(self._data)
        if len(data) == self._written:
            return
        try:
            self._write(data)
            self._written = len(data)
        except (DkerasError, OSError) as error:
            print(f"dkeras: the events for TensorBoard could not be written: {error}", file=sys.stderr, flush=True)


def file_name() -> str:
    """A name by which TensorBoard knows an event file, unlike those of other runs."""
    return f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"


def _event(wall: float, step: int, values: Mapping[str, float] | None = None, version: str = "") -> bytes:
    """An Event message: wall_time = 1, step = 2, file_version = 3, summary = 5."""
    message = b"\x09" + struct.pack("<d", wall) + b"\x10" + _varint(step)
    if version:
        message += _bytes(3, version.encode())
    if values:
        # Summary: value = 1, and in it tag = 1, simple_value = 2
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items()
        )
        message += _bytes(5, summary)
    return message


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    """A non-negative whole number in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked_crc(length)) + data + struct.pack("<I", _masked_crc(data))


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # the Castagnoli polynomial, bits reversed
        table.append(byte)
    return table


_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TensorFlow's record format does, so that records of records keep apart."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
