"""DOWNPOUR SGD (Dean et al., Large Scale Distributed Deep Networks, NIPS 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.updates import UpdateRule


@dataclass(frozen=True, kw_only=True)
class Downpour(UpdateRule):
    """DOWNPOUR, section 4.1 and the appendix of the paper, with n_push = n_fetch = tau.

    Every tau local steps a worker pushes what it has accumulated since it last took the center, and takes the new
    one::

        d = x - c_taken
        c <- c + d
        x <- c

    Push and fetch are one atomic exchange. With p workers the center makes p times the steps of one: with many
    workers lower the learning rate, or use adag or dynsgd. With one worker this is sequential training.

    Parameters
    ----------
    communication_period : int, "auto", "epoch" or "fit"
        tau, local steps between exchanges.
    """

    name: ClassVar[str] = "downpour"
