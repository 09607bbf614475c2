"""One scoring from beginning to end: version, rows, account, and the folder that appears."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import posixpath
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dkeras_core.data import mistakes
from dkeras_core.data.source import CORRUPT, Source, open_files, reading
from dkeras_core.data.staging import writing
from dkeras_core.errors import DataError, DkerasError, RegistryError
from dkeras_core.registry import Registry
from dkeras_core.registry.cache import Cache, local_digest
from dkeras_core.registry.manifest import code_version
from dkeras_core.scoring import rows
from dkeras_core.scoring.listing import Listing
from dkeras_core.scoring.output import METADATA, Output
from dkeras_core.scoring.request import ScoreRequest, new_scoring_id
from dkeras_core.storage import Storage, open_storage
from dkeras_core.training.causes import cause

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from dkeras_core.data.features import FeaturePipeline

FORMAT = 1


class Teller(Protocol):
    """Who is told how far it is; :class:`dkeras_core.jobs.progress.Progress` is one."""

    def phase(self, name: str) -> contextlib.AbstractContextManager[dict]: ...

    def update(self, **values) -> None: ...


class _Silent:
    """Tells nobody."""

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict]:
        yield {}

    def update(self, **values) -> None:
        pass


def score(
    spark: SparkSession,
    registry: Registry,
    request: ScoreRequest,
    tell: Teller | None = None,
    *,
    run: str | None = None,
    cache: Cache | None = None,
) -> dict:
    """Score the rows of ``request.input`` into ``request.output``; return what ``_dkeras.json`` there says.

    Parameters
    ----------
    spark : session whose default file system is that of plain paths.
    registry : where the version is.
    tell : told the phases ``model``, ``score`` and ``check``, and how far it is.
    run : id of this scoring, a new one by default; names what is being built.
    cache : where a local copy of the version is kept for the next time; without it, a temporary folder.

    Raises
    ------
    RegistryError
        The version is damaged, not the one that was resolved, or has no feature pipeline.
    DataError
        The input is missing, damaged, lacks columns, holds values that are no numbers, changed meanwhile, or rows were
        lost.
    PathExists, ConfigError
        The output is taken, or overlaps with the input.
    StorageError
        The file system refused. Nothing is left of the attempt in any of these cases.
    """
    begun, tell, run = time.monotonic(), tell or _Silent(), run or new_scoring_id(request.model)
    source_storage = open_storage(request.input, spark=spark)
    output = Output(open_storage(request.output, spark=spark), request.output, run, request.overwrite)
    output.recover()
    output.check(request.input, source_storage)
    with contextlib.ExitStack() as stack:
        with tell.phase("model") as outcome:
            model = stack.enter_context(_held(registry, request, cache))
            outcome["detail"] = f"{request.model}@{request.version}, every file verified"
            # In this process too: a version that does not load is said once, and not by every executor.
            loaded = rows.load_folder(model, request.digest, request.modules)
            archive = _ship(spark, model, request)
        with tell.phase("score") as outcome:
            listed = Listing.of(source_storage, request.input)
            source = open_files(spark, source_storage, request.input, listed.kind)
            outputs = rows.values_of(loaded.model, f"{request.model}@{request.version}")
            added = rows.score_columns(request.column, outputs)
            written_as = request.format or listed.kind
            rows.check(source, loaded.pipeline, added, written_as, f"{request.model}@{request.version}")
            scorer = rows.Scorer(request.digest, archive, tuple(loaded.pipeline.columns), outputs, request.modules)
            staging = stack.enter_context(output.building())
            work = _Work(spark, source, loaded.pipeline, scorer, added, output.uri(staging.path), written_as)
            counts = work.run(tell)
            seconds = time.monotonic() - begun
            outcome["detail"] = f"{counts['rows']:,} rows"
        with tell.phase("check") as outcome:
            _account(work, counts, source_storage)
            listed.refuse_change(source_storage)
            files = _sizes(output.storage, staging.path)
            found = _metadata(spark, registry, request, listed, run) | {
                "output": output.path,
                "columns": {"kept": rows.kept_columns(source), "added": added},
                "rows": {"in": counts["rows"], "out": counts["rows"]},
                "files": files,
                "seconds": round(seconds, 2),
            }
            text = json.dumps(found, indent=1, ensure_ascii=False).encode()
            output.storage.write_bytes(f"{staging.path}/{METADATA}", text)
            output.commit(staging)
            outcome["detail"] = f"{counts['rows']:,} rows in, as many out"
    return found


@contextlib.contextmanager
def _held(registry: Registry, request: ScoreRequest, cache: Cache | None) -> Iterator[Path]:
    """A verified local copy of the version that was resolved."""
    version = registry.version(request.model, request.version)
    if cache is not None:
        with cache.held(version, request.digest) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="dkeras-version-") as temporary:
        folder = version.fetch(Path(temporary, "version"))
        if local_digest(folder) != request.digest:
            raise RegistryError(
                f"{version} [{version.path}] is not what it was when this scoring was asked for",
                "Do not use this version: a version never changes.",
            )
        yield folder


def _ship(spark: SparkSession, folder: Path, request: ScoreRequest) -> str:
    """Have Spark bring the version to every executor; return the name of the folder it is unpacked to there.

    The packed file stays as long as the session does: Spark hands it to executors that come later, too.
    """
    from pyspark import SparkFiles

    name = f"{request.model}-{request.version}-{request.digest[:16]}"
    packed = Path(SparkFiles.getRootDirectory(), f"{name}.zip")
    if not packed.exists():
        partial = packed.with_suffix(".tmp")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
        partial.replace(packed)
        spark.sparkContext.addArchive(f"{packed.as_uri()}#{name}")
    return name


@dataclass
class _Work:
    """The pass over the rows, into the folder that is being built."""

    spark: SparkSession
    source: Source
    pipeline: FeaturePipeline
    scorer: rows.Scorer
    added: list[str]
    target: str
    format: str

    def run(self, tell: Teller) -> dict[str, int]:
        """Write all rows; return how many were read, and how many lines of them did not fit the header."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F

        seen, counter = Observation(), self.spark.sparkContext.accumulator(0)
        corrupt = F.col(f"`{CORRUPT}`").isNotNull() if CORRUPT in self.source.frame.columns else F.lit(False)
        counts = F.count(F.lit(1)).alias("rows"), F.count_if(corrupt).alias("corrupt")
        frame = self.source.frame.observe(seen, *counts)
        scored = rows.with_scores(frame, self.source, self.pipeline, self.scorer, self.added, counter)
        try:
            with _watched(self.spark, counter, tell), reading(self.source.name), writing(self.target):
                self._write(scored)
        except DkerasError:
            raise
        except Exception as error:
            found = cause(error)
            if isinstance(found, DataError):  # a worker knows its batch only: where the value stands is looked for
                found = rows.diagnose(self.source, self.pipeline) or found
            if found is error:
                raise
            raise found from error
        return dict(seen.get)

    def _write(self, scored: DataFrame) -> None:
        writer = scored.write.mode("append")  # the folder is there: it holds the sign of life
        if self.format == "csv":
            writer.csv(self.target, header=True)
        else:
            writer.parquet(self.target)

    def written(self) -> int:
        """Count the rows that stand in the files."""
        if self.format == "csv":
            return self.spark.read.csv(self.target, header=True).count()
        return self.spark.read.parquet(self.target).count()


