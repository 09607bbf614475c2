"""Every defect that was seen in dist-keras, and what would catch it here; each test runs the real thing.

| defect | test |
|---|---|
| shuffle=True always raises | test_epochs_are_shuffled |
| the server's port stays taken after a failed run | test_the_port_is_free_after_a_failed_run |
| workers print exceptions and return as if they succeeded | test_a_workers_exception_is_the_runs_failure |
| end of data is a queue's time-out | test_a_slow_disk_is_not_the_end_of_the_data |
| the last partial batch is dropped | test_the_last_partial_batch_is_trained |
| a partition is held in memory | test_a_partition_is_not_held_in_memory |
| the driver's address is gethostbyname(gethostname()) | test_the_address_is_the_one_that_reaches_spark |
| recv of b"" spins for ever | test_a_closed_connection_ends_the_reader |
| pull and commit are separate | test_exchanges_are_atomic; convergence/test_collapse.py shows what follows |
| alpha is 0.5 whatever p is | test_the_moving_rate_knows_the_workers |
| staleness is read outside the lock | test_staleness_is_that_of_the_moment |
| EAMSGD looks ahead in the wrong direction | test_eamsgd_looks_ahead_where_the_paper_does |
| pickle from the network | test_nothing_unpickles, test_a_pickle_from_a_stranger_is_refused |
| prediction one row at a time | test_prediction_is_vectorised |
| adding metrics drops the last worker | test_metrics_drop_no_worker |
| np.asarray of ragged weights fails | test_ragged_weights_are_one_vector |
"""

from __future__ import annotations

import ast
import gc
import pickle
import socket
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.data import feed as feed_module
from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Column, Spool
from dkeras_core.errors import TrainingError
from dkeras_core.exchange.channel import Channel, Disconnected
from dkeras_core.rules.dynsgd import DynSGD
from dkeras_core.rules.easgd import AsynchronousEASGD


@pytest.fixture
def spooled(tmp_path):
    """spooled(rows) -> a sealed spool whose only column counts its rows."""
    spools = []

    def make(rows):
        spool = Spool.create(tmp_path, [Column("features", shape=(1,)), Column("label")])
        values = np.arange(rows, dtype=np.float32)
        features = pa.FixedSizeListArray.from_arrays(pa.array(values), 1)
        spool.append(pa.RecordBatch.from_pydict({"features": features, "label": values}))
        spool.seal()
        spools.append(spool)
        return spool

    yield make
    for spool in spools:
        spool.close()


def order(feed, epoch):
    return np.concatenate([window.labels.ravel().copy() for window in feed.windows(epoch)])


def test_epochs_are_shuffled(spooled):
    feed = Feed(spooled(500), batch_size=32, communication_period=4, seed=1)
    first, second = order(feed, 0), order(feed, 1)
    assert sorted(first) == sorted(second) == list(range(500))
    assert (first != second).mean() > 0.9 and (first != np.arange(500)).mean() > 0.9


def test_the_last_partial_batch_is_trained(run, rows_of):
    parts = [[rows_of(70, 1)], [rows_of(33, 2)]]  # 2 batches of 32 and 6 rows; 1 batch and 1 row
    outcome, _ = run(parts, epochs=2)
    assert [worker["rows_trained"] for worker in outcome.account["workers"]] == [140, 66]
    assert [worker["steps"] for worker in outcome.account["workers"]] == [6, 4]


def test_a_slow_disk_is_not_the_end_of_the_data(spooled, monkeypatch):
    monkeypatch.setattr(feed_module, "_DEADLINE", 0.05)
    feed = Feed(spooled(500), batch_size=32, communication_period=4, seed=1, prefetch=2)
    shuffled = feed._shuffled

    def slowly(*arguments):
        time.sleep(0.2)
        yield from shuffled(*arguments)

    monkeypatch.setattr(feed, "_shuffled", slowly)
    with pytest.raises(TrainingError, match="no rows came from the spool"):
        list(feed.windows(0))


def test_a_partition_is_not_held_in_memory(tmp_path):
    rows, held = 20_000, []

    def batches():
        for _ in range(10):
            values = pa.array(np.zeros(rows * 16, np.float32).tolist(), pa.float32())  # in Arrow's own memory
            yield pa.RecordBatch.from_pydict({"features": pa.FixedSizeListArray.from_arrays(values, 16)})
            held.append(pa.total_allocated_bytes() - before)

    gc.collect()
    before = pa.total_allocated_bytes()
    with Spool.create(tmp_path, [Column("features", shape=(16,))]) as spool:
        for batch in batches():
            spool.append(batch)
        spool.seal()
        assert spool.rows == 10 * rows
        assert max(held) <= 2.5 * rows * 16 * 4  # the batch that is read and the one being written, not all ten
        assert not spool.arrays["features"].flags.owndata  # a view of the file's pages, which the system may drop


