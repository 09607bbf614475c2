import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Column, Spool
from dkeras_core.errors import ConfigError, DataError, TrainingError

ROW = 2 * 4 + 4 + 4  # bytes of a row: two features, label, weight


@pytest.fixture
def spooled(tmp_path):
    spools = []

    def make(rows):
        ids = np.arange(rows, dtype=np.float32)
        spool = Spool.create(tmp_path, [Column("features", shape=(2,)), Column("label"), Column("weight")])
        spools.append(spool)
        features = pa.FixedSizeListArray.from_arrays(np.stack([ids, -ids], 1).reshape(-1), 2)
        spool.append(pa.record_batch({"features": features, "label": ids, "weight": ids * 2}))
        return spool.seal(rows)

    yield make
    for spool in spools:
        spool.close()


def epoch(feed, number=0, first=None):
    """Return (shapes, ids): shape of each window, row numbers in order; checks that the columns stay together."""
    shapes, ids = [], []
    for window in feed.windows(number, first):
        shapes.append(window.labels.shape)
        assert window.features.shape == (*window.labels.shape, 2)
        assert window.features.flags.c_contiguous
        assert (window.steps, window.rows) == (window.labels.shape[0], window.labels.size)
        np.testing.assert_array_equal(window.features[..., 0], window.labels)
        np.testing.assert_array_equal(window.features[..., 1], -window.labels)
        if window.weights is not None:
            np.testing.assert_array_equal(window.weights, window.labels * 2)
        ids.extend(window.labels.ravel().astype(int))
    return shapes, ids


