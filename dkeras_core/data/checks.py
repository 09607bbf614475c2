"""Raw columns turned into typed ones, counted in one pass, and what is wrong with them said in words.

:func:`typed` adds to every row what it needs to be judged; :func:`count` reads all rows once and returns the counts
by split and class; :func:`refuse` raises if they show a mistake, and only then reads the input again to find an
example of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.data.features import canonical
from dkeras_core.data.schema import Columns
from dkeras_core.data.source import CORRUPT, Source, locate
from dkeras_core.data.split import SPLITS, TEST, TRAIN, VALIDATION, key_hash, split_of
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from dkeras_core.storage import Storage

KEY, LABEL, WEIGHT, SPLIT, HASH, BAD = "__key", "__label", "__weight", "__split", "__hash", "__bad"
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


def _quoted(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.col("`" + name.replace("`", "``") + "`")


def _text(name: str) -> Column:
    """Return a column as text; blank is null."""
    from pyspark.sql import functions as F

    trimmed = F.trim(_quoted(name).cast("string"))
    return F.when(trimmed != "", trimmed)


def _canonical_text(source: Source, name: str) -> Column:
    """The SQL twin of :func:`dkeras_core.data.features.canonical`."""
    from pyspark.sql import functions as F

    if source.frame.schema[name].dataType.typeName() in ("double", "float"):
        value = _quoted(name)
        whole = (value == F.floor(value)) & (F.abs(value) < 1e15)
        return F.when(whole, value.cast("bigint").cast("string")).otherwise(_text(name))
    return F.regexp_replace(_text(name), r"^([+-]?[0-9]+)\.0+$", "$1")


def _number(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.expr(f"try_cast(`{name}` AS DOUBLE)")


def typed(source: Source, columns: Columns, pipeline: Pipeline) -> DataFrame:
    """Return key (text), label (1.0, 0.0 or null), weight, split, hash, the features, and the first bad column.

    Numeric features stay as they are in the input, with the marker of missing values; categorical ones become text.

    Raises
    ------
    DataError : a column is of a type that is neither number nor text.
    """
    from pyspark.sql import functions as F

    _check_types(source, columns)
    schema = pipeline.schema_
    label = _canonical_text(source, columns.label)
    key = _canonical_text(source, columns.key)
    weight = _number(columns.weight) if columns.weight else F.lit(1.0)
    bad = [(key.isNull(), columns.key)]
    if CORRUPT in source.frame.columns:
        bad.insert(0, (_quoted(CORRUPT).isNotNull(), CORRUPT))
    if columns.weight:
        bad.append((~_finite(weight), columns.weight))
    bad += [(_text(name).isNotNull() & ~_finite(_number(name)), name) for name in columns.numeric]
    hashed = key_hash(key, pipeline.split)
    return source.frame.select(
        key.alias(KEY),
        F.when(label == canonical(schema.positive), 1.0).when(label == canonical(schema.negative), 0.0).alias(LABEL),
        weight.alias(WEIGHT),
        split_of(hashed, pipeline.split).alias(SPLIT),
        hashed.alias(HASH),
        F.coalesce(*(F.when(wrong, F.lit(name)) for wrong, name in bad)).alias(BAD),
        *(_number(name).alias(name) for name in columns.numeric),
        *(_canonical_text(source, name).alias(name) for name in columns.categorical),
    )


def _finite(value: Column) -> Column:
    from pyspark.sql import functions as F

    return F.coalesce(F.abs(value) < float("inf"), F.lit(False))  # false for null, and for NaN, Spark's greatest


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
        value = _quoted(name)
        marked = value == missing if missing is not None and name in columns.numeric else F.lit(False)
        return F.count_if(value.isNull() | marked)

    found = Counts()
    grouped = rows.groupBy(SPLIT, LABEL).agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum(WEIGHT).alias("weight"),
        F.count(BAD).alias("bad"),
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


def refuse(counts: Counts, source: Source, columns: Columns, pipeline: Pipeline, storage: Storage) -> None:
    """Raise DataError for the first mistake that the counts show, from the file as a whole to its values."""
    where = source.name
    if not counts.total:
        raise DataError(f"{where} holds no rows", "copy the data again from their source")
    if counts.bad:
        _refuse_bad(counts, source, columns, pipeline, storage)
    if counts.of_class(None):
        _refuse_labels(counts, source, columns, pipeline)
    schema = pipeline.schema_
    for value, other, label in (
        (schema.positive, schema.negative, 1.0),
        (schema.negative, schema.positive, 0.0),
    ):
        if not counts.of_class(label):
            raise DataError(
                f"{where}: all {counts.total:,} rows are of class {other!r} in column {columns.label!r}, "
                f"none is {value!r}",
                "use data that hold both classes, or correct schema.positive and schema.negative",
            )
    shares = {TEST: pipeline.split.test, VALIDATION: pipeline.split.validation}
    shares[TRAIN] = 1.0 - sum(shares.values())
    for split in SPLITS:
        held = [counts.rows[split, label] for label in CLASSES.values()]
        if shares[split] and not all(held):
            what = "no rows" if not any(held) else "rows of one class only"
            raise DataError(
                f"{where}: the {split} split ({shares[split]:.0%}) of {counts.total:,} rows holds {what}",
                f"use more rows or a larger split.{split}"
                if split != TRAIN
                else "use more rows or a smaller split.test",
            )
    for name in columns.features:
        hopeless = pipeline.features.impute != "constant" or name in columns.categorical
        if hopeless and counts.missing[name] == counts.of_split(TRAIN):
            raise DataError(
                f"{where}: feature {name!r} is missing in every row of the training split",
                f"add {name!r} to schema.drop, or correct schema.missing ({schema.missing})",
            )


def _refuse_bad(counts, source, columns, pipeline, storage) -> None:
    from pyspark.sql import functions as F

    rows = typed(source, columns, pipeline)
    groups = rows.where(_quoted(BAD).isNotNull()).groupBy(BAD)
    by_column = {row[BAD]: row for row in groups.agg(F.count(F.lit(1)).alias("n"), F.min(KEY).alias("key")).collect()}
    if CORRUPT in by_column:
        _refuse_lines(by_column[CORRUPT]["n"], source, storage)
    name = next(n for n in (columns.key, columns.weight, *columns.numeric) if n in by_column)
    number, key = by_column[name]["n"], by_column[name]["key"]
    values = _values(source, columns, name, key)
    more = [f"{n!r} ({by_column[n]['n']:,})" for n in by_column if n not in (name, CORRUPT)]
    role = {columns.key: "key", columns.weight: "weight"}.get(name, "feature")
    at = f" (first at {columns.key} {key})" if key is not None else ""
    what = "no value" if name == columns.key else f"{values} where a number is needed"
    raise DataError(
        f"{source.name}: {role} {name!r} holds {what} in {_rows(number)}{at}"
        + (f"; other columns with such values: {', '.join(more)}" if more else ""),
        "correct or remove these rows"
        + (
            f"; a value that is missing is written as {pipeline.schema_.missing} (schema.missing) or left empty"
            if role == "feature" and pipeline.schema_.missing is not None
            else ""
        ),
    )


def _values(source: Source, columns: Columns, name: str, key: str | None) -> str:
    found = source.frame.where(_canonical_text(source, columns.key) == key).select(_text(name)).first()
    value = found[0] if found else None
    return repr(value) if value is not None else "no value"


def _refuse_lines(number: int, source: Source, storage: Storage) -> None:
    record = source.frame.where(_quoted(CORRUPT).isNotNull()).select(CORRUPT, source.header[0]).first()[CORRUPT]
    excerpt = record if len(record) <= 120 else record[:117] + "..."
    cut_off = ""
    if number == 1 and _is_last_line(storage, source, record):
        cut_off = "; it is the last line: the file was cut off"
    raise DataError(
        f"{locate(storage, source, record)}: {_rows(number)} with another number of columns than the header's "
        f"{len(source.header)}, the first has {len(record.split(','))}: {excerpt!r}{cut_off}",
        "copy the file again from its source, or mend these lines",
    )


def _is_last_line(storage: Storage, source: Source, record: str) -> bool:
    for path in source.files:
        last = b""
        with storage.open(path) as stream:
            while chunk := stream.read(1 << 20):
                last = (last + chunk)[-(1 << 16) :]
        if last.rstrip(b"\r\n").endswith(record.encode()):
            return True
    return False


def _refuse_labels(counts: Counts, source: Source, columns: Columns, pipeline: Pipeline) -> None:
    from pyspark.sql import functions as F

    schema, label = pipeline.schema_, _canonical_text(source, columns.label)
    neither = reduce(lambda a, b: a & b, [label != canonical(v) for v in (schema.positive, schema.negative)])
    found = (
        source.frame.where(label.isNull() | neither)
        .groupBy(label.alias("value"))
        .agg(F.count(F.lit(1)).alias("n"))
        .orderBy(F.desc("n"), "value")
        .limit(6)
        .collect()
    )
    shown = ", ".join(
        f"{'nothing' if row['value'] is None else repr(row['value'])} ({row['n']:,})" for row in found[:5]
    )
    raise DataError(
        f"{source.name}: {_rows(counts.of_class(None))} of {counts.total:,} hold neither {schema.positive!r} nor "
        f"{schema.negative!r} in the label column {columns.label!r}, but {shown}{', ...' if len(found) > 5 else ''}",
        "correct schema.positive and schema.negative, or these rows",
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
