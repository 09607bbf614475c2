"""The contract between a distributed algorithm and everything that carries it."""

from __future__ import annotations

import dataclasses
import math
import operator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from dkeras_core.errors import ConfigError

Arrays = dict[str, np.ndarray]


class Arrival(NamedTuple):
    """What the server knows about a message when it applies one shard of it.

    worker : number of the sender, 0 to p - 1.
    exchanges : exchanges that were applied to this shard before.
    staleness : how many of those came after the sender last saw this shard.
    """

    worker: int
    exchanges: int
    staleness: int


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A distributed algorithm: hyper-parameters and pure functions on flat float32 vectors.

    To write a new algorithm, derive a frozen dataclass (``kw_only=True``) in a file of its own, give it a ``name``,
    declare its hyper-parameters as fields with the paper's defaults, check them in ``validate``, and write three
    functions that together read like the paper:

    1. ``message``: what a worker sends after ``communication_period`` local steps (float32, as long as x);
    2. ``apply``: what the server does with it, in place, one shard of the vectors at a time;
    3. ``receive``: what the worker does with the answer, in place.

    Then add the class to ``rules.registry`` and one row to ``tests/rules/test_common.py``.

    Notation, as in arXiv 1412.6651: x holds the n parameters of one worker, ``center`` those of the server, p is the
    number of workers, tau the communication period. A rule knows no socket, no Spark and no Keras.

    Who guarantees what:

    - The server holds the lock of the shard while ``apply`` runs, so a shard is read and changed in one atomic step.
      Shards of one message may interleave with those of other workers; ``apply`` must therefore work element by
      element and keep nothing between shards except in ``state``.
    - ``message`` values reach ``apply`` finite and in the right shape.
    - Neither ``apply`` nor ``receive`` should allocate: they run at every exchange. Write with ``out=``.
    - Worker and server state are dictionaries of vectors made once, by ``worker_state`` and ``server_state``. Server
      state has the center's length; the server slices it along the shards.
    """

    name: ClassVar[str]
    synchronous: ClassVar[bool] = False
    """Whether the workers meet at the server; the server asks this before it accepts a rule."""

    communication_period: int = 10
    """tau: local steps between two exchanges."""

    def __post_init__(self):
        self._integer("communication_period", at_least=1)
        self.validate()

    def validate(self) -> None:
        """Check the hyper-parameters; raise ConfigError for one that is wrong."""

    def for_workers(self, workers: int) -> Self:
        """The same rule for p workers, with each hyper-parameter that depends on p made a number."""
        return self

    def worker_state(self, x: np.ndarray) -> Arrays:
        """Vectors a worker keeps between exchanges, made when it has taken the center as its x."""
        return {}

    def server_state(self, center: np.ndarray) -> Arrays:
        """Vectors the server keeps beside the center, each of the center's shape; changed by ``apply``."""
        return {}

    def message(self, x: np.ndarray, state: Arrays) -> np.ndarray:
        """What the worker sends: float32 of x's shape. It may be x itself and must stay as it is until the answer."""
        return x

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        """Work one shard of a message into the center and fill the answer; all arrays are slices of equal length."""
        raise NotImplementedError

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        """Work the server's answer into the worker's x, in place."""
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        """Name and hyper-parameters as plain values; ``rule_from_config`` reads them back."""
        return {"name": self.name, **dataclasses.asdict(self)}

    # Checks that rules share. Fields are frozen, so a value that is normalised (a NumPy integer) goes in this way.

    def _integer(self, field: str, *, at_least: int) -> None:
        value = getattr(self, field)
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise self._wrong(field, f"a whole number of at least {at_least}") from None
        if number < at_least:
            raise self._wrong(field, f"a whole number of at least {at_least}")
        object.__setattr__(self, field, number)

    def _real(self, field: str, *, above: float, at_most: float, or_else: str = "") -> None:
        value = getattr(self, field)
        wanted = f"a number above {above:g} and at most {at_most:g}{or_else}"
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise self._wrong(field, wanted)
        if not (math.isfinite(value) and above < value <= at_most):
            raise self._wrong(field, wanted)
        object.__setattr__(self, field, float(value))

    def _wrong(self, field: str, wanted: str) -> ConfigError:
        return ConfigError(
            f"algorithm {self.name}: {field} must be {wanted}, not {getattr(self, field)!r}",
            f"set algorithm.{field} in the pipeline file, or leave it out for the default",
        )
