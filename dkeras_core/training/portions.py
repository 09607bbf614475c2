"""Windows cut into portions: none keeps a worker silent for long, none goes beyond the step at which it shall end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from dkeras_core.data.feed import Window

PORTION_SECONDS = 30.0  # of local steps in one call, after which the worker reports: far below the server's patience


class Portions:
    """Cuts windows by the time that the local steps of the last call took; single steps until that is known."""

    def __init__(self):
        self._most = 1

    def took(self, seconds: float, steps: int) -> None:
        """Learn that ``steps`` local steps in one call took so long."""
        self._most = max(1, int(PORTION_SECONDS * steps / max(seconds, 1e-9)))

    def of(self, window: Window, most: Callable[[], float] = lambda: math.inf) -> Iterator[Window]:
        """Yield the window in portions of at most ``most()`` steps, which is asked anew for each; none is copied."""
        start = 0
        while start < window.steps:
            stop = min(window.steps, start + most(), start + self._most)
            yield window if (start, stop) == (0, window.steps) else _part(window, start, stop)
            start = stop


def _part(window: Window, start: int, stop: int) -> Window:
    """Batches ``start`` to ``stop`` of a window, without a copy."""

    def cut(arrays):
        if isinstance(arrays, tuple):
            return tuple(array[start:stop] for array in arrays)
        return None if arrays is None else arrays[start:stop]

    return Window(*map(cut, window))
