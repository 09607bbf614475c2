"""What every step of a job has in hand: the Spark session, the file system, the pipeline and the run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, PathMissing
from dkeras_core.paths import Layout

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from dkeras_core.jobs.progress import Progress
    from dkeras_core.storage.base import Storage

STEPS = ("preprocess", "train", "evaluate", "publish")


@dataclass(frozen=True)
class Context:
    """One run of some steps of a pipeline.

    ``results`` holds what the steps of this run have produced, under the step's name; what an earlier application
    of the same run produced is read from the run's folder.
    """

    spark: SparkSession
    storage: Storage
    pipeline: Pipeline
    run_id: str
    progress: Progress
    results: dict[str, Any]
    archive: str | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.pipeline.root)

    @property
    def folder(self) -> str:
        return self.layout.run(self.run_id)

    @property
    def environment_key(self) -> str | None:
        """The key in the archive's name: ``train-<key>.tar.gz``."""
        return self.archive.rsplit("/", 1)[-1].removeprefix("train-").removesuffix(".tar.gz") if self.archive else None

    @property
    def application(self) -> str:
        return self.spark.sparkContext.applicationId

    def uri(self, path: str) -> str:
        """Return a path with its file system in front, as ``hdfs dfs`` and people elsewhere need it."""
        return f"{self.spark.sparkContext._jsc.hadoopConfiguration().get('fs.defaultFS').rstrip('/')}{path}"

    def write_json(self, name: str, value: dict) -> None:
        """Write ``<run>/<name>.json`` atomically."""
        self.storage.write_atomic(f"{self.folder}/{name}.json", json.dumps(value, indent=1).encode())

    def read_json(self, name: str, step: str) -> dict:
        """Read ``<run>/<name>.json``; a missing one names the ``step`` that makes it."""
        try:
            return json.loads(self.storage.read_bytes(f"{self.folder}/{name}.json"))
        except PathMissing:
            raise ConfigError(
                f"run {self.run_id} has no {name}.json: its step {step!r} has not run",
                f"run `dkeras submit PIPELINE --run {self.run_id} --step {step}` first, or name the run that has it",
            ) from None
