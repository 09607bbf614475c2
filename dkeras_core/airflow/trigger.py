"""Follows an application without holding a worker slot, and ends it when a person acts on the waiting task.

Airflow cancels a trigger for three reasons, and tells them apart by halves. On a shutdown or crash of the triggerer
``on_kill`` is not called, and the trigger begins anew elsewhere with the same arguments. When a person clears the task
or marks it, ``on_kill`` is called; it is called as well when another triggerer has taken the trigger over, because this
one was silent for too long. Only the task's state tells the last two apart: a task that is still deferred is not dead.

The triggerer repeats the cancellation every second or so until the trigger has ended, and each time interrupts
``on_kill`` itself (3.3.2). So the kill is a task of its own, which goes on when ``on_kill`` is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from dkeras_core.airflow.handover import settled
from dkeras_core.airflow.pause import KILL, Pause
from dkeras_core.airflow.telling import Telling
from dkeras_core.cli import place
from dkeras_core.cli.place import Place
from dkeras_core.errors import ClusterError, ConfigError, DkerasError
from dkeras_core.paths import Layout
from dkeras_core.yarn import ticket
from dkeras_core.yarn.follow import View, Watch

POLL = 2.0
ENDED, TIMEOUT, SILENT, PAUSED = "ended", "timeout", "silent", "paused"
_KILL_DEADLINE = 25.0  # Airflow gives on_kill 30 s
_RETRY = 1.0
_STATE_DEADLINE = 8.0
_ENDING: set[asyncio.Task] = set()
"""Kills under way: the event loop itself would not keep them."""


class ApplicationTrigger(BaseTrigger):
    """Fires once: ``{"application": id, "end": "ended" | "timeout" | "silent" | "paused", "message": text}``.

    After "paused" the application has ended, and Airflow resumes the task when its DAG is not paused any more.

    Parameters
    ----------
    application, run, root : str
        What is followed: its id, the run it works for, and the bundle's root folder.
    deadline : float, optional
        Unix time at which the application is killed.
    poll : float
        Seconds between two looks.
    on_pause : str
        "kill": the application ends when the DAG is paused; "leave": it does not.
    """

    def __init__(
        self,
        application: str,
        run: str,
        root: str,
        deadline: float | None = None,
        poll: float = POLL,
        on_pause: str = KILL,
    ):
        super().__init__()
        self.application, self.run_name, self.root = application, run, root
        self.deadline, self.poll, self.on_pause = deadline, poll, on_pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        settings = {"application": self.application, "run": self.run_name, "root": self.root}
        settings |= {"deadline": self.deadline, "poll": self.poll, "on_pause": self.on_pause}
        return f"{type(self).__module__}.{type(self).__qualname__}", settings

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # The first such question takes a triggerer many seconds, which on_kill has not.
        first = asyncio.create_task(self._still_deferred())
        since = time.monotonic()
        try:
            end, message = await self._follow()
            await settled(since)
            yield TriggerEvent({"application": self.application, "end": end, "message": message})
        finally:
            first.cancel()

    async def _follow(self) -> tuple[str, str]:
        """Return how it ended, and a text to it."""
        there, watch = await asyncio.to_thread(self._watch)
        telling, pause, message = Telling(self.log.info), self._pause(), ""
        paused = False  # once and for all: the DAG may go on before its application is seen to have ended
        while True:
            if self.deadline is not None and time.time() > self.deadline:
                return TIMEOUT, await asyncio.to_thread(self._end)
            if pause is not None and await pause.seen():
                paused = True
                self.log.info("the DAG is paused: ending %s", self.application)
                message = await asyncio.to_thread(self._end)
                self.log.info(message)
            try:
                view = await asyncio.to_thread(self._look, there, watch)
            except ClusterError as error:  # nobody has answered for many minutes
                return SILENT, str(error)
            telling.tell(view)
            if watch.ended:
                return (PAUSED if paused else ENDED), message
            await asyncio.sleep(self.poll)

    async def on_kill(self) -> None:
        ending = asyncio.create_task(self._end_if_over())
        _ENDING.add(ending)
        ending.add_done_callback(_ENDING.discard)
        await asyncio.shield(ending)

    async def _end_if_over(self) -> None:
        if await self._still_deferred():
            self.log.info("another triggerer follows %s now", self.application)
            return
        self.log.info("the task was cleared or marked: ending %s", self.application)
        self.log.info(await asyncio.to_thread(self._end))

    def _watch(self) -> tuple[Place, Watch]:
        found = place.find(self.root)
        return found, Watch(found.rm, self.application, found.storage, Layout(self.root).run(self.run_name))

    def _look(self, there: Place, watch: Watch) -> View:
        with contextlib.suppress(ConfigError):  # told at the submission; the ticket may hold for hours
            ticket.keep(there.config, self.log.info)
        return watch.look()

    def _pause(self) -> Pause | None:
        ti = self.task_instance
        return Pause(ti.dag_id, self.log.info) if ti is not None and self.on_pause == KILL else None

    def _end(self) -> str:
        """Kill the application and say how it ended; a ResourceManager that is silent is asked again."""
        until = time.monotonic() + _KILL_DEADLINE
        while True:
            try:
                found = place.find(self.root)
                app = found.rm.kill(self.application, timeout=max(1.0, until - time.monotonic()))
                return f"{app.id} is {app.state}"
            except DkerasError as error:
                if time.monotonic() + _RETRY > until:
                    return f"{self.application} may still run: {error}"
            time.sleep(_RETRY)

    async def _still_deferred(self) -> bool:
        ask = await asyncio.to_thread(_asking)
        from asgiref.sync import sync_to_async

        ti = self.task_instance
        if ti is None:
            return False
        with contextlib.suppress(Exception):  # not knowing is no reason to let it run on
            index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
            asking = sync_to_async(ask)(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=index)
            found = await asyncio.wait_for(asking, _STATE_DEADLINE)
            return "deferred" in (found.get(ti.run_id) or {}).values()
        return False


def _asking():
    """Airflow's function for the states of tasks; the import takes too long for the event loop."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return RuntimeTaskInstance.get_task_states
