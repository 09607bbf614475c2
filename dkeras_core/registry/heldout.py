"""The test split that a version was judged on, found again by its lineage and read without Spark.

The split is part of the data set ``<root>/data/<pipeline>/<fingerprint>`` (docs/data.md). It keeps the raw columns, so
any version can be scored on it with feature numbers of its own. Rows stand in the order of a hash of their key, and
files hold equal shares of it, so the first files are a random sample of the rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkeras_core.data.dataset import DatasetInfo
from dkeras_core.errors import DataError, PathMissing
from dkeras_core.registry.manifest import Manifest
from dkeras_core.registry.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

RAW = "raw"


@dataclass(frozen=True)
class HeldOut:
    """Rows of a test split.

    Attributes
    ----------
    path : the split's folder.
    raw : the raw columns, n rows.
    labels : float64[n], 0 or 1.
    weights : float64[n].
    total : rows of the whole split; n or more.
    class_totals : sum of the weights of each class over all splits, as the AMS needs them.
    """

    path: str
    raw: pa.Table
    labels: np.ndarray
    weights: np.ndarray
    total: int
    class_totals: dict[str, float]

    @property
    def rows(self) -> str:
        """How many rows they are, in words."""
        n = len(self.labels)
        return f"{n:,} rows" if n == self.total else f"{n:,} of {self.total:,} rows"

    def write(self, path: Path) -> Path:
        """Write the raw columns as an Arrow file."""
        import pyarrow as pa

        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.raw.schema) as writer:
            writer.write_table(self.raw)
        return path


def read(registry: Registry, manifest: Manifest, folder: Path, limit: int) -> HeldOut:
    """Return the test split of the run that made a version.

    Parameters
    ----------
    folder : Path
        Where its files are downloaded to.
    limit : int
        Rows at most; files are left out once there are so many.

    Raises
    ------
    DataError
        The lineage names no data set, or that is gone, or it is not what was written.
    """
    from pyarrow import ArrowException

    lineage, storage = manifest.lineage, registry.storage
    if not lineage.pipeline or not lineage.data_fingerprint:
        raise DataError("the version's lineage names no data set, so there is no test split to compare on")
    base = registry.layout.dataset(lineage.pipeline, lineage.data_fingerprint)
    try:
        text = storage.read_bytes(f"{base}/dataset.json")
        info, sizes = DatasetInfo.from_json(text), json.loads(text)["files"]
        found = [status for status in storage.list(f"{base}/test") if status.name.endswith(".parquet")]
    except PathMissing:
        raise DataError(
            f"the test split of the version's run is gone ({base}/test)",
            f"Preprocess {lineage.data_path or 'its data'} again: the same data and settings give the same split.",
        ) from None
    there = {f"test/{status.name}": status.size for status in found}
    if there != {name: size for name, size in sizes.items() if name.startswith("test/") and name.endswith(".parquet")}:
        raise DataError(f"the files in {base}/test are not those that were written", "Preprocess the data again.")
    tables, rows = [], 0
    try:
        for i, status in enumerate(found):
            if rows < limit:
                storage.download(status.path, folder / f"test-{i}.parquet")
                tables.append(_columns(folder / f"test-{i}.parquet", base))
                rows += tables[-1].num_rows
    except ArrowException as error:
        raise DataError(f"{base}/test cannot be read: {error}", "Preprocess the data again.") from error
    return _assembled(tables, info, f"{base}/test", limit)


def _columns(path: Path, base: str) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if RAW not in file.schema_arrow.names:
            raise DataError(f"{base}/test keeps no raw columns", "Preprocess the data again.")
        return file.read(["label", "weight", RAW])


def _assembled(tables: list[pa.Table], info: DatasetInfo, path: str, limit: int) -> HeldOut:
    import pyarrow as pa

    if not tables or not info.rows["test"]:
        raise DataError(f"{path} holds no rows", "See the settings of the split in the pipeline file.")
    whole = pa.concat_tables(tables)
    if whole.num_rows != info.rows["test"] and whole.num_rows < limit:
        raise DataError(
            f"{path} holds {whole.num_rows:,} rows, the preprocessing wrote {info.rows['test']:,}",
            "Preprocess the data again.",
        )
    whole = whole.slice(0, limit).combine_chunks()
    raw = whole.column(RAW).combine_chunks()
    raw = raw.chunk(0) if isinstance(raw, pa.ChunkedArray) else raw
    return HeldOut(
        path,
        pa.table(raw.flatten(), names=[field.name for field in raw.type]),
        np.asarray(whole.column("label"), np.float64),
        np.asarray(whole.column("weight"), np.float64),
        info.rows["test"],
        {name: info.classes[name]["weight"]["in"] for name in ("positive", "negative")},
    )
