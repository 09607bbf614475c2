"""Starts a DAG when new data are in HDFS, instead of by a clock: watchers of assets, which wait in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from dkeras_core.airflow.hdfs import look
from dkeras_core.errors import DkerasError

INTERVAL = 30.0
"""Seconds between two looks."""
SEEN = "seen"
"""Key of the asset's state that holds what was seen last."""
_STORED = 5.0  # seconds after which Airflow has stored an event for certain
_DEAF = 120.0  # seconds within which a watcher of a paused DAG has ended: its DAG files are read again meanwhile


class HdfsPathWatch(BaseEventTrigger):
    """Fires ``{"path", "modified", "size"}`` each time that what stands at a path is not what it was.

    What was seen last is kept with the asset in Airflow's metadata, so that neither a restart of the triggerer nor a
    pause of the DAG makes an event of data that had theirs. Where it cannot be known whether an event was heard it is
    repeated: when the triggerer is killed in the seconds after it, and when the DAG is paused within two minutes.
    An asset that was never looked at fires for what is there.

    Parameters
    ----------
    asset : str
        Name of the asset that it watches.
    path : str
        File or folder.
    flag : str, optional
        A folder counts when it holds this file; None: the folder itself counts.
    interval : float
        Seconds between two looks.

    Nothing ends it: what cannot be read now, whatever the reason, may be readable later, and the triggerer's log says
    each trouble once.
    """

    def __init__(self, asset: str, path: str, flag: str | None, interval: float = INTERVAL):
        super().__init__()
        self.asset, self.path, self.flag, self.interval = asset, path, flag, interval
        self._fired = float("-inf")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        # The asset's name keeps two assets of one path from sharing a trigger, and with it what was seen.
        names = ("asset", "path", "flag", "interval")
        return f"{__name__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        state, said = self.asset_state_store, None
        seen = await state.aget(SEEN)
        while True:
            try:
                found, trouble = await asyncio.to_thread(look, self.path, self.flag), None
            except DkerasError as error:
                found, trouble = None, str(error)
            if trouble and trouble != said:
                self.log.warning("%s is not watched at the moment: %s", self.asset, trouble)
            said = trouble
            if found and found != seen:
                self.log.info("%s: %s is new, of %s", self.asset, found["path"], found["modified"])
                self._fired = time.monotonic()
                yield TriggerEvent(found)
                await asyncio.sleep(min(_STORED, self.interval))
                await state.aset(SEEN, found)
                seen = found
            await asyncio.sleep(self.interval)

    async def on_kill(self) -> None:
        """Forget what was seen just before the watcher goes: a DAG that is paused already has not heard of it."""
        self.log.info("%s is watched no more", self.asset)
        if time.monotonic() - self._fired < _DEAF:
            await self.asset_state_store.adelete(SEEN)


def watched(asset: Asset, path: str, flag: str | None, interval: float = INTERVAL) -> Asset:
    """Return the asset with a watcher: a DAG with ``schedule=[asset]`` runs when there are new data at ``path``.

    No task of that DAG may have the asset as an outlet: each run would bring about the next.
    """
    trigger = HdfsPathWatch(asset.name, path, flag, interval)
    return Asset(
        name=asset.name, uri=asset.uri, group=asset.group, watchers=[AssetWatcher(name="hdfs", trigger=trigger)]
    )
