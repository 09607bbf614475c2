"""Scores as columns of a DataFrame: raw columns go to Python in Arrow batches, every other column stays in the JVM.

The raw columns are typed as the preprocessing types them (:mod:`dkeras_core.data.checks`), so that the same text means
the same number here and there; the version's own feature pipeline and model do the rest, in each Python worker.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkeras_core.config_file import meant
from dkeras_core.data.checks import canonical_text, number, quoted, text
from dkeras_core.data.source import CORRUPT, Source
from dkeras_core.errors import ConfigError, DataError, DkerasError, RegistryError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

    from dkeras_core.data.features import FeaturePipeline
    from dkeras_core.registry.load import LoadedModel

BATCH = 4096
_ANSWER = "__dkeras_scores"
_UNUSABLE = ("array", "map", "struct", "binary", "date", "timestamp", "timestamp_ntz", "variant", "interval")
_NOT_IN_CSV = ("array", "map", "struct", "binary", "variant", "interval")


@dataclass(frozen=True)
class Scorer:
    """What a Python worker computes.

    Parameters
    ----------
    digest : str
        Of the version's manifest.
    archive : str
        Name under which Spark has unpacked the version on every executor (``SparkContext.addArchive``).
    columns : tuple of str
        The raw columns, in the order in which they come.
    outputs : int
        Values that the model gives for a row.
    modules : tuple of str
        Python modules to import before the model is loaded.
    """

    digest: str
    archive: str
    columns: tuple[str, ...]
    outputs: int
    modules: tuple[str, ...] = ()

    def __call__(self, loaded: LoadedModel, columns: Sequence[pa.Array]) -> pa.StructArray:
        """Return a struct with a field ``s<i>``, float32, for each output.

        Raises
        ------
        DataError
            A value that is no number, or the model gives one that is not finite; the column is named.
        """
        import pyarrow as pa

        from dkeras_core.learning.prediction import predict

        rows = pa.RecordBatch.from_arrays(list(columns), names=list(self.columns))
        if rows.num_rows == 0:
            scores = np.empty((0, self.outputs), np.float32)
        else:
            features = loaded.pipeline.transform(rows)
            scores = np.asarray(predict(loaded.model, features, BATCH), np.float32).reshape(-1, self.outputs)
        wrong = np.count_nonzero(~np.isfinite(scores).all(axis=1))
        if wrong:
            raise DataError(
                f"the model's score is not finite in {wrong:,} of {rows.num_rows:,} rows",
                "look for values far outside of those it was trained on, or use another version",
            )
        names = [f"s{i}" for i in range(self.outputs)]
        return pa.StructArray.from_arrays([pa.array(np.ascontiguousarray(column)) for column in scores.T], names=names)


@dataclass(frozen=True)
class _Unpacked:
    """A version on the disk of this executor, to be loaded when this process first needs it."""

    folder: Path
    digest: str
    modules: tuple[str, ...]

    def unpack(self) -> LoadedModel:
        return load_folder(self.folder, self.digest, self.modules)


def load_folder(folder: Path, digest: str, modules: Sequence[str] = ()) -> LoadedModel:
    """Load the version in a local folder, after every file of it was verified.

    Raises
    ------
    ConfigError
        A module cannot be imported.
    RegistryError
        The version is damaged, its manifest has not this SHA-256, or its model does not load here.
    """
    from dkeras_core.registry.load import load

    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # it may raise whatever it likes
            raise ConfigError(
                f"module {name} cannot be imported: {type(error).__name__}: {error}", "correct --py-files"
            ) from error
    try:
        loaded = load(folder)
    except DkerasError:
        raise
    except Exception as error:  # Keras raises whatever the layers raise
        raise RegistryError(
            f"the model does not load: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
            "bring the module of a custom layer with --py-files",
        ) from error
    if loaded.digest != digest:
        raise RegistryError(f"{folder} does not hold the version that is to be used", "start the scoring again")
    return loaded


def values_of(model, name: str) -> int:
    """Return how many values a model gives for a row; RegistryError when it is not one vector of them."""
    shapes = [tuple(tensor.shape[1:]) for tensor in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) > 1 or None in shapes[0]:
        raise RegistryError(
            f"{name} gives {len(shapes)} outputs of the shapes {', '.join(map(str, shapes))} for a row",
            "score with a model of one output, of one value or of several",
        )
    return shapes[0][0] if shapes[0] else 1


def score_columns(column: str, outputs: int) -> list[str]:
    """Return the names of the new columns: one, or one for each output."""
    return [column] if outputs == 1 else [f"{column}_{i}" for i in range(outputs)]


def kept_columns(source: Source) -> list[str]:
    """Return the names of the input's columns, those that Spark reads off the names of folders included."""
    return [name for name in source.frame.columns if name != CORRUPT]


