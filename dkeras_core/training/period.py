"""The automatic communication period: as many local steps between two exchanges as keep exchanging cheap."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

EXCHANGES = 20
"""Exchanges that a run of one worker keeps whatever they cost: fewer leave the workers hardly coupled."""
_KEPT = 9  # measurements behind each median
_SETTLE = 3  # exchanges between two changes of the period
_STEP = 2.0  # largest factor of one change
_DEAD_BAND = 0.3  # a period that is longer than needed by less than this part stays


class AutomaticPeriod:
    """Chooses tau so that exchanging takes at most ``share`` of a worker's time.

    With C seconds a local step and E seconds an exchange, both running medians, exchanging takes E / (E + tau C) of
    the time, so the smallest tau that keeps the share s is::

        tau = E (1 - s) / (s C)

    rounded up to whole windows, at least one window, and at most a twentieth of the worker's local steps in the run.
    One slow exchange or one slow step does not move a median; a change is made every few exchanges at most, by a
    factor of two at most, and a period that is a little too long stays.

    Parameters
    ----------
    share : float
        In (0, 1): the part of the time that exchanging may take.
    steps : int
        Local steps of this worker in the whole run.
    window : int
        Local steps in one compiled window; tau is a multiple of it.

    Attributes
    ----------
    tau : int
        The period now.
    """

    def __init__(self, share: float, steps: int, window: int):
        self._share = share
        self._window = window
        self._most = max(window, steps // EXCHANGES // window * window)
        self.tau = window
        self._compute: deque[float] = deque(maxlen=_KEPT)
        self._exchange: deque[float] = deque(maxlen=_KEPT)
        self._since = 0
        self._first = self._least = self._greatest = self.tau

    def computed(self, seconds: float, steps: int) -> None:
        """Take the time of ``steps`` local steps; leave out what compiled."""
        self._compute.append(seconds / steps)

    def exchanged(self, seconds: float) -> None:
        """Take the time that one exchange kept the worker from computing, and choose the period anew."""
        self._exchange.append(seconds)
        self._since += 1
        if self._since < _SETTLE or not self._compute:
            return
        wanted = self._wanted()
        if (1 - _DEAD_BAND) * self.tau < wanted <= self.tau:
            return
        self.tau = self._whole(min(max(wanted, self.tau / _STEP), self.tau * _STEP))
        self._least, self._greatest = min(self._least, self.tau), max(self._greatest, self.tau)
        self._since = 0

    def account(self) -> dict[str, Any]:
        """What was chosen: first, last, least and greatest tau, its bound, and the share that the last should give."""
        expected = None
        if self._compute and self._exchange:
            exchange = median(self._exchange)
            expected = round(exchange / (exchange + self.tau * median(self._compute)), 4)
        return {
            "first": self._first,
            "last": self.tau,
            "min": self._least,
            "max": self._greatest,
            "bound": self._most,
            "wanted_share": self._share,
            "expected_share": expected,
        }

    def _wanted(self) -> float:
        compute = max(median(self._compute), 1e-9)
        return median(self._exchange) * (1 - self._share) / (self._share * compute)

    def _whole(self, tau: float) -> int:
        # The tolerance keeps a tau that is whole but for rounding from costing one window more
        return min(max(math.ceil(tau / self._window - 1e-9), 1) * self._window, self._most)


LARGEST_WINDOW = 64
"""Local steps in one compiled window at most: its buffers, and what the compiler unrolls, grow with it."""
_WINDOW_BYTES = 32 << 20  # of rows: the feed holds a few windows at a time
_SMALLEST_DIVISOR = 8  # below it the cost of entering a window is felt


def window_of(period: int | str, *, steps: int, steps_in_epoch: int, batch_bytes: int) -> int:
    """Return how many local steps one compiled window holds.

    Of a long communication period it is the largest divisor of at most 64; where the period has only small ones, 64,
    and the worker cuts windows where an exchange is due.

    Parameters
    ----------
    period : int or str
        The rule's communication period.
    steps, steps_in_epoch : int
        Local steps of this worker in the run and in an epoch.
    batch_bytes : int
        Size of one batch of rows.
    """
    limit = max(1, min(LARGEST_WINDOW, steps_in_epoch, _WINDOW_BYTES // max(batch_bytes, 1)))
    if period == "auto":
        return max(1, min(10, limit, steps // EXCHANGES))
    if isinstance(period, str):
        return limit
    if period <= limit:
        return period
    divisor = next(window for window in range(limit, 0, -1) if period % window == 0)
    return divisor if divisor >= min(_SMALLEST_DIVISOR, limit) else limit
