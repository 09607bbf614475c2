"""What rules have in common whose workers take the center as their x: DOWNPOUR and all that average."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival, Rule


class CenterRule(Rule):
    """The answer is the new center, which becomes the worker's x: x <- c."""

    default_result: ClassVar[str] = "center"

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.copyto(x, answer)


class UpdateRule(CenterRule):
    """A worker sends its update since it last took the center, d = x - c_taken; the server adds it: c <- c + d."""

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {"taken": x.copy(), "update": np.zeros_like(x)}

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        return np.subtract(x, state["taken"], out=state["update"])

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.add(center, message, out=center)
        np.copyto(answer, center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        super().receive(x, answer, state)
        np.copyto(state["taken"], answer)


@dataclass(frozen=True, kw_only=True)
class AddedUpdateRule(UpdateRule):
    """An asynchronous UpdateRule of which the server adds up all workers' updates, each times ``commit_rate``.

    The papers add whole updates (1). Then p workers move the center p times as far as one, with updates that p
    exchanges have made old, and with 8 and more it overshoots. A learning rate of 1/p is no remedy: the local steps
    hardly move, so that all updates point the same way, and their sum is one long step without a look at the loss.
    With the default "mean", 1 / p, each worker goes its own way at the full rate and the center by the mean of that.
    """

    commit_rate: float | str = "mean"

    def validate(self) -> None:
        if self.commit_rate != "mean":
            self._real("commit_rate", above=0, at_most=1, or_else=', or "mean" for 1 / workers')

    def for_workers(self, workers: int) -> Self:
        rule = super().for_workers(workers)
        return replace(rule, commit_rate=1 / workers) if rule.commit_rate == "mean" else rule

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        update, share = super().message(x, state, steps), self.share(steps)
        return update if share == 1 else np.multiply(update, np.float32(share), out=update)

    def share(self, steps: int) -> float:
        """The part of an update of so many local steps that is added to the center."""
        return self.commit_rate
