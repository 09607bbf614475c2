"""The learning rate's scaling with the number of workers."""

import math

import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.rules import Rule
from dkeras_core.training.scaling import Scaling, scaling


class NewRule(Rule):
    """One that scaling knows nothing of."""

    name = "a_new_rule"


ADAM, SGD = {"name": "adam", "learning_rate": 1e-3}, {"class_name": "SGD", "config": {"learning_rate": 0.1}}
EASGD = rules.get("asynchronous_easgd")


@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("rule", rules.names())
def test_one_worker_trains_as_the_user_said(rule, optimizer):
    assert scaling(optimizer, 1, rules.get(rule)) == Scaling(1.0, 0.0, 0)


@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("rule", [*(rules.get(name) for name in rules.names() if name != "sequential"), NewRule()])
def test_auto_changes_steadily_and_within_bounds(rule, optimizer):
    chosen = [scaling(optimizer, p, rule) for p in (1, 2, 4, 8, 16, 32, 64, 128)]
    scales = [c.scale for c in chosen]
    assert scales == sorted(scales) or scales == sorted(scales, reverse=True)
    assert min(scales) > 0 and max(scales) <= 8
    assert all((c.warmup > 0) == (c.scale > 1) and 0 <= c.warmup < 1 and c.warm_start >= 0 for c in chosen)


def test_means_need_a_higher_rate_and_sums_a_lower_one():
    assert scaling(ADAM, 16, EASGD).scale == 4
    assert scaling(ADAM, 16, rules.get("downpour")).scale == 8
    assert scaling(ADAM, 16, rules.get("downpour", commit_rate=1)).scale == 1 / 16
    assert scaling(ADAM, 16, rules.get("downpour", commit_rate=0.25)).scale == 1 / 4


def test_adag_divides_by_the_steps():
    """With a whole commit rate the center takes 1/tau of each update: of 4 workers that is less than their mean."""
    assert scaling(ADAM, 4, rules.get("adag", commit_rate=1, communication_period=8)).scale == 2
    assert scaling(ADAM, 32, rules.get("adag", commit_rate=1, communication_period=8)).scale == 1 / 4
    assert scaling(ADAM, 32, rules.get("adag", commit_rate=1, communication_period="epoch")).scale == 1 / 32


def test_a_number_of_workers_that_the_rule_cannot_have():
    with pytest.raises(ConfigError, match="one worker, not 2"):
        scaling(ADAM, 2, rules.get("sequential"))


def test_modes():
    assert scaling(ADAM, 64, EASGD, "none") == Scaling()
    assert scaling(ADAM, 64, EASGD, 3).scale == 3.0
    assert scaling(ADAM, 64, EASGD, 3).warmup > 0
    assert scaling(ADAM, 64, EASGD, 0.5) == Scaling(0.5)


@pytest.mark.parametrize("mode", ["Auto", "", 0, -1, math.nan, math.inf, True, None])
def test_other_modes_are_refused(mode):
    with pytest.raises(ConfigError, match="learning_rate_scaling"):
        scaling(ADAM, 4, EASGD, mode)
