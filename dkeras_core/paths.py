"""Where everything stands below the root folder in HDFS (or in a local folder): the one place that knows the layout.

::

    <root>/envs/train-<key>.tar.gz          immutable, content-addressed, world-readable
    <root>/data/<dataset>/<fingerprint>/    preprocessed Parquet, the fitted feature pipeline, _SUCCESS
    <root>/runs/<run id>/                   pipeline.yaml, progress.json, result.json, metrics.json,
                                            model/, events/, report.html
    <root>/models/<name>/versions/<n>/      immutable versions
    <root>/models/<name>/aliases/<alias>    a small file naming a version
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def new_run_id(pipeline: str) -> str:
    """Return a run id that sorts by time: ``<pipeline>-<UTC>-<hex>``."""
    return f"{pipeline}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Layout:
    """Paths below ``root`` (no trailing slash); pure string work, knows no file system."""

    root: str

    def __post_init__(self):
        object.__setattr__(self, "root", self.root.rstrip("/"))

    def env_archive(self, key: str) -> str:
        return f"{self.root}/envs/train-{key}.tar.gz"

    def spark_archive(self, version: str) -> str:
        return f"{self.root}/envs/spark-jars-{version}.zip"

    def raw(self, dataset: str) -> str:
        return f"{self.root}/raw/{dataset}"

    def dataset(self, dataset: str, fingerprint: str) -> str:
        return f"{self.root}/data/{dataset}/{fingerprint}"

    def runs(self) -> str:
        return f"{self.root}/runs"

    def run(self, run_id: str) -> str:
        return f"{self.root}/runs/{run_id}"

    def staging(self, run_id: str) -> str:
        """What spark-submit uploads for the run's application; removed when that has ended."""
        return f"{self.root}/runs/{run_id}/staging"

    def model(self, name: str) -> str:
        return f"{self.root}/models/{name}"

    def versions(self, name: str) -> str:
        return f"{self.root}/models/{name}/versions"

    def alias(self, name: str, alias: str) -> str:
        return f"{self.root}/models/{name}/aliases/{alias}"
