"""docs/convergence.md from the records: page.md, and below it the tables with what is there."""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path
from typing import Any

from simulated import experiments
from simulated.experiments import COLUMNS, EPOCHS, RECOMMENDED, SCALES, SEEDS, SEQUENTIAL
from simulated.runs import Results, Run, key_of

PAGE = Path(__file__).with_name("page.md")
UNITS = {"higgs": "ROC AUC x 100", "mnist": "test accuracy in per cent"}
ROWS = {
    "higgs": "8,000 training and 2,000 test events of the ATLAS Higgs challenge of 2014, 30 standardised features",
    "mnist": "60,000 training and 10,000 test images",
}
BAR = 0.3  # points from the best sequential run

Records = dict[str, dict[str, Any]]


def write(results: Results, target: Path) -> None:
    """Write the page. Runs that are not there leave their cell empty; a data set without runs is left out."""
    records = {key_of(record["run"]): record for record in results}
    parts = [PAGE.read_text(encoding="utf-8").replace("{date}", datetime.date.today().isoformat()).rstrip()]
    for data in EPOCHS:
        runs = [run for run in experiments.everything() if run.data == data and run.key() in records]
        if runs:
            parts += [_heading(data), _sequential(data, records), _table(runs, records)]
    scaled = [run for run in experiments.scales() if run.key() in records]
    if scaled:
        parts.append(_scales(scaled, records))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _heading(data: str) -> str:
    return f"## {data}: {UNITS[data]}\n\n{ROWS[data]}; {EPOCHS[data]} epochs."


def _sequential(data: str, records: Records) -> str:
    lines = ["| sequential | last weights | moving average of the weights |", "|---|---|---|"]
    for optimizer, rate in SEQUENTIAL:
        found = _found(_sequential_runs(data, optimizer, rate), records)
        if found:
            cells = [_cell([record["scores"][name] for record in found]) for name in ("mean", "ema")]
            lines.append(f"| {optimizer} {rate:g} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _sequential_runs(data: str, optimizer: str, rate: float) -> list[Run]:
    return [run for run in experiments.sequential(data, SEEDS) if (run.optimizer, run.rate) == (optimizer, rate)]


def best(data: str, records: Records, name: str) -> float:
    """The best sequential mean over the seeds, of the last weights ("mean") or of their average ("ema")."""
    candidates = [_found(_sequential_runs(data, *setting), records) for setting in SEQUENTIAL]
    means = [statistics.mean(record["scores"][name] for record in found) for found in candidates if found]
    return max(means, default=float("nan"))


def _table(runs: list[Run], records: Records) -> str:
    data = runs[0].data
    rows = {(run.algorithm, run.period): None for run in runs if run.algorithm != "sequential" and run.scale == "auto"}
    last, average = (best(data, records, name) for name in ("mean", "ema"))
    columns = [column for column in COLUMNS if any(_asked(run) == column for run in runs)]
    heads = [f"p = {p}" + (f", {factor} x epochs" if factor > 1 else "") for p, factor in columns]
    lines = [
        f"Best sequential: {last:.2f} with its last weights, {average:.2f} with their moving average. **Bold**: within "
        f"{BAR} of the latter; *slanted*: within {BAR} of the former.",
        "",
        "| algorithm | tau | result | " + " | ".join(heads) + " |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    first = {name: place for place, name in enumerate(RECOMMENDED)}
    for algorithm, period in sorted(rows, key=lambda row: (first.get(row[0], 9), row)):
        cells, result = [], ""
        for column in columns:
            wanted = [run for run in runs if (run.algorithm, run.period, *_asked(run)) == (algorithm, period, *column)]
            wanted = [run for run in wanted if run.scale == "auto"]
            if wanted:
                result = wanted[0].rule().default_result
            cells.append(_cell([record["scores"][result] for record in _found(wanted, records)], last, average))
        tau = "end" if experiments.only_period(algorithm) == "fit" else period
        lines.append(f"| {algorithm} | {tau} | {result} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _asked(run: Run) -> tuple[int, int]:
    return run.workers, run.epochs // EPOCHS[run.data]


def _scales(runs: list[Run], records: Records) -> str:
    lines = [
        "## The factor on the learning rate",
        "",
        "Higgs events, tau 10, one seed; the factor that `learning_rate_scaling: auto` takes is **bold**.",
        "",
        "| algorithm | optimizer | p | " + " | ".join(f"x {scale:g}" for scale in SCALES) + " |",
        "|---|---|---|" + "---|" * len(SCALES),
    ]
    rows = {(run.algorithm, run.optimizer, run.rate, run.workers): None for run in runs}
    for algorithm, optimizer, rate, workers in rows:
        cells = []
        for scale in SCALES:
            run = Run("higgs", algorithm, workers, 10, EPOCHS["higgs"], optimizer, rate, scale=scale)
            chosen = Run("higgs", algorithm, workers, 10, EPOCHS["higgs"], optimizer, rate).resolved()["scale"] == scale
            cell = _cell([record["scores"][run.rule().default_result] for record in _found([run], records)])
            cells.append(f"**{cell}**" if chosen and cell else cell)
        lines.append(f"| {algorithm} | {optimizer} {rate:g} | {workers} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _found(runs: list[Run], records: Records) -> list[dict[str, Any]]:
    return [records[run.key()] for run in runs if run.key() in records]


def _cell(scores: list[float | None], last: float = float("inf"), average: float = float("inf")) -> str:
    """Mean ± standard deviation over the seeds; without ± it is one seed."""
    if not scores:
        return ""
    if None in scores:
        return "diverged"
    mean = statistics.mean(scores)
    text = f"{mean:.2f}" + (f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else "")
    if mean >= average - BAR:
        return f"**{text}**"
    return f"*{text}*" if mean >= last - BAR else text
