"""The center: one flat vector in shards, each read and changed under its own lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.exchange.averages import TailAverage
from dkeras_core.exchange.frames import VECTOR, PeerError
from dkeras_core.rules import Arrival, Rule

SHARD = 256 * 1024
"""Values in one shard: 1 MiB. With longer ones the sessions hand the interpreter to each other less often; with shorter
ones a connection needs less memory, and over a network the answer to one travels while the next ones come."""
WHOLE = 448 * 1024
"""Values of the largest vector that is better not cut within one machine: 1.75 MiB, of 2 for a connection."""


class BadPush(PeerError):
    """A worker sent a vector that the center cannot take; as in every PeerError, ``what`` follows its name."""


class NotFinite(BadPush):
    """A worker sent a vector with a value that is NaN or infinite."""


def spans(size: int, shard: int) -> list[slice]:
    """Cut ``size`` values into shards of at most ``shard``."""
    return [slice(start, min(start + shard, size)) for start in range(0, size, shard)]


def best_shard(size: int, local: bool) -> int:
    """Values in a shard of a vector of ``size``; ``local`` of an asynchronous run within one machine."""
    return size if local and 0 < size <= WHOLE else SHARD


def check_finite(values: np.ndarray, offset: int, total: int) -> None:
    """Raise NotFinite, naming the element, when a value is NaN or infinite."""
    # NaN and infinity survive a sum, and einsum has the fastest one that allocates nothing and starts no threads.
    if np.isfinite(np.einsum("i->", values)):
        return
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:  # else only the sum is too large
        first = int(wrong[0])
        raise NotFinite(f"pushed a value that is not finite: element {offset + first} of {total} is {values[first]}")


class Center:
    """The server's vectors.

    Parameters
    ----------
    rule : Rule
        What an exchange does; already made for the number of workers.
    values : float32 array of shape (n,), n > 0
        Initial center; copied. Raises ConfigError for another shape, type, or a value that is not finite.
    workers : int
        p; the moving average takes a sample every max(16, p) exchanges, more often at the
        start; of a synchronous rule every round.
    shard : int
        Values in a shard.
    """

    def __init__(self, rule: Rule, values: np.ndarray, workers: int, shard: int = SHARD):
        self._rule = rule
        self.values = _checked(values)
        self.size = self.values.size
        self.shard = shard
        self.spans = spans(self.size, shard)
        parts = len(self.spans)
        self._locks = [threading.Lock() for _ in self.spans]
        self._counts = [0] * parts
        state = rule.server_state(self.values)
        self._state = [{name: vector[span] for name, vector in state.items()} for span in self.spans]
        self._tail = TailAverage(self.values, parts, 1 if rule.synchronous else max(16, workers))

    @property
    def exchanges(self) -> int:
        """Exchanges that have gone through all shards."""
        return self._counts[-1]

    def exchange(
        self,
        part: int,
        message: np.ndarray,
        worker: int,
        seen: int,
        as_sent: Callable[[np.ndarray], None],
    ) -> int:
        """Apply one shard of a worker's message, atomically, and put the answer in the message's place.

        ``seen`` is the count of exchanges on this shard when the worker last saw it; the new count is returned.
        ``as_sent`` is the rounding of ``Arrival``.
        Raises NotFinite, with the center unharmed, when the message holds a value that is not finite.
        """
        span = self.spans[part]
        check_finite(message, span.start, self.size)
        center = self.values[span]
        with self._locks[part]:
            count = self._counts[part]
            arrival = Arrival(worker, count, count - seen, 1, as_sent)
            # In one place they stay in the core's cache, and a connection needs half the memory.
            self._rule.apply(center, message, message, self._state[part], arrival)
            self._counts[part] = count + 1
            self._tail.update(part, span, center, count + 1)
        return count + 1

    def meet(
        self,
        part: int,
        messages: Sequence[np.ndarray],
        answer: np.ndarray,
        as_sent: Callable[[np.ndarray], None],
    ) -> None:
        """Apply the mean of one shard of several workers' messages and fill ``answer``, atomically.

        The messages are summed in their order, in the first one's place. Raises NotFinite, with the center unharmed,
        when the sum is not finite.
        """
        span, mean = self.spans[part], messages[0]
        with np.errstate(over="ignore"):  # found and told below
            for message in messages[1:]:
                np.add(mean, message, out=mean)
        if len(messages) > 1:
            check_finite(mean, span.start, self.size)
            np.divide(mean, np.float32(len(messages)), out=mean)
        center = self.values[span]
        with self._locks[part]:
            count = self._counts[part]
            self._rule.apply(center, mean, answer, self._state[part], Arrival(0, count, 0, len(messages), as_sent))
            self._counts[part] = count + 1
            self._tail.update(part, span, center, count + 1)

    def read(self, part: int, out: np.ndarray) -> int:
        """Copy one shard of the center into ``out``; return the count of exchanges on it."""
        with self._locks[part]:
            np.copyto(out, self.values[self.spans[part]])
            return self._counts[part]

    def replace(self, part: int, values: np.ndarray) -> None:
        """Put one shard, finite, of a new initial center in its place; ``restart`` follows the last one."""
        with self._locks[part]:
            self.values[self.spans[part]] = values
            self._tail.values[self.spans[part]] = values

    def restart(self) -> None:
        """Make the rule's server state anew from the center; nobody exchanges yet."""
        for name, vector in self._rule.server_state(self.values).items():
            for span, state in zip(self.spans, self._state, strict=True):
                state[name][:] = vector[span]

    def snapshot(self) -> tuple[np.ndarray, int]:
        """A copy of the center, each shard of one moment, and the exchanges it holds at least."""
        copy = np.empty_like(self.values)
        version = self.exchanges
        for part, span in enumerate(self.spans):
            self.read(part, copy[span])
        return copy, version

    def published(self) -> tuple[np.ndarray, int]:
        """A copy of what the rule publishes of the center, and the exchanges it holds at least."""
        copy = np.empty_like(self.values)
        version = self.exchanges
        for part, span in enumerate(self.spans):
            with self._locks[part]:
                np.copyto(copy[span], self._rule.published(self.values[span], self._state[part]))
        return copy, version

    def tail_average(self) -> np.ndarray:
        """The average of the center over about the last tenth of the exchanges; early on, the initial center."""
        copy = np.empty_like(self.values)
        for part, span in enumerate(self.spans):
            with self._locks[part]:
                np.copyto(copy[span], self._tail.values[span])
        return copy


def _checked(values: np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype != np.float32 or array.ndim != 1 or array.size == 0:
        raise ConfigError(
            f"the center must be a flat float32 vector, not {array.dtype} of shape {array.shape}",
            "take it from FlatModel.get(); a model without weights cannot be trained",
        )
    if not np.isfinite(array).all():
        raise ConfigError("the initial center holds NaN or infinite values", "check the model's initial weights")
    return array.astype(VECTOR, copy=True)
