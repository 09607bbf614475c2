"""A gzip writer that compresses blocks on several cores and still makes one ordinary, deterministic gzip member.

Each block is deflated by itself with the end of the block before as its dictionary and flushed to a byte border, so the
pieces join to one deflate stream (RFC 1951) with one header and one checksum (RFC 1952): every reader takes it, also
those that stop after the first member.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

BLOCK = 1 << 20  # bytes before compression
WINDOW = 1 << 15  # as far back as deflate can refer
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, time 0, system unknown


class ParallelGzip:
    """Write-only binary file; ``close`` ends the member but leaves the file below it open.

    Parameters
    ----------
    file : BinaryIO
        Receives the compressed bytes, in order, from the calling thread.
    level : int
        Level of zlib, 1 to 9.
    workers : int
        Threads that compress (zlib releases the interpreter's lock).
    """

    def __init__(self, file: BinaryIO, level: int, workers: int):
        self._file = file
        self._level = level
        self._pool = ThreadPoolExecutor(workers)
        self._ahead = 2 * workers
        self._pending: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._window = b""
        self._checksum = 0
        self._size = 0
        file.write(HEADER)

    def write(self, data: bytes) -> int:
        """Take bytes in; blocks while the compressing threads are behind."""
        self._buffer += data
        while len(self._buffer) > BLOCK:
            self._submit(bytes(self._buffer[:BLOCK]), last=False)
            del self._buffer[:BLOCK]
        return len(data)

    def close(self) -> None:
        """Write what is left, the end of the stream and the checksum."""
        self._submit(bytes(self._buffer), last=True)
        self._buffer.clear()
        while self._pending:
            self._file.write(self._pending.popleft().result())
        self._file.write(struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF))
        self._pool.shutdown()

    def abandon(self) -> None:
        """Stop the threads without finishing the stream."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, block: bytes, last: bool) -> None:
        self._checksum = zlib.crc32(block, self._checksum)
        self._size += len(block)
        self._pending.append(self._pool.submit(_deflate, block, self._window, self._level, last))
        self._window = block[-WINDOW:]
        while len(self._pending) > self._ahead:
            self._file.write(self._pending.popleft().result())


def _deflate(block: bytes, window: bytes, level: int, last: bool) -> bytes:
    options = (level, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY)
    deflate = zlib.compressobj(*options, window) if window else zlib.compressobj(*options)
    return deflate.compress(block) + deflate.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
