import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dkeras_core.data.parquet import parquet_batches, parquet_rows
from dkeras_core.errors import DataError, PathMissing


@pytest.fixture
def folder(tmp_path):
    """Files of 10, 0 and 13 rows with two columns, and what Spark leaves beside them."""
    first = 0
    for name, rows in (("part-0", 10), ("part-1", 0), ("part-2", 13)):
        ids = np.arange(first, first + rows)
        pq.write_table(pa.table({"id": ids, "x": ids / 2}), tmp_path / f"{name}.parquet", row_group_size=4)
        first += rows
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_part-3.parquet").touch()
    return tmp_path


def ids(*args, **settings):
    batches = list(parquet_batches(*args, **settings))
    assert all(batch.schema.names == ["id"] for batch in batches)
    return [row for batch in batches for row in batch.column("id").to_pylist()]


@pytest.mark.parametrize("batch_rows", [1, 3, 10_000])
def test_every_worker_gets_each_nth_row(folder, batch_rows):
    assert parquet_rows(folder) == 23
    assert ids(folder, ["id"], batch_rows=batch_rows) == list(range(23))
    for worker in range(5):
        assert ids(folder, ["id"], worker, 5, batch_rows=batch_rows) == list(range(worker, 23, 5))
    assert ids(folder / "part-2.parquet", ["id"]) == list(range(10, 23))


def test_what_cannot_be_read(folder, tmp_path):
    with pytest.raises(PathMissing, match="nothing does not exist"):
        ids(tmp_path / "nothing", ["id"])
    with pytest.raises(DataError, match=r"part-0\.parquet has no column 'y'; it has id, x"):
        ids(folder, ["id", "y"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no Parquet files"):
        parquet_rows(tmp_path / "empty")
    whole = (folder / "part-0.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"part-1\.parquet cannot be read as Parquet"):
        ids(folder, ["id"])
    (folder / "part-1.parquet").write_bytes(whole[:4] + bytes(100) + whole[104:])
    with pytest.raises(DataError, match=r"part-1\.parquet cannot be read as Parquet"):
        ids(folder, ["id"])
