"""Gates: bounds on metrics, absolute or against the champion, that a version must pass before it is published."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dkeras_core.errors import ConfigError
from dkeras_core.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES

RULES = ("min", "max", "max_drop", "min_gain")


@dataclass(frozen=True)
class GateResult:
    """The outcome of one rule on one metric; ``value`` and ``champion_value`` are None where undefined."""

    metric: str
    rule: str
    bound: float
    value: float | None
    champion_value: float | None
    passed: bool
    message: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gates(
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    champion_metrics: Mapping[str, Any] | None = None,
) -> list[GateResult]:
    """Judge `metrics` by every rule of `config`, in its order.

    Parameters
    ----------
    config : {metric: {rule: bound}}
        Rules are ``min`` and ``max`` (value at least, at most), ``max_drop`` (how much worse than the champion it may
        be) and ``min_gain`` (how much better it must be). For metrics where less is better (log loss, Brier score,
        calibration error) worse means greater. A gate may also be the pydantic object of the pipeline file.
    metrics, champion_metrics : what ``BinaryStatistics.result()`` returns
        Without a champion, rules against it pass, and say so.

    Raises
    ------
    ConfigError
        Unknown metric or rule (with the name that was probably meant), or a metric these data do not have.
    """
    results = []
    for metric, gate in config.items():
        if metric not in METRIC_NAMES:
            raise ConfigError(f"gate on unknown metric {metric!r}", _meant(metric, METRIC_NAMES))
        if metric not in metrics:
            raise ConfigError(
                f"gate on {metric!r}, which was not computed for these data",
                "weighted metrics and ams need `schema.weight` in the pipeline file: name it, or take the gate out",
            )
        champion = None if champion_metrics is None else champion_metrics.get(metric)
        for rule, bound in dict(gate).items():
            if rule not in RULES:
                raise ConfigError(f"gate on {metric} has the unknown rule {rule!r}", _meant(rule, RULES))
            if bound is not None:
                results.append(
                    _judge(metric, rule, float(bound), metrics[metric], champion, champion_metrics is not None)
                )
    return results


def _judge(
    metric: str, rule: str, bound: float, value: float | None, champion: float | None, has_champion: bool
) -> GateResult:
    def result(passed: bool, message: str) -> GateResult:
        return GateResult(metric, rule, bound, value, champion, passed, message)

    if value is None or not math.isfinite(value):
        return result(False, f"{metric} is undefined on this test split")
    if rule == "min":
        return result(value >= bound, f"{metric} {value:.6g}, at least {bound:g} asked")
    if rule == "max":
        return result(value <= bound, f"{metric} {value:.6g}, at most {bound:g} asked")
    if champion is None:
        reason = f"the champion has no {metric}" if has_champion else "there is no champion yet"
        return result(True, f"{reason}: nothing to compare with")
    gain = champion - value if metric in LOWER_IS_BETTER else value - champion
    comparison = f"{metric} {value:.6g} against the champion's {champion:.6g}: {_change(gain)}"
    if rule == "max_drop":
        return result(gain >= -bound, f"{comparison}, at most {bound:g} worse allowed")
    return result(gain >= bound, f"{comparison}, at least {bound:g} better asked")


def _change(gain: float) -> str:
    return f"{abs(gain):.3g} {'better' if gain > 0 else 'worse'}" if gain else "unchanged"


def _meant(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
