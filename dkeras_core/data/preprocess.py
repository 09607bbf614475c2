"""Raw rows -> checked, split, standardised Parquet in ``<root>/data/<dataset>/<fingerprint>/`` (docs/data.md).

The folder holds ``train/``, ``validation/`` and ``test/`` (Parquet: key string, features array<float>, label float,
weight double; in ``test/`` also the struct ``raw`` of the features as they came), ``features/`` (the Spark ML
PipelineModel), ``features.json`` (the same numbers without Spark), ``dataset.json`` and ``_SUCCESS``. It appears by
one rename, when all of it is there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.data import checks, mistakes, source, spark_features
from dkeras_core.data.checks import CLASSES, HASH, KEY, LABEL, SPLIT, WEIGHT, Counts
from dkeras_core.data.dataset import DatasetInfo
from dkeras_core.data.fingerprint import fingerprint
from dkeras_core.data.schema import Columns, resolve
from dkeras_core.data.split import SPLITS, TEST, TRAIN
from dkeras_core.data.staging import Staging, writing
from dkeras_core.errors import DataError, PathExists, PathMissing
from dkeras_core.paths import Layout

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from dkeras_core.storage import Storage

BYTES_PER_FILE = 128 << 20


def preprocess(
    spark: SparkSession,
    pipeline: Pipeline,
    storage: Storage,
    layout: Layout,
    progress: Callable[[str], None] | None = None,
    run: str | None = None,
) -> DatasetInfo:
    """Return the pipeline's data set, made now or, when data and settings are unchanged, found.

    Parameters
    ----------
    spark : session whose default file system is ``storage``.
    pipeline : sections input, schema, split and features say what is done; the number of workers, how many files
        each split has (a multiple of it).
    progress : called with one sentence about what is being done.
    run : id of the run, kept in dataset.json, which says who has made the data set.

    Raises
    ------
    DataError : the input does not fit the schema, is damaged or not there. Nothing is left of the attempt.
    StorageError : the file system refuses.
    """
    started, tell = time.monotonic(), progress or (lambda message: None)
    tell("looking for a data set of the same data and settings")
    identity = fingerprint(pipeline, source.identity(spark, pipeline, storage))
    target = layout.dataset(pipeline.name, identity)
    found = _standing(storage, target, identity)
    if found:
        return _reused(found, started)
    with Staging(storage, target.rpartition("/")[0], identity) as staging:
        staging.clean_leftovers()
        info = _make(spark, pipeline, storage, staging.path, tell)
        info = dataclasses.replace(
            info, path=target, fingerprint=identity, seconds=round(time.monotonic() - started, 3)
        )
        _seal(storage, staging.path, info, run)
        try:
            staging.commit(target)
        except PathExists:
            # Another run made the same data set in the meantime, or what stands there is damaged.
            found = _standing(storage, target, identity)
            if found:
                return _reused(found, started)
            storage.delete(target, recursive=True)
            staging.commit(target)
    return info


def _reused(info: DatasetInfo, started: float) -> DatasetInfo:
    return dataclasses.replace(info, reused=True, seconds=round(time.monotonic() - started, 3))


def _standing(storage: Storage, target: str, identity: str) -> DatasetInfo | None:
    """Return the data set at ``target`` if it is whole: sealed, of this fingerprint, every file with its size."""
    if not storage.exists(f"{target}/_SUCCESS"):
        return None
    try:
        text = storage.read_bytes(f"{target}/dataset.json")
        info, sizes = DatasetInfo.from_json(text), json.loads(text)["files"]
    except (PathMissing, DataError, KeyError):
        return None
    whole = info.fingerprint == identity and sizes.items() <= _sizes(storage, target).items()
    return dataclasses.replace(info, path=target) if whole else None


def _sizes(storage: Storage, folder: str) -> dict[str, int]:
    base = len(storage.clean(folder)) + 1
    return {file.path[base:]: file.size for file in storage.walk(folder)}


def _make(
    spark: SparkSession, pipeline: Pipeline, storage: Storage, folder: str, tell: Callable[[str], None]
) -> DatasetInfo:
    """Fill ``folder`` with everything but the seal."""
    raw = source.open_source(spark, pipeline, storage)
    columns = resolve(pipeline.schema_, raw.header, raw.name)
    rows = checks.typed(raw, columns, pipeline).persist()
    try:
        with source.reading(raw.name):
            tell(f"reading and checking {raw.name}")
            counts = checks.count(rows, columns, pipeline.schema_.missing)
            mistakes.refuse(counts, rows, raw, columns, pipeline, storage)
        tell(f"fitting {len(columns.features)} features on {counts.of_split(TRAIN):,} rows")
        wanted = pipeline.features.indicators
        indicators = tuple(name for name in columns.numeric if wanted and counts.missing[name])
        model = spark_features.fit(rows.where(rows[SPLIT] == TRAIN), columns, pipeline, indicators)
        features = spark_features.portable(model, columns, pipeline, indicators)
        with writing(folder):
            storage.write_bytes(f"{folder}/features.json", json.dumps(features.to_json(), indent=1).encode())
            tell(f"writing {', '.join(f'{counts.of_split(split):,} {split}' for split in SPLITS)} rows")

            def write(split: str) -> None:
                files = _files(counts.of_split(split), len(features.names), pipeline.workers)
                transformed = spark_features.transform(model, rows.where(rows[SPLIT] == split))
                _write(transformed, files, f"{folder}/{split}", raw=columns.features if split == TEST else ())

            # Many small jobs, each of them mostly waiting for the scheduler and the file system.
            with ThreadPoolExecutor(1 + len(SPLITS)) as pool:
                saved = pool.submit(model.write().overwrite().save, f"{folder}/features")
                for job in [*(pool.submit(write, split) for split in SPLITS), saved]:
                    job.result()
    finally:
        rows.unpersist()
    _account(spark, counts, folder)
    return _describe(counts, columns, pipeline, features.names)


def _files(rows: int, features: int, workers: int) -> int:
    """Return the number of files of a split: the same number for every worker, none of them huge."""
    return workers * max(1, math.ceil(rows * features * 4 / BYTES_PER_FILE / workers))


def _write(rows: DataFrame, files: int, path: str, raw: tuple[str, ...]) -> None:
    """Write rows in the order of the hash of their key: shuffled, and the same whatever order the input had.

    The raw features go along as the struct ``raw`` where they are wanted: the test split keeps them, so that a
    champion with feature numbers of its own can be compared on the same rows.
    """
    from pyspark.sql import functions as F

    rows.repartition(files, HASH).sortWithinPartitions(HASH).select(
        F.col(KEY).alias("key"),
        F.col(spark_features.OUTPUT),
        F.col(LABEL).cast("float").alias("label"),
        F.col(WEIGHT).alias("weight"),
        *([F.struct(*(F.col(f"`{name}`") for name in raw)).alias("raw")] if raw else []),
    ).write.parquet(path)


def _account(spark: SparkSession, counts: Counts, folder: str) -> None:
    """Make sure that the rows in the files are the rows that were read."""
    with ThreadPoolExecutor(len(SPLITS)) as pool:
        counting = pool.map(lambda split: spark.read.parquet(f"{folder}/{split}").count(), SPLITS)
    written = dict(zip(SPLITS, counting, strict=True))
    counted = {split: counts.of_split(split) for split in SPLITS}
    if written != counted or sum(written.values()) != counts.total:
        raise DataError(
            f"rows were lost or doubled: {counts.total:,} read, {counted} counted, {written} written",
            "the input was changed while it was read: start again when nothing writes to it",
        )


def _describe(counts: Counts, columns: Columns, pipeline: Pipeline, names: list[str]) -> DatasetInfo:
    warnings = []
    if counts.duplicates:
        warnings.append(
            f"{counts.duplicates:,} of {counts.total:,} rows have a key {columns.key!r} that another row has too; "
            "rows of one key are in the same split"
        )
    classes = {}
    for name, label in CLASSES.items():
        rows = {split: counts.rows[split, label] for split in SPLITS}
        weight = {split: counts.weight[split, label] for split in SPLITS}
        classes[name] = {
            "label": getattr(pipeline.schema_, name),
            "rows": {**rows, "in": sum(rows.values())},
            "weight": {**weight, "in": math.fsum(weight.values())},
        }
    return DatasetInfo(
        path="",
        fingerprint="",
        reused=False,
        rows={**{split: counts.of_split(split) for split in SPLITS}, "in": counts.total},
        features=names,
        classes=classes,
        missing={name: n for name, n in counts.missing.items() if n},
        warnings=warnings,
    )


def _seal(storage: Storage, folder: str, info: DatasetInfo, run: str | None) -> None:
    """Write dataset.json, which lists every file with its size, and then _SUCCESS."""
    sizes = {name: size for name, size in _sizes(storage, folder).items() if not name.startswith("_")}
    data = {**info.to_json(), "files": sizes, "run": run}
    storage.write_bytes(f"{folder}/dataset.json", json.dumps(data, indent=1).encode())
    storage.write_bytes(f"{folder}/_SUCCESS", b"")
