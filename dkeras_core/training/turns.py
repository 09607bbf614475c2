"""Trainings of one Spark application that were started side by side take turns at its task slots.

The workers of a training wait for each other, so two that each got half of the slots would wait for ever.
``CrossValidator(parallelism=4)`` starts four.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary


class Turns:
    """Slots that are handed out in the order in which they were asked for.

    Parameters
    ----------
    slots : callable
        Returns how many there are now.
    """

    def __init__(self, slots: Callable[[], int]):
        self._slots = slots
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._taken = 0

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Hold ``wanted`` slots within the block, waited for; one that wants more than there are gets all of them.

        The first in the queue is not overtaken, so that none waits for ever.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._fits(wanted))
                self._taken += wanted
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()

    def _fits(self, wanted: int) -> bool:
        return not self._taken or self._taken + wanted <= self._slots()


_turns: WeakKeyDictionary = WeakKeyDictionary()
_lock = threading.Lock()


def turns_of(spark) -> Turns:
    """The turns of a session's application; the same for all its sessions."""
    from dkeras_core.training.spark import task_slots

    context = spark.sparkContext
    with _lock:
        if context not in _turns:
            _turns[context] = Turns(lambda: task_slots(spark))
        return _turns[context]
