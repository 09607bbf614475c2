"""Sandblaster: who computes which piece, and the search that comes of it, with simulated workers."""

import heapq
import itertools
from collections import Counter

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import TrainingError
from dkeras_core.rules.lbfgs import LBFGS
from dkeras_core.rules.pieces import Pieces
from dkeras_core.rules.sandblaster import Coordinator, PieceResult

ROWS, FEATURES, PENALTY = 1000, 12, 0.01


class Problem:
    """A logistic regression with a penalty; each row belongs to a piece."""

    def __init__(self):
        random = np.random.default_rng(4)
        self.features = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
        self.labels = (random.random(ROWS) < 1 / (1 + np.exp(-self.features @ np.linspace(-2, 2, FEATURES)))) * 1.0

    def __call__(self, x, rows):
        """Mean loss and mean gradient of some rows, as a worker computes them: with the penalty, in float32."""
        x = x.astype(np.float64)
        features, labels = self.features[rows], self.labels[rows]
        scores = features @ x
        loss = np.mean(np.logaddexp(0, scores) - labels * scores) + 0.5 * PENALTY * x @ x
        gradient = features.T @ (1 / (1 + np.exp(-scores)) - labels) / len(rows) + PENALTY * x
        return float(np.float32(loss)), gradient.astype(np.float32)


@pytest.fixture(scope="module")
def problem():
    return Problem()


class Crew:
    """p workers with clocks of their own, and the coordinator.

    pace: seconds a row of each worker; deaths: {worker: number of the piece in which it dies}, one that dies is back
    ``AWAY`` seconds later.
    """

    AWAY = 5.0

    def __init__(self, problem, workers, *, pace=lambda worker: 0.001, deaths=(), **settings):
        self.rule = rules.get("sandblaster_lbfgs", **settings).for_workers(workers)
        self.problem, self.workers, self.pace, self.deaths = problem, workers, pace, dict(deaths)
        self.count = workers * self.rule.pieces_per_worker
        self.rows = [np.arange(piece, ROWS, self.count) for piece in range(self.count)]
        self.coordinator = Coordinator(self.rule, np.zeros(FEATURES, np.float32), workers, ROWS, 0.0)
        self.pieces = self.coordinator.pieces
        self.now, self.computed, self.counted, self.x = 0.0, Counter(), Counter(), None
        self.spans = []  # seconds of each evaluation

    def held(self, worker):
        return {k: len(rows) for k, rows in enumerate(self.rows) if (worker - k) % self.workers < self.rule.copies}

    def run(self):
        events, ticket, waiting, begun = [], itertools.count(), set(), 0.0
        for worker in range(self.workers):
            self.pieces.hold(worker, self.held(worker))
            waiting.add(worker)
        while not self.coordinator.ended:
            for worker in sorted(waiting):
                piece = self.pieces.assign(worker, self.now)
                if piece is None:
                    again = self.pieces.again(worker, self.now)
                    if again < np.inf:
                        heapq.heappush(events, (self.now + max(again, 1e-6), next(ticket), worker, None))
                    continue
                waiting.remove(worker)
                self.computed[worker] += 1
                work = piece, self.pieces.version, self.coordinator.point
                if self.computed[worker] == self.deaths.get(worker):
                    self.pieces.leave(worker)
                    heapq.heappush(events, (self.now + self.AWAY, next(ticket), worker, "back"))
                else:
                    done = self.now + self.pace(worker) * len(self.rows[piece])
                    heapq.heappush(events, (done, next(ticket), worker, work))
            self.now, _, worker, work = heapq.heappop(events)
            if work is None:
                continue
            waiting.add(worker)
            if work == "back":
                self.pieces.hold(worker, self.held(worker))
                continue
            piece, version, point = work
            loss, gradient = self.problem(point, self.rows[piece])
            result = PieceResult(piece, version, len(self.rows[piece]), loss)
            before = self.pieces.version
            best = self.coordinator.finish(worker, result, gradient, self.now)
            self.x = best if best is not None else self.x
            if self.coordinator.ended or self.pieces.version > before:
                self.spans.append(self.now - begun)
                begun = self.now
        return self


