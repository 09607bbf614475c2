"""A search over all rows through a real server: pieces, copies of late ones, workers that are lost."""

import threading
import time

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import waiting as waiting_module
from dkeras_core.exchange.frames import Kind
from dkeras_core.rules.sandblaster import PieceResult

N, ROWS, PIECES = 100, 64, 8  # pieces of 8 rows
RANDOM = np.random.default_rng(3)
TARGETS = RANDOM.normal(size=(ROWS, N)).astype(np.float32)  # the loss of a row is half its distance to x, squared
SCALE = np.geomspace(1, 30, N).astype(np.float32)


def result_of(task):
    """The mean loss of a piece, and its gradient."""
    apart = task.point.astype(np.float64) - TARGETS[task.piece :: PIECES]
    loss = 0.5 * float(np.mean((SCALE * apart * apart).sum(1)))
    return PieceResult(task.piece, task.version, ROWS // PIECES, loss), (SCALE * apart).mean(0).astype(np.float32)


def holds(worker, workers, copies=2):
    return {piece: ROWS // PIECES for piece in range(PIECES) if (worker - piece) % workers < copies}


@pytest.fixture
def search(serve):
    """search(workers, **settings) -> a server with a search."""

    def start(workers=2, rows=ROWS, server=None, **settings):
        rule = rules.get("sandblaster_lbfgs", pieces_per_worker=PIECES // workers, **settings)
        return serve(rule, np.zeros(N, np.float32), workers=workers, rows=rows, **(server or {}))

    return start


@pytest.fixture
def crew(connect):
    """crew(server, workers, slow={worker: seconds}) -> run the workers to the end; {worker: pieces, or its error}."""

    def run(server, workers, slow=None, copies=2):
        done = {}

        def work(worker):
            try:
                client = connect(server, worker)
                client.hold(holds(worker, workers, copies))
                count, task = 0, client.work()
                while task is not None:
                    time.sleep((slow or {}).get(worker, 0.0))
                    count, task = count + 1, client.work(*result_of(task))
                client.finish(client.center()[0])
                done[worker] = count
            except Exception as error:
                done[worker] = error

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        return done

    return run


def test_workers_find_the_optimum_together(search, crew):
    server = search(4, tolerance=1e-3)
    done = crew(server, 4)
    status = server.status()
    assert "gradient" in status.search.ended
    np.testing.assert_allclose(server.result().center, TARGETS.mean(0), atol=1e-3)
    np.testing.assert_array_equal(server.result().mean, server.result().center)
    losses = [iteration["loss"] for iteration in status.search.iterations]
    assert losses == sorted(losses, reverse=True) and len(losses) > 5
    assert status.exchanges == status.search.evaluations >= len(losses)
    assert sum(status.search.done.values()) == PIECES * status.search.evaluations
    assert {worker.worker: worker.exchanges for worker in status.workers} == done


def test_what_a_straggler_has_is_given_to_another(search, crew):
    server = search(2, iterations=3)
    begun = time.monotonic()
    done = crew(server, 2, slow={1: 0.5})
    taken = time.monotonic() - begun
    found = server.status().search
    assert found.ended == "3 iterations are done"
    assert found.backups_first > 0 and found.done[0] > 2 * found.done.get(1, 0)
    assert sum(found.done.values()) == PIECES * found.evaluations < sum(done.values())
    assert taken < 0.5 * PIECES / 2 * found.evaluations / 2  # by itself it would take twice that time or more


def test_the_pieces_of_a_lost_worker_go_to_others(search, connect, crew, eventually):
    server = search(2, iterations=2)
    client = connect(server, 1)
    client.hold(holds(1, 2))
    assert client.work().piece == 1
    client.close("lost power")
    eventually(lambda: server.status().lost == 1)
    client = connect(server, 0)
    client.hold(holds(0, 2))
    task = client.work()
    while task is not None:
        task = client.work(*result_of(task))
    assert server.status().search.done == {0: PIECES * server.status().search.evaluations}


def test_a_lost_worker_whose_rows_nobody_else_has_is_waited_for(search, connect, eventually):
    server = search(2, iterations=1, copies=1)
    first, other = connect(server, 0), connect(server, 1)
    first.hold(holds(0, 2, 1))
    other.hold(holds(1, 2, 1))
    task = other.work()
    other.close("lost power")
    eventually(lambda: server.status().lost == 1)
    waits = threading.Thread(target=lambda: seen.append(finish(first)))
    seen = []
    waits.start()
    again = connect(server, 1, attempt=1)
    again.hold(holds(1, 2, 1))
    assert finish(again) and task.piece == 1
    waits.join(5)
    assert seen == [True] and server.status().search.ended == "1 iterations are done"


def finish(client):
    task = client.work()
    while task is not None:
        task = client.work(*result_of(task))
    return True


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (True, r"waited 0.3 s for piece 1 of the rows, with worker 1 on .*; piece 3 .*which was with worker 1 on"),
        (False, r"waited 0.3 s for worker 1, which has never joined, to spool their rows"),
    ],
)
def test_who_does_not_answer_is_named(search, connect, present, message):
    server = search(2, copies=1, server={"barrier_deadline": 0.3})
    if present:
        other = connect(server, 1)
        other.hold(holds(1, 2, 1))
        other.work()
        server._run.search._coordinator.pieces._held[1].remove(3)  # as if it had gone since
    client = connect(server, 0)
    client.hold(holds(0, 2, 1))
    with pytest.raises(TrainingError, match=message):
        finish(client)


@pytest.mark.parametrize("spooling", [True, False])
def test_who_is_slow_but_reports_is_waited_for(search, connect, monkeypatch, spooling):
    monkeypatch.setattr(waiting_module, "BEAT", 0.05)
    server = search(2, copies=1, iterations=1, server={"barrier_deadline": 0.3})
    client, other = connect(server, 0), connect(server, 1)
    client.hold(holds(0, 2, 1))
    if not spooling:
        other.hold(holds(1, 2, 1))
    task = None if spooling else other.work()
    seen = []
    waits = threading.Thread(target=lambda: seen.append(finish(client)))
    waits.start()
    for _ in range(12):
        time.sleep(0.05)
        other.report({})
    if spooling:
        other.hold(holds(1, 2, 1))
        task = other.work()
    while task is not None:
        task = other.work(*result_of(task))
    waits.join(5)
    assert seen == [True] and server.status().search.ended == "1 iterations are done"


def test_the_driver_ends_it_early(search, connect):
    server = search(1)
    client = connect(server)
    client.hold(holds(0, 1, 1))
    task = client.work()
    for _ in range(3 * PIECES):
        task = client.work(*result_of(task))
    server.request_stop("good enough")
    assert client.work() is None
    assert client.report({}) == "good enough" == server.status().search.ended
    np.testing.assert_array_equal(client.center()[0], server.snapshot()[0])
    assert np.abs(server.snapshot()[0]).max() > 0


def test_one_that_waits_is_told_that_the_run_is_over(search, connect, eventually):
    server = search(2)
    client = connect(server)
    client.hold(holds(0, 2))
    caught = []

    def wait():
        try:
            finish(client)
        except TrainingError as error:
            caught.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: sum(server.status().search.done.values()) == PIECES)  # it has done all; worker 1 has not come
    server.fail("the driver gave up")
    thread.join(5)
    assert len(caught) == 1 and "the driver gave up" in caught[0]


