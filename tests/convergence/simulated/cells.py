"""Cells of the tables: which records belong to one, and how their scores are written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from simulated import experiments
from simulated.experiments import EPOCHS, SEEDS, SEQUENTIAL
from simulated.runs import Run

BAR = 0.3  # points from the best sequential run

Records = dict[str, dict[str, Any]]


def found(runs: Iterable[Run], records: Records) -> list[dict[str, Any]]:
    """The records that are there."""
    return [record for run in runs if (record := records.get(run.key()))]


def scores(runs: Iterable[Run], records: Records) -> list[float | None]:
    """The scores of the result that each run's rule has by default; None of a run that diverged."""
    wanted = [(run, records[run.key()]) for run in runs if run.key() in records]
    return [record["scores"][run.rule().default_result] for run, record in wanted]


def mean(values: list[float | None]) -> float | None:
    """Their mean; None when there is none, or one of them diverged."""
    return None if not values or None in values else statistics.mean(values)


def best(data: str, records: Records, name: str) -> float | None:
    """The best sequential mean over the seeds, of the last weights ("mean") or of their average ("ema")."""
    means = []
    for setting in SEQUENTIAL:
        runs = [run for run in experiments.sequential(data, SEEDS) if (run.optimizer, run.rate) == setting]
        means.append(mean([record["scores"][name] for record in found(runs, records)]))
    return max((value for value in means if value is not None), default=None)


def text(values: list[float | None]) -> str:
    """Mean ± standard deviation over the seeds; without ± it is one seed."""
    if not values:
        return ""
    if None in values:
        return "diverged"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def marked(values: list[float | None], last: float, average: float) -> str:
    """The same, bold within the bar of the best sequential average, slanted within that of the best last weights."""
    middle = mean(values)
    if middle is None or middle < last - BAR:
        return text(values)
    return f"**{text(values)}**" if middle >= average - BAR else f"*{text(values)}*"


def heads(data: str, wanted: Iterable[tuple[int, int]] | None = None) -> list[str]:
    """What stands above the columns of a data set, or above the ``wanted`` ones."""
    wanted = wanted or experiments.columns(data)
    return [f"p = {p}" + (f", {factor} x epochs" if factor > 1 else "") for p, factor in wanted]


def lines(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = list(heads)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def asked(run: Run) -> tuple[int, int]:
    """The column of a run."""
    return run.workers, run.epochs // EPOCHS[run.data]
