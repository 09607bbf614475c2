"""How soon a trigger may hand its task back to Airflow.

An event that comes within a second or two of the deferral makes the scheduler hand the task out again before it has
read that the process which deferred has exited. It then takes that exit for the task's own end, and the try is lost
although its second half runs (Airflow 3.3.2, with a task that is queued or running again by then). So our triggers hold
an event back until that news has surely been read.
"""

from __future__ import annotations

import asyncio
import time

SETTLED = 15.0
"""Seconds within which the scheduler has read that a task's process has exited, also on a busy machine."""


async def settled(since: float) -> None:
    """Return ``SETTLED`` seconds after ``since``, the monotonic time at which the trigger began."""
    await asyncio.sleep(since + SETTLED - time.monotonic())