def test_a_newer_attempt_takes_the_place(search, connect):
    server = search(1)
    old = connect(server)
    old.hold(holds(0, 1, 1))
    task = old.work()
    new = connect(server, attempt=1)
    with pytest.raises(ExchangeError, match=r"attempt 1 .* has taken the place"):
        old.work(*result_of(task))
    new.hold(holds(0, 1, 1))
    assert new.work().piece == task.piece


def test_rows_that_do_not_add_up_end_the_run(search, connect):
    server = search(1, rows=ROWS + 1)
    client = connect(server)
    client.hold(holds(0, 1, 1))
    with pytest.raises(TrainingError, match="65 rows in the training split, 64 in evaluation 1"):
        finish(client)
    assert "65 rows" in server.status().failure


def test_copies_that_disagree_end_the_run(search, connect):
    server = search(2)
    connect(server, 0).hold(holds(0, 2))
    with pytest.raises(TrainingError, match="worker 1 holds 9 rows of piece 0, of which there were 8"):
        connect(server, 1).hold({0: 9})


def test_a_worker_without_rows_is_not_waited_for(search, connect):
    server = search(2, iterations=1)
    connect(server, 1).drop("was given no rows")
    client = connect(server, 0)
    client.hold(dict.fromkeys(range(PIECES), ROWS // PIECES))
    assert finish(client)


def test_a_gradient_that_is_not_finite_is_refused_and_a_loss_that_is_none_is_not(search, connect):
    server = search(1)
    client = connect(server)
    client.hold(holds(0, 1, 1))
    task = client.work()
    for _ in range(PIECES):
        task = client.work(*result_of(task))
    assert task.version == 2
    task = client.work(PieceResult(task.piece, 2, 8, None))
    assert task.version == 3  # without the other pieces: the point is too far
    result, gradient = result_of(task)
    gradient[7] = np.nan
    with pytest.raises(TrainingError, match="element 7 of 100 is nan"):
        client.work(result, gradient)


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        (Kind.HOLD, {"pieces": 3}, "no list of pairs"),
        (Kind.HOLD, {"pieces": [[1, -2]]}, "not a whole number"),
        (Kind.HOLD, {"pieces": [[True, 2]]}, "not a whole number"),
        (Kind.WORK, {"piece": 1}, "other fields"),
        (Kind.WORK, {"piece": 0.5, "version": 1, "rows": 8, "loss": None}, "not a whole number"),
        (Kind.WORK, {"piece": 0, "version": 1, "rows": 8, "loss": "low"}, "loss that is no number"),
    ],
)
def test_nonsense_is_refused(search, raw, kind, content, why):
    server = search(1)
    channel = raw(server)
    channel.send_control(kind, content)
    header, told = channel.receive()
    assert header.kind is Kind.END and why in told["message"]


def test_other_rules_know_no_pieces(serve, raw):
    channel = raw(serve())
    channel.send_control(Kind.WORK, {})
    header, told = channel.receive()
    assert header.kind is Kind.END and "out of place (WORK)" in told["message"]
