"""Delta averaging, synchronous and asynchronous, as in Elephas (github.com/danielenricocahall/elephas)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.updates import UpdateRule


@dataclass(frozen=True, kw_only=True)
class DeltaAveraging(UpdateRule):
    """Synchronous delta averaging.

    With d_i the update of worker i since it last took the center, all workers meet and::

        c <- c + mean_i d_i
        x_i <- c

    As all workers start a round from the same center, this is model averaging up to rounding.

    Parameters
    ----------
    communication_period : int, "epoch" or "fit"
        Local steps between rounds; "epoch" for one round an epoch, "fit" for one at the end, as Elephas does.
    """

    name: ClassVar[str] = "delta_averaging"
    synchronous: ClassVar[bool] = True
    default_result: ClassVar[str] = "ema"

    communication_period: int | str = "epoch"


@dataclass(frozen=True, kw_only=True)
class AsynchronousDeltaAveraging(UpdateRule):
    """Asynchronous delta averaging: DOWNPOUR by another name, one exchange an epoch (or, with 1, a batch).

    ::

        c <- c + d
        x <- c

    The server takes each update whole, not divided by the number of workers, as Elephas' asynchronous and hogwild
    modes do.

    Parameters
    ----------
    communication_period : int, "auto", "epoch" or "fit"
        Local steps between exchanges; 1 for Elephas' frequency "batch".
    """

    name: ClassVar[str] = "asynchronous_delta_averaging"

    communication_period: int | str = "epoch"
