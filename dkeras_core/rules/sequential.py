"""The sequential baseline: one worker, no exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from dkeras_core.errors import ConfigError
from dkeras_core.rules.averaging import Averaging


@dataclass(frozen=True, kw_only=True)
class Sequential(Averaging):
    """Plain training of one model on one worker: what every other algorithm is measured against.

    Parameters
    ----------
    communication_period : str
        "fit", the only value.
    """

    name: ClassVar[str] = "sequential"

    def for_workers(self, workers: int) -> Self:
        if workers != 1:
            raise ConfigError(
                f"algorithm sequential trains with one worker, not {workers}",
                "set training.workers to 1, or choose another algorithm (dkeras_core.rules.names() lists them)",
            )
        return self
