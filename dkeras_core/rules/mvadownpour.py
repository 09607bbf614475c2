"""MVADOWNPOUR: DOWNPOUR that publishes a moving average of its center (a baseline of arXiv 1412.6651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.adownpour import ADownpour


@dataclass(frozen=True, kw_only=True)
class MVADownpour(ADownpour):
    """MVADOWNPOUR, section 5 of arXiv 1412.6651.

    As ADOWNPOUR, with a constant weight b = ``averaging_rate``::

        z <- (1 - b) z + b c
        c <- c + a d

    z begins as the initial center, of which after N updates a share of (1 - b)^N is left.

    Parameters
    ----------
    averaging_rate : float in (0, 1]
        b. The paper's 0.001 asks for some ten thousand exchanges; the default 0.01 for a thousand.
    commit_rate : float in (0, 1] or "mean"
        a, the part of each update that is added: the paper's 1, or "mean" for 1 / p, with which the center moves by
        the mean of the workers' updates.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges.
    """

    name: ClassVar[str] = "mvadownpour"

    averaging_rate: float = 0.01

    def validate(self) -> None:
        super().validate()
        self._real("averaging_rate", above=0, at_most=1)

    def averaging(self, exchanges: int) -> float:
        return self.averaging_rate
