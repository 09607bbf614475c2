"""The contract between a distributed algorithm and everything that carries it."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from dkeras_core.errors import ConfigError

Arrays = dict[str, np.ndarray]

BY_WORKERS = "by_workers"
"""The communication period that ``period_for`` gives the number of workers."""


def period_for(workers: int) -> int:
    """tau for p workers, the default of rules that let the user choose: 10 up to 8 workers, 4 for 16, 2 from 32 on.

    Each of p workers makes 1/p of the steps, so with a fixed tau many workers meet too seldom to learn from each other
    (docs/convergence.md).
    """
    return 10 if workers <= 8 else max(2, 64 // workers)


def _exactly(values: np.ndarray) -> None:
    """The rounding of a wire that carries float32."""


class Arrival(NamedTuple):
    """What the server knows about a message when it applies one shard of it.

    worker : number of the sender, 0 to p - 1; of a synchronous rule, whose workers send together, 0.
    exchanges : exchanges (of a synchronous rule: rounds) that were applied to this shard before.
    staleness : how many of those came after the sender last saw this shard; 0 for a synchronous rule.
    workers : how many messages are in this one: 1, or the number that met in a synchronous round.
    as_sent : rounds an array in place to what the wire will carry of it (nothing changes for float32). A rule whose
        answer has to equal what it does to the center calls it on the answer before it uses it.
    """

    worker: int
    exchanges: int
    staleness: int
    workers: int = 1
    as_sent: Callable[[np.ndarray], None] = _exactly


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A distributed algorithm: hyper-parameters and pure functions on flat float32 vectors.

    To write a new algorithm, derive a frozen dataclass (``kw_only=True``) in a file of its own, give it a ``name``,
    declare its hyper-parameters as fields with the paper's defaults, check them in ``validate``, and write three
    functions that together read like the paper:

    1. ``message``: what a worker sends after ``communication_period`` local steps (float32, as long as x);
    2. ``apply``: what the server does with it, in place, one shard of the vectors at a time;
    3. ``receive``: what the worker does with the answer, in place.

    A rule whose workers take the center as their x, or send their update since they last did, derives from
    ``CenterRule`` or ``UpdateRule`` (``rules.updates``) and often needs ``apply`` alone. Describe each field in the
    docstring's section "Parameters": ``rules.describe`` reads it there.

    Then add the class to ``rules.registry`` and one row to ``tests/rules/test_common.py``;
    docs/adding-an-algorithm.md walks through one.

    Notation, as in arXiv 1412.6651: x holds the n parameters of one worker, ``center`` those of the server, p is the
    number of workers, tau the communication period. A rule knows no socket, no Spark and no Keras.

    Who guarantees what:

    - The server holds the lock of the shard while ``apply`` runs, so a shard is read and changed in one atomic step.
      Shards of one message may interleave with those of other workers; ``apply`` must therefore work element by
      element and keep nothing between shards except in ``state``.
    - A synchronous rule's workers meet: ``apply`` runs once a round, with the mean of their messages (summed in the
      order of the workers' numbers, so that a run repeats bit for bit), and all of them get the same answer.
    - ``message`` values reach ``apply`` finite and in the right shape.
    - Of an asynchronous rule ``answer`` is the message's own memory: ``apply`` has read the message before it writes
      the answer.
    - Neither ``message``, ``apply`` nor ``receive`` should allocate: they run at every exchange. Write with ``out=``,
      into vectors that ``worker_state`` made.
    - Worker and server state are dictionaries of arrays made once, by ``worker_state`` and ``server_state``. Server
      state has the center's length; the server slices it along the shards.
    """

    name: ClassVar[str]
    synchronous: ClassVar[bool] = False
    """Whether the workers meet at the server, which then applies the mean of their messages once a round."""
    local: ClassVar[str] = "steps"
    """What a worker does between two exchanges: "steps", tau steps of its own optimizer on x; "gradients", the
    gradient of one batch at x, which is the message's x (the server makes the step); "averaged_gradients", the same,
    and the answer is a gradient with which the worker's own optimizer makes the step; "pieces", gradients of pieces of
    the data at vectors that the driver asks for, without messages (Sandblaster)."""
    exchanging: ClassVar[bool] = True
    """Whether workers exchange messages at all before they hand over their last vector."""
    default_result: ClassVar[str] = "mean"
    """Which vector is the run's result when the user does not say: "mean" of the workers' last vectors, "center" (as
    ``published`` gives it), "ema" of the center, or "ensemble", all of the workers' last vectors."""
    wire: ClassVar[str] = "dense"
    """How messages travel: "dense", or "ternary" when every value of a message is -t, 0 or t, with one t a message."""
    whole_vectors: ClassVar[bool] = False
    """Whether what was learnt survives an exchange only in x and the center as they travelled: then a wire of few
    digits loses all steps that are smaller than its rounding, again and again, and training stalls."""
    lookahead: ClassVar[bool] = False
    """Whether x is to be the paper's x of Nesterov's method, not the look-ahead point that Keras' SGD keeps."""

    only_period: ClassVar[int | str | None] = None
    """The one communication period of an algorithm that has no choice."""

    communication_period: int | str = BY_WORKERS
    """tau: local steps between two exchanges; "by_workers" for those that ``period_for`` has for p; "epoch" or "fit"
    for one exchange an epoch or at the end; "auto" for as many as keep exchanging within a share of the time
    (asynchronous rules)."""

    def __post_init__(self):
        self._period()
        self.validate()

    def validate(self) -> None:
        """Check the hyper-parameters; raise ConfigError for one that is wrong."""

    def for_workers(self, workers: int) -> Self:
        """The same rule for p workers, with each hyper-parameter that depends on p made a number.

        Raises ConfigError when the rule cannot have so many workers.
        """
        if self.communication_period != BY_WORKERS:
            return self
        return dataclasses.replace(self, communication_period=period_for(workers))

    def optimizer(self, setting: dict[str, Any]) -> dict[str, Any]:
        """The local optimizer, given the user's (``{"name": "adam", "learning_rate": ...}``): most rules take any."""
        return setting

    def worker_state(self, x: np.ndarray) -> Arrays:
        """Arrays a worker keeps between exchanges, made when it has taken the center as its x."""
        return {}

    def server_state(self, center: np.ndarray) -> Arrays:
        """Vectors the server keeps beside the center, each of the center's shape; changed by ``apply``."""
        return {}

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        """What the worker sends: float32 of x's shape. It may be x itself and must stay as it is until the answer.

        ``steps`` is the number of local steps since the last exchange; less than tau at the end of an epoch. For
        ``local`` "gradients" and "averaged_gradients", ``x`` is the gradient.
        """
        return x

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        """Work one shard of a message into the center and fill the answer; all arrays are slices of equal length.

        Of an asynchronous rule ``message`` and ``answer`` are one array.
        """
        raise NotImplementedError

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        """Work the server's answer into the worker's x, in place.

        x is as ``message`` saw it: where an exchange overlaps with local steps, this works on a copy, and the change
        that it makes is added to the x that has moved on. Not called for "averaged_gradients".
        """
        raise NotImplementedError

    def published(self, center: np.ndarray, state: Arrays) -> np.ndarray:
        """What result "center" publishes: the center, or the vector of the server's state that stands for it."""
        return center

    def to_config(self) -> dict[str, Any]:
        """Name and hyper-parameters as plain values; ``rule_from_config`` reads them back."""
        return {"name": self.name, **dataclasses.asdict(self)}

    # Checks that rules share. Fields are frozen, so a value that is normalised (a NumPy integer) goes in this way.

    def _period(self) -> None:
        if self.only_period is not None:
            if isinstance(self.communication_period, bool) or self.communication_period != self.only_period:
                raise self._wrong("communication_period", f"{self.only_period!r}, its only value")
            object.__setattr__(self, "communication_period", self.only_period)
            return
        words = (BY_WORKERS, "epoch", "fit") if self.synchronous else (BY_WORKERS, "auto", "epoch", "fit")
        if isinstance(self.communication_period, str) and self.communication_period in words:
            return
        wanted = "a whole number of at least 1, or " + " or ".join(f'"{word}"' for word in words)
        self._integer("communication_period", at_least=1, wanted=wanted)

    def _integer(self, field: str, *, at_least: int, wanted: str = "") -> None:
        value = getattr(self, field)
        wanted = wanted or f"a whole number of at least {at_least}"
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise self._wrong(field, wanted) from None
        if number < at_least:
            raise self._wrong(field, wanted)
        object.__setattr__(self, field, number)

    def _real(
        self,
        field: str,
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float,
        or_else: str = "",
    ) -> None:
        value = getattr(self, field)
        lower = f"above {above:g}" if at_least is None else f"of at least {at_least:g}"
        wanted = f"a number {lower} and at most {at_most:g}{or_else}"
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise self._wrong(field, wanted)
        inside = value > above if at_least is None else value >= at_least
        if not (math.isfinite(value) and inside and value <= at_most):
            raise self._wrong(field, wanted)
        object.__setattr__(self, field, float(value))

    def _wrong(self, field: str, wanted: str) -> ConfigError:
        return ConfigError(
            f"algorithm {self.name}: {field} must be {wanted}, not {getattr(self, field)!r}",
            f"set algorithm.{field} in the pipeline file, or leave it out for the default",
        )
