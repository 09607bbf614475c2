"""Spark ML vectors: dense and sparse mixed, kept dense or sparse, and damaged ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.arrow import to_rows
from dkeras_core.data.columns import Column, columns_of
from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Spool
from dkeras_core.errors import DataError

WIDTH = 7


@pytest.fixture
def mixed(vectors):
    """(vectors, the same as float64[rows, WIDTH]): a random mixture with empty and full rows."""

    def make(rows, kinds=("dense", "sparse"), seed=0):
        random = np.random.default_rng(seed)
        table = random.integers(1, 100, (rows, WIDTH)) * (random.random((rows, WIDTH)) < random.random((rows, 1)))
        given = []
        for row in table.astype(float):
            kept = np.flatnonzero(row)
            given.append(row if random.choice(kinds) == "dense" else (WIDTH, kept, row[kept]))
        return vectors(given), table

    return make


@pytest.mark.parametrize("kinds", [("dense",), ("sparse",), ("dense", "sparse")], ids="-".join)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("start", "rows"), [(0, 50), (9, 20), (50, 0)])
def test_rows_are_those_of_the_vectors(mixed, kinds, sparse, start, rows):
    given, table = mixed(50, kinds)
    batch = pa.record_batch({"x": given}).slice(start, rows)
    found = to_rows(batch, Column("x", "float32", (WIDTH,), sparse), 0)
    if sparse:
        assert len(found) == rows and len(found.values) == np.count_nonzero(table[start : start + rows])
        out = np.full((rows, WIDTH), np.nan, np.float32)
        found.dense(np.arange(rows), out)
        found = out
    assert (found.dtype, found.shape) == (np.float32, (rows, WIDTH))
    np.testing.assert_array_equal(found, table[start : start + rows])


def test_vectors_for_a_shape(mixed):
    given, table = mixed(5)
    rows = to_rows(pa.record_batch({"x": given}), Column("x", "float64", (WIDTH, 1)), 0)
    np.testing.assert_array_equal(rows, table[..., None])


@pytest.mark.parametrize("memory", [1 << 20, 6000], ids=["fits", "blocks"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_sparse_rows_through_spool_and_feed(tmp_path, mixed, memory, prefetch):
    columns = [Column("x", shape=(WIDTH,), sparse=True), Column("id", "int32")]
    tables = []
    with Spool.create(tmp_path, columns) as spool:
        for seed, rows in enumerate((100, 0, 1, 399)):
            given, table = mixed(rows, seed=seed)
            ids = np.arange(spool.rows, spool.rows + rows, dtype=np.int32)
            spool.append(pa.record_batch({"x": given, "id": ids}))
            tables.append(table)
        table = np.concatenate(tables)
        spool.seal(500)
        stored = np.count_nonzero(table)
        assert spool.nbytes == stored * 8 + 501 * 8 + 500 * 4
        feed = Feed(
            spool, batch_size=4, communication_period=3, features="x", label="id", memory=memory, prefetch=prefetch
        )
        assert feed._rows_in_memory < 500 or memory > 6000
        for epoch in range(2):
            ids = []
            for window in feed.windows(epoch):
                assert window.features.shape == (*window.labels.shape, WIDTH)
                np.testing.assert_array_equal(window.features, table[window.labels])
                ids.extend(window.labels.ravel())
            assert sorted(ids) == list(range(500)) != ids


def test_a_buffer_grows_for_full_rows_that_come_together(tmp_path, vectors):
    # Ten rows store a hundred times the mean: where two of them meet, the buffer made for the mean is too small.
    width = 5000
    rows = [(width, [i], [1.0]) for i in range(990)] + [np.ones(width)] * 10
    with Spool.create(tmp_path, [Column("x", shape=(width,), sparse=True), Column("id")]) as spool:
        spool.append(pa.record_batch({"x": vectors(rows), "id": np.arange(1000.0)}))
        spool.seal()
        feed = Feed(spool, batch_size=2, communication_period=2, features="x", label="id", memory=60_000)
        assert feed._rows_in_memory < 200
        sums = {}
        for window in feed.windows(0):
            sums.update(zip(window.labels.ravel(), window.features.sum(-1).ravel(), strict=True))
        assert [sums[i] for i in range(1000)] == [1] * 990 + [width] * 10


def test_an_empty_sparse_spool(tmp_path):
    with Spool.create(tmp_path, [Column("x", shape=(9,), sparse=True)]) as spool:
        assert spool.seal().arrays["x"].shape == (0, 9)


GOOD = (3, [1], [5.0])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, None], "'x', row 11: null"),
        ([GOOD, np.ones(4)], "row 11: 4 values, every row needs 3"),
        ([GOOD, (4, [1], [5.0])], "row 11: 4 values, every row needs 3"),
        ([GOOD, (3, [3], [5.0])], "row 11: a damaged sparse vector, an index is outside of 0 to 2"),
        ([GOOD, (3, [-1], [5.0])], "row 11: a damaged sparse vector, an index is outside"),
        ([GOOD, (3, [0, 1], [5.0])], "row 11: a damaged sparse vector, as many indices as values"),
        ([GOOD, (3, [2], [np.inf])], "row 11, value 2: inf is not a finite number"),
        ([np.ones(3), [0, np.nan, 0]], "row 11, value 1: nan is not a finite number"),
        ([GOOD, [0, 0, 1e300]], r"row 11, value 2: 1e\+300 does not fit float32"),
    ],
    ids=range(9),
)
def test_bad_vectors_are_named(vectors, rows, sparse, message):
    with pytest.raises(DataError, match=message) as caught:
        to_rows(pa.record_batch({"x": vectors(rows)}), Column("x", shape=(3,), sparse=sparse), 10)
    assert caught.value.next_step


def test_a_sparse_column_needs_vectors():
    with pytest.raises(DataError, match=r"'x' holds list<.*>, a sparse column needs Spark ML vectors"):
        to_rows(pa.record_batch({"x": pa.array([[1.0]])}), Column("x", shape=(1,), sparse=True), 0)


@pytest.mark.slow
def test_vectors_and_images_from_spark(spark, tmp_path):
    """What Spark itself hands to a worker is what these columns expect."""
    from pyspark.ml.image import ImageSchema
    from pyspark.ml.linalg import Vectors, VectorUDT
    from pyspark.sql.types import StructField, StructType

    columns = (Column("x", shape=(3,)), Column("w", shape=(5000,), sparse=True), Column("image", "uint8", (1, 2, 3)))

    def spooled(batches):
        with Spool.create(tmp_path, columns) as spool:
            for batch in batches:
                spool.append(batch)
            arrays = spool.seal().arrays
            wide = np.empty((spool.rows, 5000), np.float32)
            arrays["w"].dense(np.arange(spool.rows), wide)
            found = [arrays["x"].tolist(), np.argwhere(wide).tolist(), arrays["image"].tolist()]
        yield pa.record_batch({"found": [str(found)]})

    picture = ("", 1, 2, 3, 16, bytearray(b"abcdef"))
    rows = [
        (Vectors.dense(1.0, 2.0, 3.0), Vectors.sparse(5000, {4999: 1.0}), picture),
        (Vectors.sparse(3, [1], [4.0]), Vectors.sparse(5000, {2: 1.0, 5: 2.0}), picture),
    ]
    pixels = [[[97, 98, 99], [100, 101, 102]]]
    image = ImageSchema.imageSchema["image"].dataType
    schema = StructType([StructField(*field) for field in (("x", VectorUDT()), ("w", VectorUDT()), ("image", image))])
    frame = spark.createDataFrame(rows, schema).coalesce(1)
    [row] = frame.mapInArrow(spooled, "found string").collect()
    expected = [[[1.0, 2.0, 3.0], [0.0, 4.0, 0.0]], [[0, 4999], [1, 2], [1, 5]], [pixels, pixels]]
    assert row.found == str(expected)
    assert columns_of(frame.limit(1).toArrow(), ["x", "w", "image"]) == columns
