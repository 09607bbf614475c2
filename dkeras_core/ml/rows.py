"""A DataFrame as rows to train: the columns that count, checked in one pass, split from those for validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dkeras_core.data.columns import SPARSE_WIDTH, Column, column_of
from dkeras_core.errors import ConfigError, DataError
from dkeras_core.ml.outputs import Output
from dkeras_core.ml.scoring import input_column

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

VALIDATION = "__validation"
_SAMPLE = 100  # rows from which lengths and sparsity are read


@dataclass(frozen=True)
class Rows:
    """Rows to train and, when some are held back, rows to validate on.

    ``frame`` and ``validation`` hold the columns that ``inputs``, ``labels`` and ``weight`` read, and no others.
    """

    frame: DataFrame
    count: int
    validation: DataFrame | None
    validation_count: int
    inputs: tuple[Column, ...]
    labels: tuple[Column, ...]
    weight: str | None


@contextmanager
def rows_of(
    dataset: DataFrame,
    input_names: Sequence[str],
    label_names: Sequence[str],
    inputs: Sequence[tuple[tuple[int | None, ...], str]],
    outputs: Sequence[Output],
    *,
    weight: str | None = None,
    validation: str | None = None,
    split: float = 0.0,
    seed: int = 1,
) -> Iterator[Rows]:
    """Check a DataFrame against a model and give its rows; they are kept by Spark until the end of the context.

    Parameters
    ----------
    input_names, label_names : sequences of str
        One column an input and an output of the model; several input columns for a model with one input are put
        side by side.
    inputs : sequence of (shape, dtype)
        What the model takes.
    outputs : sequence of Output
        What it gives.
    weight, validation : str, optional
        Columns of sample weights, and of booleans that are true for rows to validate on.
    split : float
        Without a column for it, the share of rows to validate on: those whose hash, with the seed, is small. The same
        rows are chosen however the data are partitioned, and equal rows stand on the same side.

    Raises
    ------
    ConfigError
        A column that is missing or of a type that cannot be used; more or fewer columns than inputs or outputs.
    DataError
        No rows, nulls, labels or weights out of range, a width that does not fit; the column is named.
    """
    from pyspark.sql import functions as F
    from pyspark.storagelevel import StorageLevel

    sources = sources_of(input_names, len(inputs))
    if len(label_names) != len(outputs):
        raise ConfigError(
            f"the model has {len(outputs)} outputs, {len(label_names)} label columns are named: "
            f"{', '.join(label_names)}",
            "name one column an output with labelCols",
        )
    names = list(dict.fromkeys([*input_names, *label_names, *([weight] if weight else [])]))
    dense = {group[0]: dense_as(shape, dtype) for group, (shape, dtype) in zip(sources, inputs, strict=True)}
    dense |= dict.fromkeys(label_names, "float32")
    chosen = [named(dataset, name, dense.get(name, "")).alias(name) for name in names]
    if validation:
        _check_boolean(dataset, validation)
        chosen.append(_column(validation).alias(VALIDATION))
    frame = dataset.select(*chosen)
    if not validation:
        frame = frame.withColumn(VALIDATION, _share(F.xxhash64(*map(_column, names), F.lit(seed)), split))
    kept = dataset.storageLevel.useMemory or dataset.storageLevel.useDisk
    if not kept:  # the check and the training both read the rows, which may be dear to make
        frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        train, held = _counted(frame, names, label_names, outputs, weight, validation)
        sample = frame.drop(VALIDATION).limit(_SAMPLE).toArrow()
        columns = tuple(
            input_column(sample, group, shape, dtype) for group, (shape, dtype) in zip(sources, inputs, strict=True)
        )
        taken = {column.name: column for column in columns}
        labels = tuple(
            taken.get(name) or replace(column_of(sample, name, dtype="float32"), sparse=False) for name in label_names
        )
        yield Rows(
            frame.where(~F.col(VALIDATION)).drop(VALIDATION),
            train,
            frame.where(VALIDATION).drop(VALIDATION) if validation or split else None,
            held,
            columns,
            labels,
            weight,
        )
    finally:
        if not kept:
            frame.unpersist()


def sources_of(names: Sequence[str], count: int) -> list[list[str]]:
    """The columns of each input."""
    if count == 1:
        return [list(names)]
    if len(names) != count:
        raise ConfigError(
            f"the model has {count} inputs, {len(names)} columns are named: {', '.join(names)}",
            "name one column an input with inputCols",
        )
    return [[name] for name in names]


def _column(name: str):
    from pyspark.sql import functions as F

    return F.col("`" + name.replace("`", "``") + "`")


def field_of(dataset: DataFrame, name: str):
    """The field of a column; ConfigError when there is none."""
    held = {field.name: field for field in dataset.schema.fields}
    found = held.get(name) or {key.lower(): field for key, field in held.items()}.get(name.lower())
    if found is None:
        from dkeras_core.config_file import meant

        raise ConfigError(
            f"there is no column {name!r}{meant(name, held)}; the DataFrame has {', '.join(held)}",
            "name the columns with featuresCol, inputCols, labelCol, labelCols, weightCol",
        )
    return found


def dense_as(shape: tuple[int | None, ...], dtype: str) -> str:
    """As arrays of which type vectors for such an input should travel; "" where they should stay vectors.

    Spark writes arrays to Arrow six times as fast as vectors; wide ones are better off sparse.
    """
    if None in shape or math.prod(shape) > SPARSE_WIDTH:
        return ""
    return "float64" if dtype.startswith(("int", "uint")) else "float32"


def named(dataset: DataFrame, name: str, dense: str = ""):
    """The column, decimals as doubles, vectors as arrays of type ``dense``; ConfigError when it holds no numbers."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    kind = inner = field_of(dataset, name).dataType
    while isinstance(inner, T.ArrayType):
        inner = inner.elementType
    if isinstance(inner, T.DecimalType) and kind is inner:
        return _column(name).cast("double")
    if dense and isinstance(kind, VectorUDT):
        return F.when(_column(name).isNotNull(), vector_to_array(_column(name), dense))
    is_image = isinstance(inner, T.StructType) and {"height", "width", "nChannels", "data"} <= set(inner.names)
    simple = T.NumericType | T.BooleanType | T.BinaryType | VectorUDT
    if not (isinstance(inner, simple) or is_image) or isinstance(inner, T.DecimalType):
        raise ConfigError(
            f"column {name!r} is of type {kind.simpleString()}, numbers, arrays or vectors of numbers are needed",
            "index text with StringIndexer, put columns together with VectorAssembler, or cast",
        )
    return _column(name)


