"""Evaluation on Spark: one pass over the test split for all models, statistics merged on the driver."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dkeras_core.errors import DataError, DkerasError
from dkeras_core.evaluation import bootstrap
from dkeras_core.evaluation.metrics import BinaryStatistics
from dkeras_core.evaluation.paired import PairedStatistics
from dkeras_core.evaluation.sources import ModelSource, Predict, scores

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

_SCHEMA = "model string, statistics binary, error string, next_step string"  # no model: the pair's statistics

# The models of the latest evaluation in this Python worker. Workers are reused from partition to partition; a
# newer evaluation takes the place of the older one, so that memory does not grow.
_loaded: dict[str, dict[str, Predict]] = {}


def evaluate(
    spark: SparkSession,
    test_path: str,
    models: Mapping[str, ModelSource],
    threshold: float = 0.5,
    class_totals: Mapping[str, float] | None = None,
    weighted: bool = True,
    expected_rows: int | None = None,
    batch_rows: int = 8192,
    pair: tuple[str, str] | None = None,
) -> dict[str, dict]:
    """Evaluate all `models` on the Parquet at `test_path` in one pass.

    Parameters
    ----------
    test_path : str
        Parquet with the columns ``label`` (0 or 1), ``weight`` (double; only where `weighted`), and those that the
        models need (``features`` unless they say otherwise).
    models : {name: ModelSource}
        For example challenger and champion.
    threshold, class_totals
        See :class:`~dkeras_core.evaluation.metrics.BinaryStatistics`.
    weighted : bool
        Whether the data set has weights that mean something.
    expected_rows : int, optional
        Rows that the preprocessing counted; another number is an error.
    batch_rows : int
        Rows a model scores at once, at most.
    pair : (str, str), optional
        Two of the models: how much better the first is than the second.

    Returns
    -------
    {name: ``BinaryStatistics.result()``}
        Each with "intervals", {metric: [low, high]} of 95 %, and the first of ``pair`` with "comparison", what
        :func:`dkeras_core.evaluation.bootstrap.compare` says.

    Raises
    ------
    DataError
        A column is missing, rows are lost or refused, a model's answer has the wrong shape.
    """
    from pyspark.errors import PythonException

    frame = spark.read.parquet(test_path)
    needed = [
        "label",
        *(["weight"] if weighted else []),
        *sorted({column for source in models.values() for column in source.columns}),
    ]
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise DataError(
            f"{test_path} has no column {', '.join(missing)}",
            f"it has {', '.join(frame.columns)}; preprocess the data again",
        )
    # Closures travel with every task, broadcasts once to each executor: the weights go by broadcast.
    payloads = spark.sparkContext.broadcast({name: source.payload for name, source in models.items()})
    sources = {name: replace(source, payload=b"") for name, source in models.items()}
    token = uuid.uuid4().hex

    def gather(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _gather(batches, sources, payloads, token, threshold, weighted, batch_rows, pair)

    try:
        answers = frame.select(*needed).mapInArrow(gather, _SCHEMA).collect()
    except PythonException as error:
        cause = str(error).strip().splitlines()[-1]
        raise DkerasError(
            f"the evaluation of {test_path} failed in a Python worker: {cause}",
            "the whole traceback stands in the log of the executor",
        ) from error
    finally:
        payloads.destroy()
    return _merged(answers, models, threshold, class_totals, expected_rows, test_path, pair)


def _merged(answers, models, threshold, class_totals, expected_rows, test_path, pair) -> dict[str, dict]:
    merged, paired = {name: BinaryStatistics(threshold) for name in models}, PairedStatistics(threshold)
    for answer in answers:
        if answer.error is not None:
            raise DataError(f"model {answer.model!r} on {test_path}: {answer.error}", answer.next_step)
        if answer.model is None:
            paired.merge(PairedStatistics.from_bytes(bytes(answer.statistics)))
        else:
            merged[answer.model].merge(BinaryStatistics.from_bytes(bytes(answer.statistics)))
    results = {}
    for name, statistics in merged.items():
        if expected_rows is not None and statistics.rows != expected_rows:
            raise DataError(
                f"{test_path}: {statistics.rows:,} rows were evaluated, the preprocessing wrote {expected_rows:,}",
                "the test split was changed while it was read, or is damaged: preprocess again",
            )
        try:
            results[name] = statistics.result(class_totals)
        except DataError as error:
            raise DataError(f"model {name!r} on {test_path}: {error.what}", error.next_step) from error
        results[name]["intervals"] = bootstrap.intervals(statistics, results[name], class_totals)
    if pair is not None:
        first, second = (results[name] for name in pair)
        first["comparison"] = bootstrap.compare(paired, first, second, class_totals)
    return results


def _gather(
    batches: Iterator[pa.RecordBatch],
    sources: Mapping[str, ModelSource],
    payloads,
    token: str,
    threshold: float,
    weighted: bool,
    batch_rows: int,
    pair: tuple[str, str] | None,
) -> Iterator[pa.RecordBatch]:
    """Score one partition with every model; yield one row a model, and one for the pair: its statistics, or an error.

    Errors in the data or in the model's answer are the same at every try, so they are handed to the driver instead
    of failing the task, which Spark would repeat and then bury in a long trace.
    """
    statistics, paired = {name: BinaryStatistics(threshold) for name in sources}, PairedStatistics(threshold)
    name = ""
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, batch_rows):
                part = batch.slice(start, batch_rows)
                labels = _numbers(part, "label")
                weights = _numbers(part, "weight") if weighted else None
                answers = {}
                for name, source in sources.items():
                    answers[name] = scores(_predict(token, name, source, payloads), source.features(part))
                    statistics[name].update(answers[name], labels, weights)
                if pair is not None:
                    paired.update(answers[pair[0]], answers[pair[1]], labels, weights)
    except DkerasError as error:
        yield _row(name, error=error.what, next_step=error.next_step)
        return
    for name, gathered in statistics.items():
        yield _row(name, statistics=gathered.to_bytes())
    if pair is not None:
        yield _row(None, statistics=paired.to_bytes())


def _predict(token: str, name: str, source: ModelSource, payloads) -> Predict:
    """Return the model, loaded the first time this Python worker is asked for it."""
    if token not in _loaded:
        _loaded.clear()
        _loaded[token] = {}
    models = _loaded[token]
    if name not in models:
        models[name] = source.load(payloads.value[name])
    return models[name]


def _numbers(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """Return a column as float64[n]; missing values become NaN, which the statistics refuse by number."""
    return np.asarray(batch.column(column).cast("float64").to_numpy(zero_copy_only=False), np.float64)


def _row(model: str | None, statistics: bytes | None = None, error: str | None = None, next_step: str | None = None):
    import pyarrow as pa

    values = {"model": model, "statistics": statistics, "error": error, "next_step": next_step}
    types = [pa.string(), pa.binary(), pa.string(), pa.string()]
    return pa.RecordBatch.from_arrays(
        [pa.array([value], kind) for value, kind in zip(values.values(), types, strict=True)], names=list(values)
    )