@contextlib.contextmanager
def _watched(spark: SparkSession, counter, tell: Teller) -> Iterator[None]:
    """Tell about once a second how many parts and rows are done."""
    tracker, ended, begun = spark.sparkContext.statusTracker(), threading.Event(), time.monotonic()

    def watch() -> None:
        while not ended.wait(0.7):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            parts = sum(stage.numTasks for stage in stages if stage)
            done, scored = sum(stage.numCompletedTasks for stage in stages if stage), counter.value
            if parts:
                rate = scored / (time.monotonic() - begun)
                said = f", {scored:,} rows, {rate:,.0f} rows/s" if scored else ""
                tell.update(message=f"{done} of {parts} parts{said}", rows=scored, rows_per_second=rate)

    thread = threading.Thread(target=watch, name="score-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def _account(work: _Work, counts: dict[str, int], storage: Storage) -> None:
    """Make sure that what was read is what was written.

    Raises
    ------
    DataError
        Lines that do not fit the header, no rows at all, or rows that were lost or doubled.
    """
    if counts["corrupt"]:
        mistakes.refuse_lines(counts["corrupt"], work.source, storage)
    if not counts["rows"]:
        raise DataError(f"{work.source.name} holds no rows", "copy the data again from their source")
    written = work.written()
    if written != counts["rows"]:
        raise DataError(
            f"rows were lost or doubled: {counts['rows']:,} read, {written:,} written",
            "the input was changed while it was read: start again when nothing writes to it",
        )


def _metadata(spark: SparkSession, registry: Registry, request: ScoreRequest, listed: Listing, run: str) -> dict:
    """What is known before the rows are read."""
    return {
        "format": FORMAT,
        "model": {
            "name": request.model,
            "version": request.version,
            "alias": request.alias,
            "digest": request.digest,
            "path": registry.at(request.model, request.version).path,
        },
        "input": {
            "path": request.input,
            "format": listed.kind,
            "files": len(listed.files),
            "bytes": sum(size for _, size, _ in listed.files),
        },
        "environment": request.environment,
        "code": code_version(),
        "application": spark.sparkContext.applicationId,
        "run": run,
        "user": os.environ.get("HADOOP_USER_NAME") or os.environ.get("SPARK_USER") or getpass.getuser(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _sizes(storage: Storage, folder: str) -> dict[str, int]:
    return {
        posixpath.relpath(file.path, storage.clean(folder)): file.size
        for file in storage.walk(folder)
        if not file.name.startswith(("_", "."))
    }
