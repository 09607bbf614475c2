"""Bodies of WebHDFS requests and answers as streams."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

import requests

from dkeras_core.errors import StorageError
from dkeras_core.storage.base import CHUNK, Progress


class Body(io.RawIOBase):
    """The body of an OPEN answer; a body that ends early is an error, never a short file."""

    def __init__(self, errors: Callable[[str], AbstractContextManager], path: str, response: requests.Response):
        self._errors, self._path, self._response = errors, path, response
        self._left = int(response.headers["content-length"]) if "content-length" in response.headers else None

    def readable(self) -> bool:
        return True

    def _next(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        with self._errors(self._path):
            piece = self._response.raw.read(size)
        if self._left is not None:
            self._left -= len(piece)
            if not piece and self._left > 0:  # urllib3 before 2.0 takes this for the end
                raise StorageError(f"{self._path}: the answer broke off {self._left} bytes early", "Try again.")
        return piece

    def readinto(self, buffer) -> int:
        piece = self._next(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time.
        return b"".join(iter(lambda: self._next(CHUNK), b""))

    def close(self) -> None:
        self._response.close()
        super().close()


def chunks(stream: BinaryIO, progress: Progress | None) -> Iterator[bytes]:
    """Yield the body of a request, reporting how many bytes have gone."""
    while chunk := stream.read(CHUNK):
        yield chunk
        if progress is not None:
            progress(len(chunk))
