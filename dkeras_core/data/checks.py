"""Raw columns turned into typed ones, and counted in one pass.

:func:`typed` gives every row what it needs to be judged, and :func:`count` goes over all rows once. Whether the counts
show a mistake is for :mod:`.mistakes` to say.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.data.features import canonical
from dkeras_core.data.schema import Columns
from dkeras_core.data.source import CORRUPT, Source
from dkeras_core.data.split import TRAIN, key_hash, split_of
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY, LABEL, WEIGHT, SPLIT, HASH = "__key", "__label", "__weight", "__split", "__hash"
CLASSES = {"positive": 1.0, "negative": 0.0}


@dataclass
class Counts:
    """Counts of rows: ``rows[split, label]`` and ``weight[split, label]`` with label 1.0, 0.0 or None (neither).

    ``bad`` is the number of rows with a value that cannot be, ``missing`` the number of missing values by feature in
    the training split, ``duplicates`` the number of rows whose key stood in an earlier row.
    """

    rows: dict[tuple[str, float | None], int] = field(default_factory=lambda: defaultdict(int))
    weight: dict[tuple[str, float | None], float] = field(default_factory=lambda: defaultdict(float))
    missing: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bad: int = 0
    duplicates: int = 0

    def of_split(self, split: str) -> int:
        return sum(n for (where, _), n in self.rows.items() if where == split)

    def of_class(self, label: float | None) -> int:
        return sum(n for (_, which), n in self.rows.items() if which == label)

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def quoted(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.col("`" + name.replace("`", "``") + "`")


def text(name: str) -> Column:
    """Return a column as text; blank is null."""
    from pyspark.sql import functions as F

    trimmed = F.trim(quoted(name).cast("string"))
    return F.when(trimmed != "", trimmed)


def canonical_text(source: Source, name: str) -> Column:
    """The SQL twin of :func:`dkeras_core.data.features.canonical`."""
    from pyspark.sql import functions as F

    if source.frame.schema[name].dataType.typeName() in ("double", "float"):
        value = quoted(name)
        whole = (value == F.floor(value)) & (F.abs(value) < 1e15)
        return F.when(whole, value.cast("bigint").cast("string")).otherwise(text(name))
    return F.regexp_replace(text(name), r"^([+-]?[0-9]+)\.0+$", "$1")


def number(name: str) -> Column:
    """Return a column as double, in which text that is no number becomes NaN and is refused like NaN itself."""
    from pyspark.sql import functions as F

    return F.coalesce(F.expr(f"try_cast(`{name}` AS DOUBLE)"), F.when(quoted(name).isNotNull(), float("nan")))


def typed(source: Source, columns: Columns, pipeline: Pipeline) -> DataFrame:
    """Return key (text), label (1.0, 0.0 or null), weight, split, hash, whether the line fits, and the features.

    Numeric features stay as they are in the input, with the marker of missing values; categorical ones become text.

    Raises
    ------
    DataError : a column is of a type that is neither number nor text.
    """
    from pyspark.sql import functions as F

    _check_types(source, columns)
    schema = pipeline.schema_
    label = canonical_text(source, columns.label)
    key = canonical_text(source, columns.key)
    hashed = key_hash(key, pipeline.split)
    corrupt = quoted(CORRUPT).isNotNull() if CORRUPT in source.frame.columns else F.lit(False)
    return source.frame.select(
        key.alias(KEY),
        F.when(label == canonical(schema.positive), 1.0).when(label == canonical(schema.negative), 0.0).alias(LABEL),
        (number(columns.weight) if columns.weight else F.lit(1.0)).alias(WEIGHT),
        split_of(hashed, pipeline.split).alias(SPLIT),
        hashed.alias(HASH),
        corrupt.alias(CORRUPT),
        *(number(name).alias(name) for name in columns.numeric),
        *(canonical_text(source, name).alias(name) for name in columns.categorical),
    )


def _is_bad(columns: Columns) -> Column:
    """Return whether a typed row holds something that cannot be: one sum over all numbers, which bad ones make NaN."""
    from pyspark.sql import functions as F

    zero = F.lit(0.0)
    numbers = [F.coalesce(quoted(name), zero) * zero for name in columns.numeric]
    total = reduce(lambda a, b: a + b, numbers, F.coalesce(quoted(WEIGHT), F.lit(float("nan"))) * zero)
    return F.isnan(total) | quoted(KEY).isNull() | quoted(CORRUPT)


def _check_types(source: Source, columns: Columns) -> None:
    for name in columns.all:
        kind = source.frame.schema[name].dataType.typeName()
        if kind in ("array", "map", "struct", "binary", "date", "timestamp", "timestamp_ntz", "variant", "interval"):
            raise DataError(
                f"{source.name}: column {name!r} is of type {kind}, which is neither number nor text",
                "drop it in the pipeline file, or turn it into numbers in a SQL file",
            )


def count(rows: DataFrame, columns: Columns, missing: float | None) -> Counts:
    """Read all rows once and count them by split and class."""
    from pyspark.sql import functions as F

    def absent(name: str) -> Column:
        value = quoted(name)
        marked = value == missing if missing is not None and name in columns.numeric else F.lit(False)
        return F.count_if(value.isNull() | marked)

    found = Counts()
    grouped = rows.groupBy(SPLIT, LABEL).agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum(WEIGHT).alias("weight"),
        F.count_if(_is_bad(columns)).alias("bad"),
        *(absent(name).alias(f"missing {i}") for i, name in enumerate(columns.features)),
    )
    for row in grouped.collect():
        where = row[SPLIT], row[LABEL]
        found.rows[where] += row["rows"]
        found.weight[where] += row["weight"] or 0.0
        found.bad += row["bad"]
        if row[SPLIT] == TRAIN:
            for i, name in enumerate(columns.features):
                found.missing[name] += row[f"missing {i}"]
    repeated = rows.groupBy(HASH).count().where("count > 1").agg(F.sum(F.col("count") - 1)).first()[0]
    found.duplicates = repeated or 0
    return found
