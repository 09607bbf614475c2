"""Which rows go to which worker."""

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.training.pieces import Layout
from dkeras_core.training.task import TrainingTask


@pytest.fixture
def layout():
    """layout(workers, name, **parameters) of the rule."""

    def make(workers, name, **parameters):
        rule = rules.get(name, **parameters).to_config()
        names = "address secret architecture optimizer loss epochs batch_size seed inputs"
        return Layout.of(TrainingTask(**dict.fromkeys(names.split()), rule=rule, workers=workers))

    return make


@pytest.mark.parametrize(("workers", "copies"), [(1, 2), (3, 1), (3, 2), (4, 4)])
def test_every_row_is_with_its_own_worker_and_the_next_ones(layout, workers, copies):
    made = layout(workers, "sandblaster_lbfgs", copies=copies, pieces_per_worker=5)
    pieces = np.arange(1000) % made.pieces
    held = [set(made.with_worker(worker, pieces)) for worker in range(workers)]
    assert made.told and made.pieces == 5 * workers
    assert sum(map(len, held)) == 1000 * min(copies, workers)
    for row, piece in enumerate(pieces):
        owners = {(piece + copy) % workers for copy in range(min(copies, workers))}
        assert owners == {worker for worker in range(workers) if row in held[worker]}


def test_other_rules_deal_the_rows_in_turn(layout):
    made = layout(3, "easgd")
    dealt = np.arange(10) % made.pieces
    assert not made.told
    assert [made.with_worker(worker, dealt).tolist() for worker in range(3)] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
