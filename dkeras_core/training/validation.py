"""Rows that the driver holds to see during the training how good the center is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dkeras_core.data.arrow import to_rows
from dkeras_core.data.columns import Column
from dkeras_core.errors import DataError

LIMIT = 20_000
"""Rows held at most, unless asked otherwise: the standard error of an accuracy is then below 0.4 points."""
BYTES = 512 << 20
"""What the rows may take at most, whatever was asked for: the driver's memory is sized without them."""


@dataclass(frozen=True)
class Validation:
    """Rows as arrays, and what is measured on them.

    Parameters
    ----------
    x, y : array [rows, ...], or a tuple of arrays for several inputs or outputs
    weights : array [rows] or None
        Sample weights.
    metrics : sequence
        What ``keras.Model.compile`` takes as metrics, beside the loss.
    batch_size : int
        Rows in the model at once; bounds the memory of the activations.

    Raises DataError when there is no row or the arrays differ in length.
    """

    x: Any
    y: Any
    weights: np.ndarray | None = None
    metrics: Sequence[Any] = ()
    batch_size: int = 4096

    def __post_init__(self):
        lengths = {len(array) for array in (*_arrays(self.x), *_arrays(self.y), *_arrays(self.weights))}
        if len(lengths) != 1 or not lengths.pop():
            raise DataError(
                "the validation rows are empty or their columns differ in length",
                "hold back more rows for validation, or train without it",
            )

    @property
    def rows(self) -> int:
        return len(_arrays(self.x)[0])

    def first(self, rows: int) -> Validation:
        """The same with the first ``rows`` only."""
        x, y, weights = (_one_or_all([a[:rows] for a in _arrays(value)]) for value in (self.x, self.y, self.weights))
        return replace(self, x=x, y=y, weights=weights)

    @classmethod
    def from_batches(
        cls,
        batches: Iterable,
        inputs: Sequence[Column],
        labels: Sequence[Column],
        weight: str | None = None,
        *,
        limit: int = LIMIT,
        seed: int = 1,
        metrics: Sequence[Any] = (),
    ) -> Validation:
        """Draw at most ``limit`` rows (and at most 512 MiB), each with the same chance, from Arrow batches.

        Raises DataError as the workers' spool does (missing column, null, ragged or non-finite value), and when there
        is no row at all.
        """
        # Sparse columns are held dense: few rows are, and every evaluation needs them
        columns = [replace(c, sparse=False) for c in (*inputs, *labels, *([Column(weight)] if weight else []))]
        row_bytes = sum(column.row_bytes for column in columns)
        limit = max(1, min(limit, BYTES // row_bytes))
        random = np.random.default_rng(seed)
        kept: list[np.ndarray] = []
        keys = np.empty(0)
        seen = 0
        for batch in _pieces(batches, max(1, BYTES // 32 // row_bytes)):
            blocks = [to_rows(batch, column, seen) for column in columns]
            seen += batch.num_rows
            # The rows with the smallest of independent random keys are a uniform sample of all that have come
            drawn = random.random(batch.num_rows)
            wanted = np.flatnonzero(drawn < np.max(keys)) if len(keys) == limit else np.arange(batch.num_rows)
            keys = np.concatenate([keys, drawn[wanted]])
            if not kept:
                kept = [block[:0] for block in blocks]
            kept = [np.concatenate([old, block[wanted]]) for old, block in zip(kept, blocks, strict=True)]
            if len(keys) > limit:
                stay = np.argpartition(keys, limit)[:limit]
                keys, kept = keys[stay], [array[stay] for array in kept]
        if not len(keys):
            raise DataError("there are no validation rows", "hold back more rows for validation, or train without it")
        weights = kept.pop() if weight else None
        x, y = kept[: len(inputs)], kept[len(inputs) :]
        return cls(_one_or_all(x), _one_or_all(y), weights, metrics)


def _pieces(batches: Iterable, rows: int) -> Iterator:
    """The same rows in smaller batches: a batch of wide sparse rows would take gigabytes once it is dense."""
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _arrays(value: Any) -> tuple:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _one_or_all(arrays: list[np.ndarray]):
    return tuple(arrays) if len(arrays) > 1 else arrays[0] if arrays else None
