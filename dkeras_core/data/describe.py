"""A first look at a local CSV file, in one pass and the memory of one block."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkeras_core.data.higgs import side_car
from dkeras_core.errors import DataError


@dataclass
class ColumnSummary:
    """Range, mean and number of missing values of a column; None for text and where all is missing."""

    name: str
    missing: int = 0
    count: int = 0
    total: float = 0.0
    smallest: float | None = None
    largest: float | None = None

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass
class Description:
    """``classes``: label -> (rows, sum of the weights or None); ``synthetic``: the side-car file's facts, if any."""

    rows: int = 0
    columns: list[ColumnSummary] = field(default_factory=list)
    classes: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    synthetic: dict[str, Any] | None = None


def describe(path: str | Path, label: str, weight: str, missing: float) -> Description:
    """Describe a CSV file; columns ``label`` and ``weight`` may be absent.

    Raises
    ------
    DataError : no such file, no rows, or not CSV (with the line).
    """
    import pyarrow as pa
    import pyarrow.csv

    path = Path(path)
    result = Description(synthetic=_facts(path))
    classes: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    try:
        for batch in pyarrow.csv.open_csv(path):
            if not result.columns:
                result.columns = [ColumnSummary(name) for name in batch.schema.names]
            result.rows += batch.num_rows
            for summary, column in zip(result.columns, batch.columns, strict=True):
                _add(summary, column, missing)
            if label in batch.schema.names:
                _add_classes(classes, batch, label, weight if weight in batch.schema.names else None)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", "check that the file is whole, and is CSV") from error
    if not result.rows:
        raise DataError(f"{path} holds a header and no rows", "copy the file again from its source")
    weighted = any(column.name == weight for column in result.columns)
    result.classes = {name: (int(n), total if weighted else None) for name, (n, total) in classes.items()}
    return result


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(side_car(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("synthetic") else None


def _add(summary: ColumnSummary, column, missing: float) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = len(column)
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if numeric:
        column = column.filter(pc.fill_null(pc.not_equal(column, missing), False))
    present = len(column) - column.null_count
    summary.missing += rows - present
    if numeric and present:
        low, high = pc.min_max(column).as_py().values()
        summary.smallest = low if summary.smallest is None else min(summary.smallest, low)
        summary.largest = high if summary.largest is None else max(summary.largest, high)
        summary.total += pc.sum(column).as_py()
        summary.count += present


def _add_classes(classes, batch, label: str, weight: str | None) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.cast(batch.column(label), pa.string())
    weights = batch.column(weight) if weight else pa.nulls(batch.num_rows, pa.float64())
    table = pa.table({"label": values, "weight": weights}).group_by("label")
    for row in table.aggregate([("label", "count"), ("weight", "sum")]).to_pylist():
        entry = classes[row["label"]]
        entry[0] += row["label_count"]
        entry[1] += row["weight_sum"] or 0.0
