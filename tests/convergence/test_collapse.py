"""The collapse at many workers that was published for dist-keras, made on purpose, and what prevents it.

dist-keras pulls the center in one request and commits the difference in another. Between the two other workers commit
theirs, and the center is pushed by the sum of differences that each alone would have closed: with alpha p above 2 it
overshoots further each time. Here the same rule is carried both ways.
"""

from __future__ import annotations

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.rules import Arrival

ROUNDS, PERIOD = 60, 5


@pytest.fixture(scope="module")
def problem():
    """Logistic regression on rows that a line parts: (rows, labels), accuracy 1.0 within reach."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(1024, 10)).astype(np.float32)
    return rows, (rows @ random.normal(size=10) > 0).astype(np.float32)


def train(problem, workers: int, moving_rate, *, atomic: bool) -> float:
    """Train in lock-step, as containers do that start together; the accuracy of the center, 0.5 by guessing."""
    rows, labels = problem
    rule = rules.get("asynchronous_easgd", moving_rate=moving_rate).for_workers(workers)
    random = np.random.default_rng(1)
    center = np.zeros(rows.shape[1], np.float32)
    xs = [center.copy() for _ in range(workers)]
    answer = np.empty_like(center)
    with np.errstate(over="ignore", invalid="ignore"):
        for count in range(ROUNDS):
            for x in xs:
                for _ in range(PERIOD):
                    chosen = random.integers(0, len(rows), 32)
                    chances = 1 / (1 + np.exp(-rows[chosen] @ x))
                    x -= np.float32(0.3) * rows[chosen].T @ (chances - labels[chosen]) / 32
            pulled = [center.copy() for _ in xs]
            for worker, x in enumerate(xs):
                seen = center if atomic else pulled[worker]
                rule.apply(seen, x, answer, {}, Arrival(worker, count * workers + worker, workers - 1))
                if not atomic:
                    center += answer  # the commit, when others have committed since the pull
                rule.receive(x, answer, {})
        guessed = rows @ center > 0
    return float(np.mean(guessed == labels)) if np.isfinite(center).all() else 0.5


@pytest.mark.parametrize("workers", [8, 30, 64])
def test_pull_then_commit_collapses(problem, workers):
    assert train(problem, workers, 0.5, atomic=False) < 0.8


@pytest.mark.parametrize("workers", [1, 2, 8, 30, 64])
def test_the_atomic_exchange_does_not(problem, workers):
    assert train(problem, workers, 0.5, atomic=True) > 0.97


@pytest.mark.parametrize("moving_rate", [0.1, 0.9])
def test_nor_at_other_moving_rates(problem, moving_rate):
    assert train(problem, 64, moving_rate, atomic=True) > 0.95


@pytest.mark.parametrize("workers", [2, 30, 64])
def test_the_papers_moving_rate_is_the_other_remedy(problem, workers):
    assert train(problem, workers, "paper", atomic=False) > 0.95