def _check_boolean(dataset: DataFrame, name: str) -> None:
    kind = field_of(dataset, name).dataType.simpleString()
    if kind != "boolean":
        raise ConfigError(
            f"column {name!r} says which rows are for validation and must be boolean, it is {kind}",
            "cast it, or hold back a share with validation_split",
        )


def _share(hashed, split: float):
    from pyspark.sql import functions as F

    whole = 2**53
    return F.pmod(hashed, F.lit(whole).cast("bigint")) < F.lit(int(split * whole))


def _counted(frame, names, label_names, outputs, weight, validation) -> tuple[int, int]:
    """Return rows to train and to validate on, after one pass that looks at every row."""
    from pyspark.sql import functions as F

    scalar = {field.name for field in frame.schema.fields if field.dataType.typeName() in _SCALAR}
    labels = [name for name in label_names if name in scalar]
    asked = [F.count(F.lit(1)).alias("rows"), F.count_if(VALIDATION).alias("held")]
    for position, name in enumerate([*names, VALIDATION]):
        asked.append(F.count_if(_column(name).isNull()).alias(f"nulls{position}"))
    for position, name in enumerate(labels):
        value = _column(name).cast("double")
        asked.append(F.min(value).alias(f"low{position}"))
        asked.append(F.max(value).alias(f"high{position}"))  # Spark holds NaN for the largest number
        asked.append(F.count_if(value != F.floor(value)).alias(f"fractions{position}"))
    if weight:
        asked.append(F.min(_column(weight).cast("double")).alias("light"))
        asked.append(F.max(_column(weight).cast("double")).alias("heavy"))
    found = frame.agg(*asked).first()
    rows = found["rows"]
    if rows == 0:
        raise DataError("the DataFrame has no rows", "check the filters before it")
    for position, name in enumerate([*names, validation]):
        if found[f"nulls{position}"]:
            raise DataError(
                f"column {name!r} is null in {found[f'nulls{position}']:,} of {rows:,} rows",
                "drop these rows (na.drop), or fill them (na.fill, Imputer)",
            )
    for position, name in enumerate(labels):
        output = outputs[list(label_names).index(name)]
        _check_range(name, output, found[f"low{position}"], found[f"high{position}"], found[f"fractions{position}"])
    if weight and not 0 <= found["light"] <= found["heavy"] < float("inf"):
        raise DataError(
            f"column {weight!r} holds weights from {found['light']:g} to {found['heavy']:g}, "
            "they must be at least 0 and finite"
        )
    if validation and not found["held"]:
        raise DataError(f"column {validation!r} is true in no row", "mark rows for validation, or leave the column out")
    if rows == found["held"]:
        raise DataError("all rows are held back for validation", "hold back fewer")
    return rows - found["held"], found["held"]


_SCALAR = ("byte", "tinyint", "short", "smallint", "integer", "int", "long", "bigint", "float", "double", "boolean")


def _check_range(name: str, output: Output, low: float, high: float, fractions: int) -> None:
    """Whether labels can be what the output's loss takes."""
    if output.indices:
        classes = output.classes
        if fractions or low < 0 or (classes and not high < classes):
            raise DataError(
                f"column {name!r} holds labels from {low:g} to {high:g}"
                + (f", {fractions:,} of them no whole numbers" if fractions else "")
                + f"; the model's {classes} classes are 0 to {classes - 1 if classes else '...'}",
                "number the classes from 0 (StringIndexer), or widen the model's last layer",
            )
    elif output.kind in ("binary", "labels") and not 0 <= low <= high <= 1:
        raise DataError(
            f"column {name!r} holds labels from {low:g} to {high:g}, the loss {output.loss or 'of a sigmoid'} takes "
            "0 and 1",
            "map the labels to 0 and 1 (StringIndexer)",
        )
    elif not high < float("inf"):
        raise DataError(f"column {name!r} holds labels up to {high:g}", "drop rows whose label is not finite")
