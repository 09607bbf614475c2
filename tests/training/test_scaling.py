"""The learning rate's scaling with the number of workers."""

import math

import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.training.scaling import Scaling, scaling

ADAM, SGD = {"name": "adam", "learning_rate": 1e-3}, {"class_name": "SGD", "config": {"learning_rate": 0.1}}


@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("rule", rules.names())
def test_one_worker_trains_as_the_user_said(rule, optimizer):
    assert scaling(optimizer, 1, rule) == Scaling(1.0, 0.0, 0)


@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("rule", [*rules.names(), "a_new_rule"])
def test_auto_changes_steadily_and_within_bounds(rule, optimizer):
    chosen = [scaling(optimizer, p, rule) for p in (1, 2, 4, 8, 16, 32, 64, 128)]
    scales = [c.scale for c in chosen]
    assert scales == sorted(scales) or scales == sorted(scales, reverse=True)
    assert min(scales) > 0 and max(scales) <= 8
    assert all((c.warmup > 0) == (c.scale > 1) and 0 <= c.warmup < 1 and c.warm_start >= 0 for c in chosen)


def test_elastic_averaging_needs_a_higher_rate_and_sums_a_lower_one():
    assert scaling(ADAM, 16, "asynchronous_easgd").scale > 1
    assert scaling(ADAM, 16, "downpour").scale < 1


def test_modes():
    assert scaling(ADAM, 64, "asynchronous_easgd", "none") == Scaling()
    assert scaling(ADAM, 64, "asynchronous_easgd", 3).scale == 3.0
    assert scaling(ADAM, 64, "asynchronous_easgd", 3).warmup > 0
    assert scaling(ADAM, 64, "asynchronous_easgd", 0.5) == Scaling(0.5)


@pytest.mark.parametrize("mode", ["Auto", "", 0, -1, math.nan, math.inf, True, None])
def test_other_modes_are_refused(mode):
    with pytest.raises(ConfigError, match="learning_rate_scaling"):
        scaling(ADAM, 4, "asynchronous_easgd", mode)