def expected_shapes(rows, batch, tau, first=None):
    shapes = []
    if first not in (None, tau) and rows >= batch * first:
        shapes, rows = [(first, batch)], rows - batch * first
    full, rest = divmod(rows, batch * tau)
    shapes += [(tau, batch)] * full
    if rest >= batch:
        shapes.append((rest // batch, batch))
    if rest % batch:
        shapes.append((1, rest % batch))
    return shapes


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("memory", [1 << 20, 100 * ROW], ids=["fits", "blocks"])
@pytest.mark.parametrize("rows", [1, 3, 4, 11, 12, 13, 24, 35, 101, 997, 1200])
def test_every_row_once(spooled, rows, memory, prefetch):
    feed = Feed(
        spooled(rows), batch_size=4, communication_period=3, weight="weight", memory=memory, prefetch=prefetch, seed=5
    )
    orders = []
    for number in range(2):
        shapes, ids = epoch(feed, number)
        assert shapes == expected_shapes(rows, 4, 3)
        assert sorted(ids) == list(range(rows))
        orders.append(ids)
    assert feed.steps == -(-rows // 4)
    if rows > 10:
        assert orders[0] != orders[1]
        assert orders[0] != list(range(rows))


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("memory", [1 << 20, 100 * ROW], ids=["fits", "blocks"])
@pytest.mark.parametrize("rows", [8, 9, 24, 101, 1003])
def test_an_epoch_may_begin_with_a_short_window(spooled, rows, memory, prefetch):
    feed = Feed(spooled(rows), batch_size=4, communication_period=3, memory=memory, prefetch=prefetch)
    for first in (1, 2, 3):
        shapes, ids = epoch(feed, 0, first)
        assert shapes == expected_shapes(rows, 4, 3, first)
        assert sorted(ids) == list(range(rows))
    assert epoch(feed, 0, 3) == epoch(feed, 0)
    for wrong in (0, 4):
        with pytest.raises(ConfigError, match=f"1 to 3 batches, not {wrong}"):
            next(feed.windows(0, wrong))


def test_random_sizes(spooled):
    random = np.random.default_rng(0)
    for _ in range(60):
        rows, batch, tau = (int(random.integers(1, top)) for top in (700, 40, 12))
        memory = int(random.integers(2 * batch * tau, 800)) * ROW if 2 * batch * tau < 800 else 1 << 20
        spool = spooled(rows)
        feed = Feed(spool, batch_size=batch, communication_period=tau, memory=memory, prefetch=int(rows % 3))
        shapes, ids = epoch(feed)
        assert shapes == expected_shapes(rows, batch, tau)
        assert sorted(ids) == list(range(rows))
        spool.close()


@pytest.mark.parametrize("memory", [1 << 20, 100 * ROW], ids=["fits", "blocks"])
def test_the_order_follows_seed_and_epoch(spooled, memory):
    spool = spooled(500)

    def order(seed, number, prefetch=2):
        return epoch(
            Feed(spool, batch_size=4, seed=seed, memory=memory, prefetch=prefetch, communication_period=3), number
        )[1]

    assert order(1, 0) == order(1, 0) == order(1, 0, prefetch=0)
    assert len({tuple(order(*key)) for key in ((1, 0), (1, 1), (2, 0), (0, 1))}) == 4


def test_blocks_are_mixed(spooled):
    # Neighbours in the file must not stay neighbours: the mean step between successive rows is near a third of a
    # buffer at least, and early rows turn up everywhere.
    _, ids = epoch(Feed(spooled(5000), batch_size=4, communication_period=3, memory=1000 * ROW))
    assert np.abs(np.diff(ids)).mean() > 700
    places = np.flatnonzero(np.array(ids) < 500)
    assert places.max() - places.min() > 3000


def test_several_inputs_keep_their_order(tmp_path):
    with Spool.create(tmp_path, [Column("a", "uint8", (2,)), Column("b"), Column("label", "int32")]) as spool:
        table = {"a": pa.array([[i, i] for i in range(9)]), "b": pa.array(range(9)), "label": pa.array(range(9))}
        spool.append(pa.record_batch(table))
        spool.seal()
        for window in Feed(spool, batch_size=2, communication_period=2, features=["b", "a"]).windows(0):
            b, a = window.features
            assert (a.dtype, b.dtype, window.labels.dtype, window.weights) == (np.uint8, np.float32, np.int32, None)
            np.testing.assert_array_equal(b, window.labels)
            np.testing.assert_array_equal(a[..., 1], window.labels)


def test_several_outputs_keep_their_order(tmp_path):
    columns = [Column("x"), Column("kind", "int32"), Column("size", shape=(2,)), Column("weight")]
    with Spool.create(tmp_path, columns) as spool:
        ids = pa.array(range(9))
        table = {"x": ids, "kind": ids, "size": pa.array([[i, -i] for i in range(9)]), "weight": ids}
        spool.append(pa.record_batch(table))
        spool.seal()
        feed = Feed(spool, batch_size=2, communication_period=2, features="x", label=("size", "kind"), weight="weight")
        rows = 0
        for window in feed.windows(0):
            size, kind = window.labels
            assert (kind.dtype, size.shape) == (np.int32, (*kind.shape, 2))
            np.testing.assert_array_equal(kind, window.features)
            np.testing.assert_array_equal(size[..., 1], -window.features)
            np.testing.assert_array_equal(window.weights, window.features)
            assert (window.steps, window.rows) == (kind.shape[0], kind.size)
            rows += window.rows
        assert rows == 9


def test_a_sequence_of_one_stays_a_tuple(spooled):
    window = next(Feed(spooled(5), features=["features"], label=["label"]).windows(0))
    assert [type(part) for part in window] == [tuple, tuple, type(None)]


def test_a_column_may_be_input_and_label(tmp_path):
    with Spool.create(tmp_path, [Column("x", shape=(2,)), Column("x", shape=(2,))]) as spool:
        spool.append(pa.record_batch({"x": pa.array([[i, 2 * i] for i in range(7)])}))
        spool.seal()
        for window in Feed(spool, features="x", label="x").windows(0):
            np.testing.assert_array_equal(window.features, window.labels)


def test_a_window_stays_untouched_until_the_next_is_asked_for(spooled):
    feed = Feed(spooled(3000), batch_size=4, communication_period=3, prefetch=2)
    for number, window in enumerate(feed.windows(0)):
        before = window.labels.copy()
        if number < 5:
            time.sleep(0.01)  # the thread has filled what it may
        np.testing.assert_array_equal(window.labels, before)


def test_the_thread_ends_with_the_epoch_and_when_it_is_left_early(spooled):
    feed = Feed(spooled(3000), batch_size=4, communication_period=3, prefetch=2)
    threads = threading.active_count()
    windows = feed.windows(0)
    next(windows)
    assert threading.active_count() == threads + 1
    windows.close()
    assert threading.active_count() == threads
    for _ in feed.windows(1):
        pass
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("batch_size", "memory", "threads"),
    [(4, 1 << 22, 0), (7_500, 1 << 22, 1), (4, 10_000, 1)],
    ids=["small windows in memory", "large windows", "rows that do not fit into memory"],
)
def test_a_thread_gathers_where_that_is_worth_it(spooled, batch_size, memory, threads):
    feed = Feed(spooled(120_000), batch_size=batch_size, communication_period=3, memory=memory)
    before = threading.active_count()
    with closing(feed.windows(0)) as windows:
        next(windows)
        assert threading.active_count() == before + threads


def test_a_failure_of_the_thread_reaches_the_caller(spooled, monkeypatch):
    feed = Feed(spooled(100), batch_size=4, communication_period=3, prefetch=2)
    monkeypatch.setattr(feed, "_shuffled", lambda *_: iter([(feed._columns, [None, None])]))
    threads = threading.active_count()
    with pytest.raises(TypeError):
        list(feed.windows(0))
    assert threading.active_count() == threads


def test_lost_rows_are_noticed(spooled, monkeypatch):
    feed = Feed(spooled(100), batch_size=4, communication_period=3)
    monkeypatch.setattr(feed, "_shuffled", lambda *_: iter([(feed._columns, np.arange(99))]))
    with pytest.raises(TrainingError, match="handed out 99 rows of 100"):
        list(feed.windows(0))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch size 0"),
        ({"communication_period": 0}, ConfigError, "communication period 0"),
        ({"prefetch": -1}, ConfigError, "prefetch -1"),
        ({"features": []}, ConfigError, "at least one input column"),
        ({"label": ()}, ConfigError, "one label column"),
        ({"label": "labels"}, DataError, "no column 'labels'; it has features, label, weight"),
        ({"memory": 100}, ConfigError, "100 bytes of shuffle buffer hold 8 rows, two windows are 640"),
    ],
)
def test_bad_settings(spooled, settings, error, message):
    with pytest.raises(error, match=message):
        Feed(spooled(1000), **settings)


