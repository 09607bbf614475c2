"""Delta averaging, synchronous and asynchronous, as in Elephas (github.com/danielenricocahall/elephas)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.updates import AddedUpdateRule, UpdateRule


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
class AsynchronousDeltaAveraging(AddedUpdateRule):
    """Asynchronous delta averaging: DOWNPOUR by another name, one exchange an epoch (or, with 1, a batch).

    With a = ``commit_rate``::

        c <- c + a d
        x <- c

    Elephas' asynchronous and hogwild modes take each update whole (a = 1), and overshoot with many workers.

    Parameters
    ----------
    commit_rate : float in (0, 1] or "mean"
        The part of each update that is added: Elephas' 1, or "mean" for 1 / p, with which the center moves by the mean
        of the workers' updates.
    communication_period : int, "auto", "epoch" or "fit"
        Local steps between exchanges; 1 for Elephas' frequency "batch".
    """

    name: ClassVar[str] = "asynchronous_delta_averaging"
    default_result: ClassVar[str] = "ema"

    communication_period: int | str = "epoch"
