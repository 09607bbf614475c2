"""What is wrong with an input, said in words: seen in the counts of all rows, then an example of it is looked for."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline, Split
from dkeras_core.data.checks import CLASSES, KEY, WEIGHT, Counts, canonical_text, number, quoted, text
from dkeras_core.data.features import canonical
from dkeras_core.data.schema import Columns
from dkeras_core.data.source import CORRUPT, Source, locate
from dkeras_core.data.split import SPLITS, TEST, TRAIN, VALIDATION
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from dkeras_core.storage import Storage


def refuse(
    counts: Counts, rows: DataFrame, source: Source, columns: Columns, pipeline: Pipeline, storage: Storage
) -> None:
    """Raise DataError for the first mistake that the counts show, from the file as a whole to its values."""
    where = source.name
    if not counts.total:
        raise DataError(f"{where} holds no rows", "copy the data again from their source")
    if counts.bad:
        _refuse_bad(rows, source, columns, pipeline, storage)
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
    shares = {TEST: pipeline.split.tested, VALIDATION: pipeline.split.validation}
    shares[TRAIN] = 1.0 - sum(shares.values())
    for split in SPLITS:
        held = [counts.rows[split, label] for label in CLASSES.values()]
        if shares[split] and not all(held):
            what = "no rows" if not any(held) else "rows of one class only"
            raise DataError(
                f"{where}: the {split} split ({shares[split]:.0%}) of {counts.total:,} rows holds {what}",
                f"use more rows or {_remedy(split, pipeline.split)}",
            )
    for name in columns.features:
        hopeless = pipeline.features.impute != "constant" or name in columns.categorical
        if hopeless and counts.missing[name] == counts.of_split(TRAIN):
            raise DataError(
                f"{where}: feature {name!r} is missing in every row of the training split",
                f"add {name!r} to schema.drop, or correct schema.missing ({schema.missing})",
            )


def _remedy(empty: str, split: Split) -> str:
    """Return which setting of the split puts rows where there are none."""
    if empty == VALIDATION or (empty == TEST and not split.folds):
        return f"a larger split.{empty}"
    if empty == TEST:
        return "fewer split.folds"
    return "more split.folds" if split.folds else "a smaller split.test"


def _infinite(value: Column) -> Column:
    """Return whether a number is infinite or NaN; null for null."""
    from pyspark.sql import functions as F

    return ~(F.abs(value) < float("inf"))  # Spark orders NaN above all numbers


def _first_bad(columns: Columns) -> Column:
    """Return the name of the first column of a typed row that holds something that cannot be."""
    from pyspark.sql import functions as F

    wrong = [(quoted(CORRUPT), CORRUPT), (quoted(KEY).isNull(), columns.key)]
    if columns.weight:
        wrong.append((F.coalesce(_infinite(quoted(WEIGHT)), F.lit(True)), columns.weight))
    wrong += [(_infinite(quoted(name)), name) for name in columns.numeric]
    return F.coalesce(*(F.when(condition, F.lit(name)) for condition, name in wrong))


def _refuse_bad(rows, source, columns, pipeline, storage) -> None:
    from pyspark.sql import functions as F

    bad = rows.select(_first_bad(columns).alias("column"), KEY).where("column IS NOT NULL").groupBy("column")
    found = bad.agg(F.count(F.lit(1)).alias("n"), F.min(KEY).alias("key")).collect()
    by_column = {row["column"]: row for row in found}
    if CORRUPT in by_column:
        refuse_lines(by_column[CORRUPT]["n"], source, storage)
    name = next(n for n in (columns.key, columns.weight, *columns.numeric) if n in by_column)
    rows_bad, key = by_column[name]["n"], by_column[name]["key"]
    more = [f"{n!r} ({by_column[n]['n']:,})" for n in by_column if n not in (name, CORRUPT)]
    role = {columns.key: "key", columns.weight: "weight"}.get(name, "feature")
    at = f" (for example at {columns.key} {key})" if key is not None else ""
    what = "no value" if name == columns.key else f"{_value(source, columns, name, key)} where a number is needed"
    raise DataError(
        f"{source.name}: {role} {name!r} holds {what} in {_rows(rows_bad)}{at}"
        + (f"; other columns with such values: {', '.join(more)}" if more else ""),
        "correct or remove these rows"
        + (
            f"; a value that is missing is written as {pipeline.schema_.missing} (schema.missing) or left empty"
            if role == "feature" and pipeline.schema_.missing is not None
            else ""
        ),
    )


def _value(source: Source, columns: Columns, name: str, key: str | None) -> str:
    from pyspark.sql import functions as F

    bad = (canonical_text(source, columns.key) == key) & F.coalesce(_infinite(number(name)), F.lit(True))
    found = source.frame.where(bad).select(text(name)).first()
    return repr(found[0]) if found and found[0] is not None else "no value"


def refuse_lines(number: int, source: Source, storage: Storage) -> None:
    """Raise DataError for the lines of a CSV source that do not fit its header; the first one is shown and located."""
    record = source.frame.where(quoted(CORRUPT).isNotNull()).select(CORRUPT, source.header[0]).first()[CORRUPT]
    excerpt = record if len(record) <= 120 else record[:117] + "..."
    where, last = locate(storage, source, record)
    raise DataError(
        f"{where}: {_rows(number)} with another number of columns than the header's {len(source.header)}, "
        f"the first has {len(record.split(','))}: {excerpt!r}"
        + ("; it is the last line, so the file was cut off" if last else ""),
        "copy the file again from its source, or mend these lines",
    )


def _refuse_labels(counts: Counts, source: Source, columns: Columns, pipeline: Pipeline) -> None:
    from pyspark.sql import functions as F

    schema, label = pipeline.schema_, canonical_text(source, columns.label)
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
        f"{source.name}: the label column {columns.label!r} holds neither {schema.positive!r} nor "
        f"{schema.negative!r} in {counts.of_class(None):,} of {_rows(counts.total)}, but {shown}"
        + (", ..." if len(found) > 5 else ""),
        "correct schema.positive and schema.negative, or these rows",
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
