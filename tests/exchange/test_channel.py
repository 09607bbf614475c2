"""A channel over a real connection."""

import socket
import threading
import time

import pytest

from dkeras_core.exchange.channel import Channel, TimedOut
from dkeras_core.exchange.frames import Kind


@pytest.fixture
def channels():
    """Two ends of a connection, whose frames may take 0.2 s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = socket.create_connection(listener.getsockname()), listener.accept()[0]
    here, there = (Channel(end, timeout=0.2) for end in ends)
    yield here, there
    here.close()
    there.close()


def test_the_first_byte_may_take_longer_than_a_frame(channels):
    here, there = channels
    later = threading.Timer(0.5, lambda: there.send_control(Kind.REPORT, {"loss": 1}))
    later.start()
    header, content = here.receive(5.0)
    assert (header.kind, content) == (Kind.REPORT, {"loss": 1})
    later.join()


@pytest.mark.parametrize("wait", [0.05, 0.2, 0.5])
def test_silence_ends_the_wait_on_time(channels, wait):
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=f"sent nothing for {wait:g} s"):
        channels[0].receive(wait)
    assert wait - 0.01 <= time.monotonic() - begun < wait + 2
