"""Waits for data in HDFS without holding a worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout
from airflow.triggers.base import BaseTrigger, TriggerEvent

from dkeras_core.airflow.handover import settled
from dkeras_core.airflow.hdfs import look, moment
from dkeras_core.errors import AccessDenied, ConfigError, DkerasError

if TYPE_CHECKING:
    from airflow.sdk import Context

FLAG = "_SUCCESS"


class HdfsPathTrigger(BaseTrigger):
    """Looks every ``interval`` seconds; fires {"found": …} once, or {"error": …} when looking on is in vain.

    A NameNode that does not answer is waited for: the sensor's time-out says how long.
    """

    def __init__(self, path: str, flag: str | None, newer_than: str | None, interval: float):
        super().__init__()
        self.path, self.flag, self.newer_than, self.interval = path, flag, newer_than, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("path", "flag", "newer_than", "interval")
        return f"{__name__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        began, since, said = time.monotonic(), moment(self.newer_than), None
        while True:
            try:
                found = await asyncio.to_thread(look, self.path, self.flag, since)
            except (AccessDenied, ConfigError) as error:
                await settled(began)
                yield TriggerEvent({"error": str(error)})
                return
            except DkerasError as error:
                found = None
                if said != error.what:
                    self.log.warning("%s; looking again every %g s", error.what, self.interval)
                    said = error.what
            if found:
                await settled(began)
                yield TriggerEvent({"found": found})
                return
            await asyncio.sleep(self.interval)


class HdfsPathSensor(BaseSensorOperator):
    """Wait until a path is there, or newer than a point in time; returns {"path", "modified", "size"}.

    The task waits in the triggerer. Look at ``timeout`` for how long; ``soft_fail=True`` skips instead of failing.

    Parameters
    ----------
    path : str
        File or folder in the file system of HADOOP_CONF_DIR, or a URI. Templated.
    flag : str, optional
        A folder counts when it holds this file, ``_SUCCESS`` unless said otherwise; None: the folder itself counts.
    newer_than : str, optional
        ISO date and time; with ``"{{ prev_start_date_success or '' }}"`` only data that came after the begin of the
        last successful run count. Empty: any age. Templated.
    """

    template_fields: Sequence[str] = ("path", "flag", "newer_than")
    ui_color = "#dbe7f4"

    def __init__(
        self, *, path: str, flag: str | None = FLAG, newer_than: str | None = None, poke_interval: float = 10, **kwargs
    ):
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.path, self.flag, self.newer_than = path, flag, newer_than

    def execute(self, context: Context) -> dict[str, Any]:
        try:
            found = look(self.path, self.flag or None, moment(self.newer_than))
        except (AccessDenied, ConfigError) as error:
            raise AirflowFailException(str(error)) from error
        except DkerasError as error:
            self.log.warning("%s; waiting for it", error.what)
            found = None
        if found:
            return self._done(found)
        self.log.info("%s", self._awaited("is awaited"))
        trigger = HdfsPathTrigger(self.path, self.flag or None, self.newer_than or None, self.poke_interval)
        self.defer(trigger=trigger, method_name=self.execute_complete.__name__, timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        if "error" in event:
            raise AirflowFailException(event["error"])
        return self._done(event["found"])

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(self._awaited(f"did not come within {self.timeout:g} s")) from None

    def _done(self, found: dict[str, Any]) -> dict[str, Any]:
        self.log.info("%s is there, of %s", found["path"], found["modified"])
        return found

    def _awaited(self, what: str) -> str:
        flag = f" (a file, or a folder with {self.flag})" if self.flag else ""
        return f"{self.path}{flag} {what}{f', newer than {self.newer_than}' if self.newer_than else ''}"