def test_the_port_is_free_after_a_failed_run(run, rows_of, thread_launcher, tmp_path):
    from dkeras_core.training.driver import ServerSettings

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    parts = [[rows_of(64, 1)], [rows_of(64, 2)]]
    for _ in range(2):  # the second run needs the port that the first one had
        launcher = thread_launcher(parts, tmp_path, fail={1: RuntimeError("the executor was killed")})
        with pytest.raises(RuntimeError, match="the executor was killed"):
            run(parts, launcher=launcher, server=ServerSettings(port=port))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_workers_exception_is_the_runs_failure(run, rows_of):
    broken = pa.RecordBatch.from_pydict({"features": [[1.0, 2.0]], "label": [1.0]})  # of another width
    with pytest.raises(Exception, match="features"):
        run([[rows_of(64, 1)], [broken]])


class Conf(dict):
    def getConf(self):
        return self


def test_the_address_is_the_one_that_reaches_spark(monkeypatch, serve):
    from dkeras_core.training.address import server_settings

    def wrong(name):
        raise AssertionError("the driver's address was looked up by its own name: 127.0.1.1 on Debian")

    monkeypatch.setattr(socket, "gethostbyname", wrong)
    spark = SimpleNamespace(sparkContext=Conf({"spark.driver.host": "driver.site", "spark.driver.bindAddress": "::1"}))
    settings = server_settings(spark)
    assert (settings.host, settings.advertise) == ("::1", "driver.site")
    assert serve(host="127.0.0.1", advertise="driver.site").address[0] == "driver.site"


def test_a_closed_connection_ends_the_reader():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    channel = Channel(ours, timeout=30.0)
    ended = []

    def read():
        try:
            channel.receive()
        except Disconnected as error:
            ended.append(error)

    thread = threading.Thread(target=read, daemon=True)  # a reader that spins must not keep the tests from ending
    thread.start()
    theirs.close()
    thread.join(5)
    assert not thread.is_alive() and len(ended) == 1
    channel.close()


def together(clients, work):
    """Run ``work(worker, client)`` in a thread for each client."""
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@dataclass(frozen=True, kw_only=True)
class Watching(AsynchronousEASGD):
    """Elastic averaging that lets other threads run between reading the center and adding to it."""

    missed: ClassVar[list] = []

    def apply(self, center, message, answer, state, arrival):
        sent = message.copy()
        np.subtract(message, center, out=answer)
        time.sleep(0.0005)
        np.add(center, answer, out=center)
        self.missed.append(float(np.abs(center - sent).max()))


def test_exchanges_are_atomic(serve, connect):
    """With alpha 1 the center is what was sent, unless somebody else committed in between; the sum is conserved."""
    Watching.missed.clear()
    rule, workers, exchanges = Watching(moving_rate=1.0), 4, 20
    server = serve(rule, size=512, workers=workers)  # two shards
    xs = [np.full(512, worker + 1, np.float32) for worker in range(workers)]

    def work(worker, client):
        for _ in range(exchanges):
            rule.receive(xs[worker], client.exchange(xs[worker]), {})
            xs[worker] += np.float32(0.01)

    together([connect(server, worker) for worker in range(workers)], work)
    assert len(Watching.missed) == workers * exchanges * 2 and max(Watching.missed) < 1e-5
    total = server.snapshot()[0] + np.sum(xs, axis=0)
    np.testing.assert_allclose(total, sum(range(workers + 1)) + workers * exchanges * 0.01, rtol=1e-4)


@dataclass(frozen=True, kw_only=True)
class Recording(DynSGD):
    """DynSGD that keeps what it was told, and lets other threads run in the middle of an exchange."""

    seen: ClassVar[list] = []

    def apply(self, center, message, answer, state, arrival):
        time.sleep(0.0005)
        super().apply(center, message, answer, state, arrival)
        self.seen.append((arrival.worker, arrival.exchanges, arrival.staleness))


