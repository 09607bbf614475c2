"""Windows over the pieces of the rows."""

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.columns import Column
from dkeras_core.data.pieces import PieceFeed
from dkeras_core.data.spool import Spool


@pytest.fixture(params=["mixed", "sorted"])
def spool(request, tmp_path):
    """100 rows, of which row r belongs to piece 0, 3 or 7."""
    pieces = np.array([0, 3, 7], np.int32)[np.random.default_rng(0).integers(0, 3, 100)]
    if request.param == "sorted":
        pieces.sort()
    batch = pa.RecordBatch.from_pydict(
        {"x": np.arange(100, dtype=np.float32), "y": np.arange(100, dtype=np.float32) * 2, "piece": pieces}
    )
    with Spool.create(tmp_path, [Column("x"), Column("y"), Column("piece", "int32")]) as made:
        made.append(batch)
        yield made.seal()


def test_each_piece_is_all_of_its_rows_once_in_their_order(spool):
    feed = PieceFeed(spool, piece="piece", features="x", label="y", batch_size=4, communication_period=3)
    numbers = spool.arrays["piece"]
    assert feed.sizes == {piece: int((numbers == piece).sum()) for piece in (0, 3, 7)}
    for piece in (7, 0, 7, 3):
        seen = [(w.features.copy(), w.labels.copy(), w.steps) for w in feed.windows(piece)]
        rows = np.concatenate([features.ravel() for features, _, _ in seen])
        np.testing.assert_array_equal(rows, np.flatnonzero(numbers == piece))
        np.testing.assert_array_equal(np.concatenate([labels.ravel() for _, labels, _ in seen]), 2 * rows)
        assert max(steps for _, _, steps in seen) == 3
