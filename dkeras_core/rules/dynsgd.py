"""DynSGD: updates weighed by their staleness (Jiang et al., SIGMOD 2017; Hermans, arXiv 1710.02368)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import UpdateRule


@dataclass(frozen=True, kw_only=True)
class DynSGD(UpdateRule):
    """DynSGD: the update divided by its staleness + 1.

    With d the update of the worker since it last took the center, and s the exchanges of others that the center has
    seen since then::

        c <- c + d / (s + 1)
        x <- c

    s is counted by the server under the lock of the shard. This is the rule as Hermans states it; Jiang et al.
    ("Heterogeneity-aware distributed parameter servers") weigh by the staleness in clocks of a stale-synchronous
    server. With one worker nothing is stale and this is sequential training.

    Parameters
    ----------
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges.
    """

    name: ClassVar[str] = "dynsgd"
    default_result: ClassVar[str] = "ema"

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.multiply(message, np.float32(1 / (arrival.staleness + 1)), out=answer)
        super().apply(center, answer, answer, state, arrival)
