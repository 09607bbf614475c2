"""What a benchmark finds: a ratio taken side by side in one run, with its bar and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One figure. ``ratio`` is the median of ``runs`` paired ratios, higher is better; ``spread`` is (lowest, highest).

    ``bar`` is what the project asks for; ``detail`` holds absolute figures with their units in the key.
    """

    name: str
    ratio: float
    bar: float
    runs: int
    spread: tuple[float, float]
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, ratios: Sequence[float], bar: float, **detail: Any) -> Outcome:
        """The median and spread of ratios that were each taken from one pair of runs, in turn."""
        return cls(name, statistics.median(ratios), bar, len(ratios), (min(ratios), max(ratios)), detail)

    @property
    def holds(self) -> bool:
        return self.ratio >= self.bar
