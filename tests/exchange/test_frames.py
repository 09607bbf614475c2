import struct

import pytest

from dkeras_core.errors import TrainingError
from dkeras_core.exchange import frames
from dkeras_core.exchange.frames import CONTROL_LIMIT, HEADER_SIZE, FrameError, Header, Kind


def padded(head: bytes) -> bytes:
    return head.ljust(HEADER_SIZE, b"\0")


def test_header_round_trip_and_layout():
    header = Header(Kind.SHARD, worker=7, attempt=2, part=5, length=2**33)
    assert frames.unpack(padded(header.pack())) == header
    assert header.pack() == b"dkex" + struct.pack("<BBHIIIQ", 1, 9, 0, 7, 2, 5, 2**33)
    assert HEADER_SIZE == 44


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"GET ", "not of this protocol"),
        (4, b"\x63", "speaks version 99"),
        (5, b"\xff", "unknown kind 255"),
        (6, b"\x01", "unknown encoding"),
    ],
)
def test_damaged_headers_are_refused(place, value, message):
    head = bytearray(padded(Header(Kind.REPORT).pack()))
    head[place : place + len(value)] = value
    with pytest.raises(FrameError, match=message):
        frames.unpack(head)


def test_control_frames_have_a_limit_before_anything_is_read():
    frames.unpack(padded(Header(Kind.REPORT, length=CONTROL_LIMIT).pack()))
    with pytest.raises(FrameError, match="the limit is 65536"):
        frames.unpack(padded(Header(Kind.REPORT, length=CONTROL_LIMIT + 1).pack()))


@pytest.mark.parametrize(
    "content", [{"loss": float("nan")}, {"x": object()}, {"x": "y" * CONTROL_LIMIT}], ids=["nan", "object", "long"]
)
def test_what_json_cannot_carry_is_refused_where_it_is_written(content):
    with pytest.raises(TrainingError):
        frames.encode_control(content)


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff\xfe", b"[" * 60000], ids=["open", "list", "binary", "deep"])
def test_control_frames_that_are_no_json_object(data):
    with pytest.raises(FrameError, match="control frame that is not"):
        frames.decode_control(data)
    assert frames.decode_control(b"") == {}
