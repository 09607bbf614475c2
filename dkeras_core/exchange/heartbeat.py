"""How a worker that has long nothing to say shows that it lives: a thread of its own sends a small frame.

One local step, the compiling of a window or the next batch of rows may take longer than the server bears silence. The
frame says no more than that the process runs and reaches the server; whether the step ever ends it cannot tell, and
says where the worker's thread is instead.
"""

from __future__ import annotations

import os
import sys
import threading

from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.frames import Kind, PeerError

LONGEST = 30.0  # seconds between two looks, so that a worker is not told from a dead one by one lost packet


class Heartbeat:
    """Sends ALIVE when nothing else was sent for a while. Started by the thread whose worker it speaks for.

    Parameters
    ----------
    channel : Channel
        The worker's. Whoever else sends on it holds ``turn`` meanwhile.
    silence : float
        Seconds without a frame after which the server takes the worker for lost; two frames are at most half as far
        apart.
    """

    def __init__(self, channel: Channel, silence: float):
        self._channel = channel
        self._interval = min(max(silence / 4, 0.01), LONGEST)
        self._worker = threading.get_ident()
        self.turn = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="exchange-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; once this returns, it no longer uses the channel."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        sent = -1
        while not self._over.wait(self._interval):
            # A request that is under way is word enough, and so is one since the last look
            if sent == self._channel.bytes_sent and self.turn.acquire(blocking=False):
                try:
                    self._channel.send_control(Kind.ALIVE, {"at": _place(self._worker)})
                except PeerError:
                    return  # the worker learns what it is at its next request
                finally:
                    self.turn.release()
            sent = self._channel.bytes_sent


def _place(thread: int) -> str:
    """Where a thread is: file, line and function of its innermost frame."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "nowhere: the thread has ended"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
