"""The fitted feature pipeline in NumPy: raw rows -> the float32 matrix a model was trained on, without Spark.

The numbers come from the Spark ML pipeline that was fitted on the training split (:mod:`.spark_features`), and give
the same results. Each numeric feature x becomes (x - mean) / deviation, where a missing x is replaced first.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dkeras_core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
_WHOLE = re.compile(r"^([+-]?[0-9]+)\.0+$")


def canonical(value: Any) -> str:
    """Return a label or category as text; a whole number has no fraction, so 2, 2.0 and "2.0" are the same."""
    if isinstance(value, float | np.floating) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return _WHOLE.sub(r"\1", str(value).strip())


@dataclass(frozen=True)
class FeaturePipeline:
    """The fitted numbers of the preprocessing.

    Parameters
    ----------
    numeric : names of the numeric input columns.
    fill : value in place of a missing one, for each of them.
    mean, scale : subtracted, then multiplied with (1 / standard deviation, 0 for a constant feature); both None
        when features are not standardised.
    missing : the marker of missing values, besides null; None when there is none.
    indicators : numeric columns for which a feature says 1 where the value is missing, else 0.
    categories : for each categorical column its known values; each becomes a feature that is 0 or 1. An unseen or
        missing value makes all of them 0.
    """

    numeric: tuple[str, ...]
    fill: tuple[float, ...]
    mean: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    missing: float | None
    indicators: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]

    @property
    def columns(self) -> list[str]:
        """Names of the input columns that :meth:`transform` needs."""
        return [*self.numeric, *self.categories]

    @property
    def names(self) -> list[str]:
        """Names of the output features: numeric ones, then indicators, then one for each category."""
        return [
            *self.numeric,
            *(f"{name}_missing" for name in self.indicators),
            *(f"{name}={value}" for name, values in self.categories.items() for value in values),
        ]

    @classmethod
    def load(cls, path: str | os.PathLike) -> FeaturePipeline:
        """Read a local features.json."""
        with open(path, encoding="utf-8") as file:
            return cls.from_json(file.read())

    @classmethod
    def from_json(cls, value: str | bytes | dict[str, Any]) -> FeaturePipeline:
        """Return the pipeline that :meth:`to_json` described; DataError when the text is damaged."""
        try:
            data = json.loads(value) if isinstance(value, str | bytes) else value
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']} instead of {FORMAT}")
            standard = data["mean"] is not None
            return cls(
                tuple(data["numeric"]),
                tuple(data["fill"]),
                tuple(data["mean"]) if standard else None,
                tuple(data["scale"]) if standard else None,
                data["missing"],
                tuple(data["indicators"]),
                {name: tuple(values) for name, values in data["categories"].items()},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"features.json cannot be used: {type(error).__name__} {error}",
                "take the file of the same model version, written by this version of the bundle",
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values that hold all numbers exactly."""
        return {
            "format": FORMAT,
            "names": self.names,
            "numeric": list(self.numeric),
            "fill": list(self.fill),
            "mean": None if self.mean is None else list(self.mean),
            "scale": None if self.scale is None else list(self.scale),
            "missing": self.missing,
            "indicators": list(self.indicators),
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    def transform(self, rows: Any) -> np.ndarray:
        """Return the features float32 [n, d] of raw rows.

        Parameters
        ----------
        rows : pyarrow Table or RecordBatch, pandas DataFrame, or mapping of column name to n values. Further columns
            are ignored. Missing is null, an empty text, or the marker; in pandas, which knows no other null, also NaN.

        Raises
        ------
        DataError : a column is missing, or holds NaN, an infinite value or text that is no number; it is named.
        """
        table = _as_arrow(rows, self.columns)
        n = table.num_rows
        result = np.zeros((n, len(self.names)), np.float32)
        position = len(self.numeric)
        for j, name in enumerate(self.numeric):
            values, missing = self._numeric(table.column(name), name)
            values[missing] = self.fill[j]
            if self.mean is not None:
                values = (values - self.mean[j]) * self.scale[j]
            result[:, j] = values
            if name in self.indicators:
                result[:, position + self.indicators.index(name)] = missing
        position += len(self.indicators)
        for name, known in self.categories.items():
            codes = _codes(table.column(name), known)
            seen = np.flatnonzero(codes >= 0)
            result[seen, position + codes[seen]] = 1.0
            position += len(known)
        return result

    def _numeric(self, column: pa.Array | pa.ChunkedArray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 values [n] and where they are missing [n]."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        try:
            column = pc.cast(column, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"feature {name!r} holds a value that is no number: {error}", "correct the rows to be scored"
            ) from error
        missing = np.asarray(column.is_null())
        # A chunked array gives NumPy a read-only view where a copy is asked for.
        values = np.array(np.asarray(column.fill_null(0.0) if missing.any() else column), np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(
                f"feature {name!r} holds {values[bad[0]]} in {bad.size:,} of {values.size:,} rows "
                f"(first in row {bad[0]})",
                "correct these rows, or mark a missing value as null"
                + (f" or {self.missing}" if self.missing is not None else ""),
            )
        return values, missing if self.missing is None else missing | (values == self.missing)


def _as_arrow(rows: Any, columns: list[str]) -> pa.Table | pa.RecordBatch:
    import pyarrow as pa

    arrow = isinstance(rows, pa.Table | pa.RecordBatch)
    there = rows.schema.names if arrow else list(rows.keys())
    absent = [name for name in columns if name not in there]
    if absent:
        raise DataError(
            f"the rows to be scored have no column {', '.join(map(repr, absent[:5]))}"
            + (f" and {len(absent) - 5} more" if len(absent) > 5 else ""),
            f"give all {len(columns)} columns that the model was trained on",
        )
    if arrow:
        return rows.select(columns)
    # A pandas column turns its NaN into nulls, a NumPy array or list keeps them.
    frame = not isinstance(rows, Mapping)
    return pa.table({name: pa.array(rows[name], from_pandas=frame) for name in columns})


def _codes(column: pa.Array | pa.ChunkedArray, known: tuple[str, ...]) -> np.ndarray:
    """Return the index of each value in ``known``, -1 where it is unseen or missing."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    position = {value: i for i, value in enumerate(known)}
    table = [-1 if value is None else position.get(canonical(value), -1) for value in encoded.dictionary.to_pylist()]
    indices = np.asarray(encoded.indices.fill_null(len(table)), np.int64)
    return np.array([*table, -1], np.int64)[indices]