def test_the_optimum_of_scikit_learn(problem):
    from sklearn.linear_model import LogisticRegression

    crew = Crew(problem, 4, tolerance=1e-6).run()
    theirs = LogisticRegression(C=1 / (PENALTY * ROWS), fit_intercept=False, tol=1e-8, max_iter=1000)
    theirs.fit(problem.features, problem.labels)
    np.testing.assert_allclose(crew.x, theirs.coef_[0], atol=1e-4)
    losses = [iteration.loss for iteration in crew.coordinator.iterations]
    assert losses[0] == pytest.approx(np.log(2)) and losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_any_number_of_workers_takes_the_same_way(problem, workers):
    """A search by one process over all rows, and by p workers with different clocks: the same but for rounding."""
    crew = Crew(problem, workers, iterations=6, pace=lambda worker: 0.001 * (1 + worker % 3)).run()
    search = LBFGS(np.zeros(FEATURES), history=10, iterations=6, tolerance=1e-5)
    while (x := search.ask()) is not None:
        search.tell(*problem(x.astype(np.float32), np.arange(ROWS)))
    np.testing.assert_allclose(crew.x, search.iterate.x, atol=1e-5)
    assert crew.coordinator.iterations[-1].evaluations == search.iterate.evaluations
    assert sum(crew.pieces.done.values()) == crew.pieces.version * crew.count


@pytest.mark.parametrize("workers", [4, 64])
def test_a_straggler_does_not_hold_the_others_up(problem, workers):
    """One worker is 50 times slower: without copies every evaluation waits for it."""

    def pace(worker):
        return 0.05 if worker == 1 else 0.001

    balanced, slow, backed = (
        Crew(problem, workers, iterations=4, **settings).run()
        for settings in ({}, {"pace": pace, "copies": 1}, {"pace": pace})
    )
    typical = {crew: np.median(crew.spans) for crew in (balanced, slow, backed)}
    assert typical[slow] > 20 * typical[balanced]
    assert typical[backed] < 4 * typical[balanced]
    assert balanced.pieces.backups == slow.pieces.backups == 0
    assert backed.pieces.won > 0
    np.testing.assert_allclose(backed.x, balanced.x, atol=1e-5)


def test_a_lost_worker_loses_no_row(problem):
    for copies in (1, 2):
        crew = Crew(problem, 4, copies=copies, deaths={1: 3, 3: 7}, iterations=4).run()
        np.testing.assert_allclose(crew.x, Crew(problem, 4, iterations=4).run().x, atol=1e-5)
        waited = max(crew.spans) >= Crew.AWAY
        assert waited == (copies == 1)  # the others hold what they lost, if there are copies


def holding(workers, pieces, copies=2):
    """Pieces of 10 rows each, of which all workers have told."""
    made = Pieces(workers)
    for worker in range(workers):
        made.hold(worker, {k: 10 for k in range(pieces) if (worker - k) % workers < copies})
    return made


def test_own_pieces_first_then_those_of_others_then_late_ones():
    pieces = holding(2, 4)
    taken = []
    while (piece := pieces.assign(0, 0.0)) is not None:
        taken.append(piece)
        pieces.finish(0, piece, 1, 0.0)
    assert taken == [0, 2, 1, 3]
    pieces = holding(2, 4)
    assert [pieces.assign(0, 0.0), pieces.assign(1, 0.0)] == [0, 1]
    assert pieces.finish(0, 0, 1, now=1.0)
    assert [pieces.assign(0, 1.0), pieces.finish(0, 2, 1, now=2.0)] == [2, True]
    assert [pieces.assign(0, 2.0), pieces.finish(0, 3, 1, now=3.0)] == [3, True]
    assert pieces.assign(0, 1.4) is None and pieces.again(0, 1.4) == pytest.approx(0.1)
    assert pieces.assign(0, 3.0) == 1 and pieces.backups == 1
    assert pieces.again(0, 3.0) == np.inf  # it computes the piece itself


