"""Where everything stands below the root folder in HDFS (or in a local folder): the one place that knows the layout.

::

    <root>/envs/train-<key>.tar.gz          immutable, content-addressed, world-readable
    <root>/data/<dataset>/<fingerprint>/    preprocessed Parquet, the fitted feature pipeline, _SUCCESS
    <root>/runs/<run id>/                   pipeline.yaml, progress.json, result.json, metrics.json,
                                            model/, events/, report.html
    <root>/models/<name>/versions/<n>/      immutable versions
    <root>/models/<name>/aliases/<alias>    a small file naming a version
    <root>/models/<name>/audit/<id>.json    one entry for each change, never changed itself
    <root>/models/<name>/marks/<n>.json     tags of a version, and whether it is archived
    <root>/models/<name>/tombstones/<n>.json  what is left of a version that was deleted
    <root>/models/index.html                the page of all models
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

    def models(self) -> str:
        return f"{self.root}/models"

    def model(self, name: str) -> str:
        return f"{self.root}/models/{name}"

    def versions(self, name: str) -> str:
        return f"{self.root}/models/{name}/versions"

    def aliases(self, name: str) -> str:
        return f"{self.model(name)}/aliases"

    def alias(self, name: str, alias: str) -> str:
        return f"{self.aliases(name)}/{alias}"

    def audit(self, name: str) -> str:
        return f"{self.model(name)}/audit"

    def leases(self, name: str) -> str:
        """Who may change aliases, marks and tombstones now."""
        return f"{self.model(name)}/leases"

    def marks(self, name: str) -> str:
        return f"{self.model(name)}/marks"

    def mark(self, name: str, number: int) -> str:
        return f"{self.marks(name)}/{number}.json"

    def tombstones(self, name: str) -> str:
        return f"{self.model(name)}/tombstones"

    def tombstone(self, name: str, number: int) -> str:
        return f"{self.tombstones(name)}/{number}.json"

    def staged(self, name: str, entry: str) -> str:
        """The files of a change under way."""
        # Below leases/, because an operator must be able to move it away, which in the model's folder would let him
        # move versions/ and audit/ too.
        return f"{self.leases(name)}/.staged-{entry}"

    def catalog(self, name: str) -> str:
        """A cache of the manifests' summaries; never the truth."""
        return f"{self.model(name)}/catalog/summary.json"

    def index(self) -> str:
        """The page of all models."""
        return f"{self.models()}/index.html"