def check(source: Source, pipeline: FeaturePipeline | None, added: Sequence[str], format: str, model: str) -> None:
    """Refuse rows that cannot be scored, before any of them is read.

    Raises
    ------
    RegistryError
        The version has no feature pipeline.
    DataError
        A column that the model needs is missing or of a type that is neither number nor text, or a name stands twice.
    ConfigError
        A column has the name of a new one, or cannot be written in the output's format.
    """
    if pipeline is None:
        raise RegistryError(
            f"{model} has no features.json, so it cannot score raw rows", "publish it by `dkeras submit`"
        )
    kept = [name for name in source.header if name != CORRUPT]
    lower = [name.lower() for name in kept]
    twice = sorted({name for name in kept if lower.count(name.lower()) > 1})
    if twice:
        case = " (Spark does not tell upper from lower case)" if len(twice) > 1 else ""
        raise DataError(
            f"{source.name}: column {' and '.join(map(repr, twice))} stands in the header twice{case}",
            "rename or remove one of them",
        )
    kept = kept_columns(source)
    lower = [name.lower() for name in kept]
    absent = [name for name in pipeline.columns if name not in kept]
    if absent:
        shown = ", ".join(f"{name!r}{meant(name, kept)}" for name in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise DataError(
            f"{source.name} has no column {shown}{more}, which {model} needs; it has {', '.join(kept[:40])}",
            f"give all {len(pipeline.columns)} raw columns that the model was trained on, under their names",
        )
    kinds = {field.name: field.dataType.typeName() for field in source.frame.schema.fields}
    for name in pipeline.columns:
        if kinds[name].startswith(_UNUSABLE):
            raise DataError(
                f"{source.name}: column {name!r} is of type {kinds[name]}, which is neither number nor text",
                f"give {name!r} as the numbers or the text that {model} was trained on",
            )
    for name in added:
        if name.lower() in lower:
            raise ConfigError(f"{source.name} has a column {name!r} already", "name another one with --column")
    awkward = [name for name in kept if kinds[name].startswith(_NOT_IN_CSV)] if format == "csv" else []
    if awkward:
        raise ConfigError(
            f"{source.name}: column {awkward[0]!r} is of type {kinds[awkward[0]]}, which CSV cannot hold",
            "write Parquet: --format parquet",
        )


def with_scores(
    frame: DataFrame, source: Source, pipeline: FeaturePipeline, scorer: Scorer, added: Sequence[str], counter=None
) -> DataFrame:
    """Return ``frame``, which has the columns of ``source``, with the scores behind them.

    ``counter`` is an accumulator that gets the number of rows scored, for showing how far it is.
    """
    from pyspark.sql import functions as F
    from pyspark.sql import types as T

    answer = T.StructType([T.StructField(f"s{i}", T.FloatType()) for i in range(scorer.outputs)])
    score = F.arrow_udf(_in_worker(scorer, counter), answer)
    inputs = [number(name) for name in pipeline.numeric] + [
        canonical_text(source, name) for name in pipeline.categories
    ]
    scored = frame.withColumn(_ANSWER, score(*inputs))
    kept = [quoted(name) for name in kept_columns(source)]
    return scored.select(*kept, *(F.col(_ANSWER)[f"s{i}"].alias(name) for i, name in enumerate(added)))


def _in_worker(scorer: Scorer, counter):
    import pyarrow as pa

    def score(*columns: pa.Array) -> pa.Array:
        from pyspark import SparkFiles

        from dkeras_core.ml.scoring import loaded

        model = loaded(
            scorer.digest, lambda: _Unpacked(Path(SparkFiles.get(scorer.archive)), scorer.digest, scorer.modules)
        )
        found = scorer(model, columns)
        if counter is not None:
            counter.add(len(found))
        return found

    # Spark evaluates the annotations; as text they would be looked up in the module of the worker
    score.__annotations__ = {"columns": pa.Array, "return": pa.Array}
    return score


def diagnose(source: Source, pipeline: FeaturePipeline) -> DataError | None:
    """Read all rows once more and say which numeric columns hold something that is no number, with an example.

    None when there is no such value: what failed has another cause.
    """
    from pyspark.sql import functions as F

    counts = [F.count_if(_bad(name)).alias(f"b{i}") for i, name in enumerate(pipeline.numeric)]
    found = source.frame.agg(F.count(F.lit(1)).alias("rows"), *counts).first()
    bad = {name: found[f"b{i}"] for i, name in enumerate(pipeline.numeric) if found[f"b{i}"]}
    if not bad:
        return None
    name, rows = next(iter(bad.items()))
    value, file = source.frame.where(_bad(name)).select(text(name), "_metadata.file_path").first()
    others = [f"{other!r} ({count:,})" for other, count in bad.items() if other != name]
    return DataError(
        f"{source.name}: column {name!r} holds {value!r} where a number is needed, in {rows:,} of {found['rows']:,} "
        f"rows (for example in {file})" + (f"; other columns with such values: {', '.join(others)}" if others else ""),
        "correct or remove these rows; a missing value is left empty or null"
        + (f", or written as {pipeline.missing}" if pipeline.missing is not None else ""),
    )


def _bad(name: str) -> Column:
    from pyspark.sql import functions as F

    return F.coalesce(~(F.abs(number(name)) < float("inf")), F.lit(False))  # Spark orders NaN above all numbers