def test_the_first_result_counts_and_later_ones_do_not():
    pieces = holding(2, 1)
    pieces._pace = 0.1
    assert (pieces.assign(0, 0.0), pieces.assign(1, 2.0)) == (0, 0)
    assert pieces.finish(1, 0, 1, 3.0) and pieces.complete and pieces.won == 1
    assert not pieces.finish(0, 0, 1, 4.0)
    pieces.begin()
    assert pieces.assign(0, 4.0) == 0
    assert not pieces.finish(1, 0, 1, 5.0)  # of the evaluation before
    assert not pieces.complete and pieces.done == {1: 1}


def test_an_evaluation_waits_for_workers_that_have_not_come():
    pieces = Pieces(2)
    pieces.hold(0, {0: 10})
    assert pieces.assign(0, 0.0) == 0 and pieces.finish(0, 0, 1, 1.0)
    assert not pieces.complete and pieces.awaited == [1]
    pieces.leave(1)
    assert not pieces.complete
    pieces.leave(1, for_good=True)
    assert pieces.complete


def test_a_worker_that_asks_again_has_given_up_what_it_had():
    pieces = holding(1, 2)
    assert [pieces.assign(0, 0.0), pieces.assign(0, 1.0)] == [0, 0]


def test_what_is_open_is_named_with_those_who_have_it():
    pieces = holding(4, 4)
    assert pieces.assign(3, 0.0) == 3
    assert pieces.open == {0: [0, 1], 1: [1, 2], 2: [2, 3], 3: [3]}
    pieces.leave(3)
    pieces.leave(0)
    assert pieces.open == {0: [1], 1: [1, 2], 2: [2], 3: []}


def test_copies_that_disagree_are_refused():
    pieces = holding(2, 2)
    with pytest.raises(TrainingError, match="worker 1 holds 11 rows of piece 0, of which there were 10"):
        pieces.hold(1, {0: 11})


def test_rows_that_do_not_add_up(problem):
    coordinator = Coordinator(rules.get("sandblaster_lbfgs"), np.zeros(2, np.float32), 1, 21, 0.0)
    coordinator.pieces.hold(0, {0: 10, 1: 10})
    gradient = np.ones(2, np.float32)
    assert coordinator.finish(0, PieceResult(0, 1, 10, 1.0), gradient, 1.0) is None
    with pytest.raises(TrainingError, match="21 rows in the training split, 20 in evaluation 1"):
        coordinator.finish(0, PieceResult(1, 1, 10, 1.0), gradient, 1.0)


def test_a_loss_that_is_not_finite_ends_the_evaluation_and_shortens_the_step():
    coordinator = Coordinator(rules.get("sandblaster_lbfgs"), np.zeros(1, np.float32), 1, 20, 0.0)
    coordinator.pieces.hold(0, {0: 10, 1: 10})
    for piece in (0, 1):
        coordinator.finish(0, PieceResult(piece, 1, 10, 1.0), np.full(1, 0.5, np.float32), 1.0)
    assert coordinator.pieces.version == 2 and len(coordinator.iterations) == 1
    far = abs(coordinator.point[0])
    assert coordinator.finish(0, PieceResult(0, 2, 10, None), np.empty(1, np.float32), 1.0) is None
    assert coordinator.pieces.version == 3 and 0 < abs(coordinator.point[0]) < far


def test_what_depends_on_the_workers():
    rule = rules.get("sandblaster_lbfgs")
    assert [rule.for_workers(p).copies for p in (1, 2, 64)] == [1, 2, 2]
    assert rule.optimizer({"name": "adam"})["name"] == "sgd"
