"""The learning rate for p workers: how far it is raised, how it is reached, and how many steps one worker goes ahead.

Each of p workers makes 1/p of the steps that sequential training would make. Averaging moves the center no faster than
one worker, so with many workers an unchanged rate leaves the model under-trained; a rule that adds up the workers'
whole updates moves it p times as fast, and needs the contrary. The figures come from the runs in docs/convergence.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dkeras_core.errors import ConfigError
from dkeras_core.rules import Rule
from dkeras_core.rules.updates import AddedUpdateRule

WARMUP = 0.1  # share of a worker's local steps; a raised rate that starts at once can throw the first steps far off

# Optimizers whose step does not depend on the size of the gradient
ADAPTIVE = frozenset(
    ["adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "ftrl", "lion", "lamb", "adafactor", "muon"]
)

# What a rule does with the steps that p workers make at the same time
AVERAGING = frozenset({"asynchronous_easgd", "easgd", "eamsgd", "model_averaging", "delta_averaging", "dynsgd"})
OUTER_MOMENTUM = frozenset({"slowmo", "diloco"})
MOST = 8.0


class Scaling(NamedTuple):
    """How a run changes the optimizer's learning rate.

    scale : factor on the learning rate, reached after the warm-up.
    warmup : share of a worker's local steps over which the rate rises to it.
    warm_start : local steps that worker 0 makes alone before the others take the center.
    """

    scale: float = 1.0
    warmup: float = 0.0
    warm_start: int = 0


def scaling(optimizer: Mapping[str, Any], workers: int, rule: Rule, mode: str | float = "auto") -> Scaling:
    """Return the learning-rate scaling of a run.

    Parameters
    ----------
    optimizer : mapping
        ``{"name": ..., "learning_rate": ...}`` or Keras' ``{"class_name": ..., "config": ...}``.
    workers : int
        p, at least 1.
    rule : Rule
        The algorithm; of one that adds up updates, its ``commit_rate`` counts.
    mode : "auto", "none", or a number above 0
        "auto" is the choice measured for this rule, p and kind of optimizer; "none" leaves the rate as it is; a number
        is the factor itself, with warm-up when it is above 1.

    Raises
    ------
    ConfigError
        ``mode`` is none of these, or the rule cannot have so many workers.
    """
    if isinstance(mode, int | float) and not isinstance(mode, bool) and math.isfinite(mode) and mode > 0:
        return Scaling(float(mode), WARMUP if mode > 1 else 0.0)
    if mode not in ("auto", "none"):
        raise ConfigError(
            f'training.learning_rate_scaling must be "auto", "none" or a number above 0, not {mode!r}',
            'leave it out for "auto", which raises the rate as the number of workers asks for',
        )
    if mode == "none" or workers == 1:
        return Scaling()
    adaptive = str(optimizer.get("name", optimizer.get("class_name", ""))).lower() in ADAPTIVE
    adaptive = adaptive and rule.name != "eamsgd"  # whose local optimizer is SGD whatever is said
    scale = _scale(rule.for_workers(workers), workers, adaptive)
    return Scaling(scale, WARMUP if scale > 1 else 0.0)


def _scale(rule: Rule, p: int, adaptive: bool) -> float:
    adding = isinstance(rule, AddedUpdateRule)
    if adding and (times := p * _share(rule)) > 1.001:
        return 1.0 / times
    if rule.name in OUTER_MOMENTUM:  # by itself it makes the steps twice as long
        scale = p / 4 if adaptive else p / 2
    elif rule.name == "asynchronous_easgd" and adaptive:  # its workers are further apart than those that meet
        scale = math.sqrt(p)
    elif adding or rule.name in AVERAGING:
        scale = p / 2 if adaptive else p
    elif rule.name == "gradient_averaging":
        scale = 1.0 if adaptive else p / 2
    else:
        scale = 1.0
    return float(min(MOST, max(1.0, scale)))


def _share(rule: AddedUpdateRule) -> float:
    """The part of an update that the center takes over."""
    period = rule.communication_period
    return rule.share(period if isinstance(period, int) else 1)
