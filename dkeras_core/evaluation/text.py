"""How the report writes numbers: one function a kind, used by templates as filters and by figures in titles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dkeras_core.evaluation.metrics import LOWER_IS_BETTER

NONE = "–"

LABELS = {
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ams": "AMS",
    "calibration_error": "Calibration error",
}


def label(metric: str) -> str:
    """Return a metric's name for people."""
    name = metric.removeprefix("weighted_")
    known = LABELS.get(name, name.replace("_", " "))
    return f"{known} (weighted)" if name != metric else known


def metric(value: float | None) -> str:
    """Return a metric with four decimals."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.4f}".replace("-", "−")


def count(value: float | None) -> str:
    """Return a whole number in groups of three digits."""
    return NONE if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Return a duration: 0.42 s, 12.3 s, 4 min 5 s, 2 h 7 min."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(value: float | None) -> str:
    """Return bytes in the unit that fits, powers of 1,024."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def share(part: float, whole: float) -> str:
    """Return a percentage."""
    return f"{part / whole:.1%}" if whole else NONE


def change(metric_name: str, value: float | None, champion: float | None) -> dict | None:
    """Return how a metric stands to the champion's: {"text", "tone": better, worse or even}; None if not comparable."""
    if value is None or champion is None:
        return None
    difference = value - champion
    if abs(difference) < 5e-5:
        return {"text": "unchanged", "tone": "even"}
    better = (difference < 0) == (metric_name in LOWER_IS_BETTER)
    sign = "+" if difference > 0 else "−"
    return {"text": f"{sign}{abs(difference):.4f}", "tone": "better" if better else "worse"}


def interval(ends: Sequence[float]) -> str:
    """Return a 95 % interval."""
    low, high = ends
    return f"95 %: {metric(low)} to {metric(high)}"


def difference(metric_name: str, gain: Sequence[float]) -> list[float]:
    """Return the interval of the difference of two values from that of the gain, which is positive for the better."""
    low, high = gain
    return [-high, -low] if metric_name in LOWER_IS_BETTER else [low, high]
