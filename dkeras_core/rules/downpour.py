"""DOWNPOUR SGD (Dean et al., Large Scale Distributed Deep Networks, NIPS 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.updates import AddedUpdateRule


@dataclass(frozen=True, kw_only=True)
class Downpour(AddedUpdateRule):
    """DOWNPOUR, section 4.1 and the appendix of the paper, with n_push = n_fetch = tau.

    Every tau local steps a worker pushes what it has accumulated since it last took the center, and takes the new
    one::

        d = x - c_taken
        c <- c + a d
        x <- c

    Push and fetch are one atomic exchange. In the paper a = ``commit_rate`` is 1: with p workers the center makes p
    times the steps of one, from gradients that are p exchanges old, and with 8 and more it overshoots, even at 1/p of
    the learning rate. So a is 1 / p by default, as Zhang et al. divide the rate by the staleness (IJCAI 2016, arXiv
    1511.05950), and the center moves by the mean of the updates. With one worker this is sequential training.

    Parameters
    ----------
    commit_rate : float in (0, 1] or "mean"
        a, the part of each update that is added: the paper's 1, or "mean" for 1 / p, with which the center moves by
        the mean of the workers' updates.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges.
    """

    name: ClassVar[str] = "downpour"
    default_result: ClassVar[str] = "ema"
