"""The frames on the wire: a fixed binary header, kinds, and the limits that hold before anything is allocated.

docs/exchange.md describes the protocol.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from dkeras_core.errors import ExchangeError, TrainingError

MAGIC = b"dkex"
VERSION = 1
VECTOR = np.dtype("<f4")  # vectors travel as raw little-endian float32
CONTROL_LIMIT = 64 * 1024  # bytes of JSON in one control frame

_HEADER = struct.Struct("<4sBBHIIIQ")
TAG_SIZE = 16
HEADER_SIZE = _HEADER.size + TAG_SIZE


class Kind(IntEnum):
    """What a frame is. Those of ``VECTORS`` carry float32, the others a small control message."""

    HELLO = 1  # client: nonce
    CHALLENGE = 2  # server: nonce and proof
    PROOF = 3  # client: proof
    JOIN = 4  # client: host, versions; whether it only probes
    WELCOME = 5  # server: sizes
    END = 6  # server: this session is over, with code and message
    CENTER = 7  # client: asks for the center and the state
    EXCHANGE = 8  # client: a whole message
    SHARD = 9  # server: one shard of an answer or of the center
    STATE = 10  # both: the non-trainable state; a worker may send its own at any time, DONE answers
    REPORT = 11  # client: a small dictionary
    REPLY = 12  # server: to a report
    FINISH = 13  # client: account; STATE and FINAL follow when the server says GO
    FINAL = 14  # client: the last vector
    DONE = 15  # server: FINISH, LEAD or STATE is complete
    LEAVE = 16  # client: goes before it has finished, with the reason
    GO = 17  # server: to FINISH, now send STATE and FINAL
    WAIT = 18  # server: others are waited for; comes every second until the answer
    LEAD = 19  # client: worker 0's vector after the warm start
    DROP = 20  # client: leaves the run for good, with the reason and a report
    HOLD = 21  # client: which pieces of the rows it has, and how many rows each; DONE answers
    WORK = 22  # client: the result of a piece, if it has one, and that it wants the next; ASSIGN answers
    GRADIENT = 23  # client: the gradient of the piece whose result WORK has told
    ASSIGN = 24  # server: a piece, or that the search is over; SHARD frames follow when x is new
    ALIVE = 25  # client: it lives, and computes longer than the server bears silence; nothing answers


VECTORS = frozenset({Kind.EXCHANGE, Kind.SHARD, Kind.STATE, Kind.FINAL, Kind.LEAD, Kind.GRADIENT})

ENCODED = frozenset({Kind.EXCHANGE, Kind.SHARD})  # what may travel otherwise than as float32


class PeerError(ExchangeError):
    """What the other side did. ``what`` is a predicate: whoever catches it puts the other side's name before it."""


class FrameError(PeerError):
    """Bytes that are not a frame of this protocol, a frame over its limit, or one with a wrong tag."""


class Header(NamedTuple):
    """A frame's header without its tag.

    ``part`` numbers the shard, ``length`` counts payload bytes, ``encoding`` is 0 but for exchanges that travel
    otherwise than as float32 (``exchange.wire``).
    """

    kind: Kind
    worker: int = 0
    attempt: int = 0
    part: int = 0
    length: int = 0
    encoding: int = 0

    def pack(self) -> bytes:
        return _HEADER.pack(MAGIC, VERSION, self.kind, self.encoding, self.worker, self.attempt, self.part, self.length)


def unpack(data: bytes | bytearray | memoryview) -> Header:
    """Read and check the header at the start of ``data``. Raises FrameError."""
    magic, version, kind, encoding, worker, attempt, part, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError(f"sent bytes that are not of this protocol (they begin with {bytes(magic)!r})")
    if version != VERSION:
        raise FrameError(
            f"speaks version {version} of the exchange protocol, this side version {VERSION}",
            "run the same dkeras_core on the driver and the executors",
        )
    try:
        header = Header(Kind(kind), worker, attempt, part, length, encoding)
    except ValueError:
        raise FrameError(f"sent a frame of unknown kind {kind}") from None
    if encoding and header.kind not in ENCODED:
        raise FrameError(f"sent a frame with an unknown encoding ({encoding})")
    if header.kind not in VECTORS and length > CONTROL_LIMIT:
        raise FrameError(f"sent a control frame of {length} bytes; the limit is {CONTROL_LIMIT}")
    return header


def encode_control(content: dict[str, Any]) -> bytes:
    """A control message as JSON. Raises TrainingError when it is too long or holds what JSON cannot (NaN too)."""
    try:
        data = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"a message to the parameter server cannot be written as JSON: {error}",
            "put only text, finite plain numbers, lists and dictionaries into reports",
        ) from None
    if len(data) > CONTROL_LIMIT:
        raise TrainingError(
            f"a message to the parameter server takes {len(data)} bytes; the limit is {CONTROL_LIMIT}",
            "report less at a time",
        )
    return data


def decode_control(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Read back what ``encode_control`` wrote. Raises FrameError."""
    try:
        content = json.loads(bytes(data)) if data else {}
    except (ValueError, RecursionError):
        raise FrameError("sent a control frame that is not JSON") from None
    if not isinstance(content, dict):
        raise FrameError("sent a control frame that is not a JSON object")
    return content