def test_no_rows(spooled):
    with pytest.raises(DataError, match="no rows"):
        Feed(spooled(0))


MEMORY = """
import sys
import numpy as np, pyarrow as pa
from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Column, Spool

def peak():  # of resident memory, pages of files included, in MB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1e3

rows, ends = 1000, np.arange(0, 1001, dtype=np.int32)
if sys.argv[2] == "dense":
    column = Column("x", shape=(100,))
    x = pa.FixedSizeListArray.from_arrays(np.ones(rows * 100, np.float32), 100)
else:
    column = Column("x", shape=(1000,), sparse=True)
    indices = pa.ListArray.from_arrays(ends * 50, np.tile(np.arange(0, 1000, 20, dtype=np.int32), rows))
    values = pa.ListArray.from_arrays(ends * 50, np.ones(rows * 50))
    parts = [pa.array(np.zeros(rows, np.int8)), pa.array(np.full(rows, 1000, np.int32)), indices, values]
    x = pa.StructArray.from_arrays(parts, names=["type", "size", "indices", "values"])
batch = pa.record_batch({"x": x, "label": np.ones(rows, np.float32)})
spool = Spool.create(sys.argv[1], [column, Column("label")])
spool.append(batch)
start = peak()
for _ in range(500):
    spool.append(batch)
spool.seal()
written = peak() - start
for _ in Feed(spool, features="x", memory=8 << 20).windows(0):
    pass
fed = peak() - start
assert spool.nbytes > 200e6
assert written < 4, f"spooling took {written:.0f} MB"
assert fed < 20, f"feeding took {fed:.0f} MB"
"""


@pytest.mark.parametrize("kind", ["dense", pytest.param("sparse", marks=pytest.mark.slow)])
def test_memory_stays_bounded(tmp_path, kind):
    # 200 MB of rows in ten times less memory, in a process of its own.
    script = [sys.executable, "-c", MEMORY, str(tmp_path), kind]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