def test_staleness_is_that_of_the_moment(serve, connect):
    """Counts without gap or repetition: read and raised under the shard's lock, as is the staleness made from them."""
    Recording.seen.clear()
    workers, exchanges = 4, 20
    server = serve(Recording(), size=8, workers=workers, shard=8)
    together(
        [connect(server, worker) for worker in range(workers)],
        lambda worker, client: [client.exchange(np.ones(8, np.float32)) for _ in range(exchanges)],
    )
    assert sorted(count for _, count, _ in Recording.seen) == list(range(workers * exchanges))
    last, stale = dict.fromkeys(range(workers), 0), []
    for worker, count, staleness in sorted(Recording.seen, key=lambda entry: entry[1]):
        assert staleness == count - last[worker]
        last[worker] = count + 1
        stale.append(staleness)
    assert max(stale) > 0


def test_the_moving_rate_knows_the_workers():
    for workers in (1, 4, 64):
        rule = rules.get("asynchronous_easgd", moving_rate="paper").for_workers(workers)
        assert rule.moving_rate == pytest.approx(0.9 / workers)
    assert rules.get("asynchronous_easgd").for_workers(64).moving_rate == 0.7  # safe: one request, atomic


def test_eamsgd_looks_ahead_where_the_paper_does():
    """Real local steps of one linear weight against v <- delta v - eta g(x + delta v); x <- x + v."""
    import keras

    from dkeras_core.learning.local import LocalTrainer

    rule, eta, delta = rules.get("eamsgd", momentum=0.9), 0.05, 0.9
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    setting = rule.optimizer({"name": "sgd", "learning_rate": eta})
    trainer = LocalTrainer(net, setting, "mse", batch_size=1, communication_period=6, lookahead=rule.lookahead)
    start = np.float32(3.0)
    x = np.full(1, start, np.float32)
    ones = np.ones((6, 1, 1), np.float32)
    trainer.window((ones, ones), x)  # f(x) = (x - 1)^2

    def paper(sign):
        at, velocity = float(start), 0.0
        for _ in range(6):
            velocity = delta * velocity - eta * 2 * (at + sign * delta * velocity - 1)
            at += velocity
        return at

    assert x[0] == pytest.approx(paper(+1), abs=1e-5)
    assert abs(paper(+1) - paper(-1)) > 0.1


def test_nothing_unpickles(project_root):
    """No module of the package imports what would make objects out of bytes from elsewhere."""
    forbidden = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    for path in sorted((project_root / "dkeras_core").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {(node.module or "").split(".")[0], *(alias.name for alias in node.names)}
            else:
                found = {
                    "pickle"
                    for keyword in getattr(node, "keywords", [])
                    if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False
                }
            assert not found & forbidden, f"{path.relative_to(project_root)}:{node.lineno} uses {found & forbidden}"


class Marker:
    """Unpickling it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_from_a_stranger_is_refused(serve, connect, tmp_path):
    trace = tmp_path / "unpickled"
    payload = pickle.dumps(Marker(trace))
    pickle.loads(payload).close()
    assert trace.exists()  # the payload works
    trace.unlink()
    server = serve()
    with socket.create_connection(server.address, timeout=5) as stranger:
        stranger.sendall(payload * 3)
        while stranger.recv(4096):  # the server says what it has to say, and closes
            pass
    assert not trace.exists()
    assert connect(server).exchange(np.ones(1000, np.float32)).sum() == 500


def test_prediction_is_vectorised(model, monkeypatch):
    from dkeras_core.learning.prediction import predict

    sizes, whole = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda x: sizes.append(len(x)) or whole(x))
    rows = np.random.default_rng(0).normal(size=(10_000, 4)).astype(np.float32)
    assert predict(model, rows).shape == (10_000, 1)
    assert sizes == [4096, 4096, 10_000 - 2 * 4096]


def test_metrics_drop_no_worker(run, rows_of, validation):
    parts = [[rows_of(64, seed)] for seed in range(3)]
    outcome, _ = run(parts, epochs=1, validation=validation)  # with a metric
    assert [worker["worker"] for worker in outcome.account["workers"]] == [0, 1, 2]
    assert outcome.account["rows_trained"] == 3 * 64


def test_ragged_weights_are_one_vector(model):
    from dkeras_core.learning.flat import FlatModel

    shapes = [tuple(variable.shape) for variable in model.trainable_variables]
    assert len(set(shapes)) == len(shapes) > 2  # of different ranks and sizes
    flat = FlatModel(model)
    x = flat.get()
    assert x.dtype == np.float32 and x.shape == (sum(int(np.prod(shape)) for shape in shapes),)
    kernel = np.asarray(model.trainable_variables[0])
    np.testing.assert_array_equal(x[: kernel.size].reshape(kernel.shape), kernel)
