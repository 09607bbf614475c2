"""Epochs over a spool: shuffled batches in windows of tau, every row exactly once, without a loop over rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from dkeras_core.data.shuffle import gather, shuffled
from dkeras_core.data.spool import Spool
from dkeras_core.errors import ConfigError, DataError, TrainingError

_DEADLINE = 300  # seconds for a window to be read from the local disk
_SMALL = 256 << 10  # bytes of a window that are gathered at least as fast as a thread hands them over


class Window(NamedTuple):
    """k batches of b rows for one exchange: arrays ``[k, b, ...]``; several inputs or outputs are a tuple of arrays.

    The arrays are buffers of the feed, valid until the next window is asked for.
    """

    features: np.ndarray | tuple[np.ndarray, ...]
    labels: np.ndarray | tuple[np.ndarray, ...]
    weights: np.ndarray | None

    @property
    def steps(self) -> int:
        return self._first.shape[0]

    @property
    def rows(self) -> int:
        return self._first.shape[0] * self._first.shape[1]

    @property
    def _first(self) -> np.ndarray:
        return self.features[0] if isinstance(self.features, tuple) else self.features


class Feed:
    """Shuffled windows over a sealed spool.

    An epoch is: full windows [tau, b, ...], at most one short window [k < tau, b, ...], at most one partial batch
    [1, r < b, ...]. The order depends on (seed, epoch) alone.

    Rows that fit into ``memory`` bytes are permuted as a whole. Of larger data, blocks of neighbouring rows are
    permuted, read one after the other into a buffer of that size, and permuted within it, so that the disk is read
    in long stretches; rows left over by one buffer join the next.

    Parameters
    ----------
    spool : Spool
        Sealed.
    batch_size, communication_period : int
        b and tau.
    seed : int
        Workers take different seeds.
    features, label : str or sequence of str
        Names of the spool's columns. A sequence becomes a tuple of arrays, for models with several inputs or outputs;
        a column may be both input and label.
    weight : str or None
        The column of sample weights.
    memory : int
        Bytes of the shuffle buffer.
    prefetch : int, optional
        Windows gathered ahead by a thread, fewer where all windows together would take more than ``memory``; 0
        gathers in the calling thread. When left out: 0 for small windows of rows that fit into ``memory``, else 2.

    Raises
    ------
    ConfigError
        A size below 1, no input or no label, or ``memory`` too small for one window.
    DataError
        The spool has no row, or not these columns.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        batch_size: int = 32,
        communication_period: int = 10,
        seed: int = 0,
        features: str | Sequence[str] = "features",
        label: str | Sequence[str] = "label",
        weight: str | None = None,
        memory: int = 256 << 20,
        prefetch: int | None = None,
    ):
        if batch_size < 1 or communication_period < 1 or (prefetch or 0) < 0:
            raise ConfigError(
                f"batch size {batch_size} and communication period {communication_period} must be at least 1, "
                f"prefetch {prefetch} at least 0"
            )
        groups = [_names(features), _names(label), [weight] if weight else []]
        if not groups[0] or not groups[1]:
            raise ConfigError("a feed needs at least one input column and one label column")
        names = [name for group in groups for name in group]
        missing = [name for name in names if name not in spool.arrays]
        if missing:
            raise DataError(f"the spool has no column {missing[0]!r}; it has {', '.join(spool.arrays)}")
        if spool.rows == 0:
            raise DataError("the spool holds no rows", "use fewer workers than there are rows")
        self.rows = spool.rows
        self.batch_size = batch_size
        self.communication_period = communication_period
        self._spool = spool
        self._columns = [spool.arrays[name] for name in names]
        self._inputs = len(groups[0])
        self._single = isinstance(features, str), isinstance(label, str)
        self._weighted = weight is not None
        self._seed = seed
        window = batch_size * communication_period * sum(_dense_row_bytes(a) for a in self._columns)
        self._rows_in_memory = memory // max(sum(a.nbytes // a.shape[0] for a in self._columns), 1)
        if prefetch is None:
            prefetch = 0 if window <= _SMALL and self.rows <= self._rows_in_memory else 2
        self._prefetch = min(prefetch, max(memory // max(window, 1) - 1, 0))
        if self.rows > self._rows_in_memory < 2 * batch_size * communication_period:
            raise ConfigError(
                f"{memory} bytes of shuffle buffer hold {self._rows_in_memory} rows, two windows are "
                f"{2 * batch_size * communication_period}",
                "give the feed more memory, or choose a smaller batch or communication period",
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch, the partial one included."""
        return -(-self.rows // self.batch_size)

    def windows(self, epoch: int, first: int | None = None) -> Iterator[Window]:
        """Yield the windows of one epoch.

        Parameters
        ----------
        epoch : int
        first : int, optional
            Batches that the first window holds at most, 1 to the communication period, which is the default: with the
            rest of the last epoch it makes a full one. The order of the rows does not depend on it while they fit into
            memory.

        Raises
        ------
        ConfigError
            ``first`` is out of its range.
        TrainingError
            At the end, should the rows handed out differ from the rows of the spool.
        """
        first = self.communication_period if first is None else first
        if not 1 <= first <= self.communication_period:
            raise ConfigError(f"the first window must hold 1 to {self.communication_period} batches, not {first}")
        with closing(
            self._ahead(epoch, first) if self._prefetch else self._gathered(epoch, first, self._buffers())
        ) as windows:
            rows = 0
            for window in windows:
                rows += window.rows
                yield window
        if rows != (expected := self._rows_in(epoch)):
            raise TrainingError(f"epoch {epoch} handed out {rows} rows of {expected}")

    def _rows_in(self, epoch: int) -> int:
        return self.rows

    def _buffers(self) -> list[np.ndarray]:
        shape = (self.communication_period * self.batch_size,)
        return [np.empty(shape + a.shape[1:], a.dtype) for a in self._columns]

    def _gathered(self, epoch: int, first: int, buffers) -> Iterator[Window]:
        """Yield windows; ``buffers`` is one set of buffers, or a function that returns a free set."""
        batch, full = self.batch_size, self.batch_size * self.communication_period
        wanted = first * batch
        for source, order in self._shuffled(epoch, wanted):
            at = 0
            while at < len(order):
                rows = min(wanted, len(order) - at)
                wanted = full
                rows = rows - rows % batch or rows  # whole batches first, the partial one alone
                steps = max(rows // batch, 1)
                free = buffers() if callable(buffers) else buffers
                arrays = []
                for array, buffer in zip(source, free, strict=True):
                    gather(array, order[at : at + rows], buffer[:rows])
                    arrays.append(buffer[:rows].reshape(steps, rows // steps, *array.shape[1:]))
                yield self._window(arrays)
                at += rows

    def _window(self, arrays) -> Window:
        weights = arrays.pop() if self._weighted else None
        inputs, labels = tuple(arrays[: self._inputs]), tuple(arrays[self._inputs :])
        one_input, one_label = self._single
        return Window(inputs[0] if one_input else inputs, labels[0] if one_label else labels, weights)

    def _shuffled(self, epoch: int, first: int):
        random = np.random.default_rng([self._seed, epoch])
        full = self.batch_size * self.communication_period
        return shuffled(self._columns, random, self._rows_in_memory, full, first, self._spool.release)

    def _ahead(self, epoch: int, first: int) -> Iterator[Window]:
        """Yield the same windows, gathered by a thread that stays at most ``prefetch`` windows ahead."""
        sets = [self._buffers() for _ in range(self._prefetch + 1)]
        free: queue.SimpleQueue = queue.SimpleQueue()
        ready: queue.SimpleQueue = queue.SimpleQueue()
        in_use: list = []
        for buffers in sets:
            free.put(buffers)

        def taken():
            buffers = free.get()
            if buffers is None:
                raise _Stopped
            in_use.append(buffers)
            return buffers

        def gather():
            try:
                for window in self._gathered(epoch, first, taken):
                    ready.put(window)
                ready.put(None)
            except _Stopped:
                pass
            except BaseException as error:  # handed over: the consumer raises it
                ready.put(error)

        thread = threading.Thread(target=gather, name=f"feed-epoch-{epoch}", daemon=True)
        thread.start()
        try:
            while (window := self._next(ready)) is not None:
                if isinstance(window, BaseException):
                    raise window
                yield window
                free.put(in_use.pop(0))  # the consumer asked for the next one: this one may be overwritten
        finally:
            free.put(None)
            thread.join(_DEADLINE)

    def _next(self, ready):
        try:
            return ready.get(timeout=_DEADLINE)
        except queue.Empty:
            raise TrainingError(
                f"no rows came from the spool in {self._spool.folder} for {_DEADLINE} s", "check that disk"
            ) from None


def _dense_row_bytes(column) -> int:
    return int(np.prod(column.shape[1:], dtype=np.int64)) * column.dtype.itemsize


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


class _Stopped(Exception):
    """The consumer left before the end of the epoch."""
