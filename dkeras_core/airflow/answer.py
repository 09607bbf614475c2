"""Looks whether a question to a person was answered already, for a try that comes after one that was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail
from airflow.triggers.base import BaseTrigger, TriggerEvent

_PAUSE = 5.0  # Airflow 3.3 takes a task for lost that goes on before its scheduler has seen it wait


class GivenAnswer(BaseTrigger):
    """Fires once: {"given": what execute_complete of an approval takes, or None when there is no answer}.

    Only a triggerer may read it: Airflow does not answer a task that asks.
    """

    def __init__(self, ti_id: str):
        super().__init__()
        self.ti_id = ti_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__qualname__}", {"ti_id": self.ti_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from asgiref.sync import sync_to_async

        await asyncio.sleep(_PAUSE)
        try:
            found = await sync_to_async(get_hitl_detail_content_detail)(ti_id=self.ti_id)
        except Exception as error:  # then the question is asked again, as it was before
            self.log.warning("whether there is an answer cannot be read: %s", error)
            found = None
        if found is None or not found.response_received:
            yield TriggerEvent({"given": None})
            return
        user = found.responded_by_user
        given = {"chosen_options": found.chosen_options, "params_input": found.params_input or {}}
        given |= {"responded_at": found.responded_at, "responded_by_user": user.model_dump() if user else None}
        yield TriggerEvent({"given": given})
