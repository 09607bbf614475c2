"""docs/convergence.md from the records: page.md, and below it the tables with what is there."""

from __future__ import annotations

import datetime
from pathlib import Path

from dkeras_core.rules.registry import RULES
from simulated import experiments
from simulated.cells import BAR, Records, asked, best, found, heads, lines, marked, mean, scores, text
from simulated.experiments import EPOCHS, PERIODS, RECOMMENDED, SCALES, SEEDS, SEQUENTIAL, columns, default
from simulated.runs import Results, Run, key_of

PAGE = Path(__file__).with_name("page.md")
UNITS = {"higgs": "ROC AUC x 100", "mnist": "test accuracy in per cent"}
ROWS = {
    "higgs": "8,000 training and 2,000 test events of the ATLAS Higgs challenge of 2014, 30 standardised features",
    "mnist": "60,000 training and 10,000 test images",
}


def write(results: Results, target: Path) -> None:
    """Write the page. Runs that are not there leave their cell empty; a data set without runs is left out."""
    records = {key_of(record["run"]): record for record in results}
    parts = [PAGE.read_text(encoding="utf-8").replace("{date}", datetime.date.today().isoformat()).rstrip()]
    for data in EPOCHS:
        if best(data, records, "mean") is not None:
            parts += _of(data, records)
    scaled = [run for run in experiments.scales() if run.key() in records]
    if scaled:
        parts.append(_scales(scaled, records))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _of(data: str, records: Records) -> list[str]:
    bars = best(data, records, "mean"), best(data, records, "ema")
    parts = [
        f"## {data}: {UNITS[data]}\n\n{ROWS[data]}; {EPOCHS[data]} epochs.",
        _sequential(data, records),
        f"Best sequential: {bars[0]:.2f} with its last weights, {bars[1]:.2f} with their moving average.",
        f"### Is the bar met?\n\nWith default settings, the distance from the best sequential run; met from -{BAR} on.",
        _bars(data, records, *bars),
        "### Default settings\n\n"
        f"**Bold**: within {BAR} of the best moving average; *slanted*: within {BAR} of the best last weights.",
        _defaults(data, records, *bars),
        _lowest(data, records),
        "### Other communication periods",
        _periods(data, records, *bars),
    ]
    return [part for part in parts if part]


def _sequential(data: str, records: Records) -> str:
    rows = []
    for optimizer, rate in SEQUENTIAL:
        runs = [run for run in experiments.sequential(data, SEEDS) if (run.optimizer, run.rate) == (optimizer, rate)]
        cells = [text([record["scores"][name] for record in found(runs, records)]) for name in ("mean", "ema")]
        rows.append([f"{optimizer} {rate:g}", *cells])
    return lines(["sequential", "last weights", "moving average of the weights"], rows)


def _bars(data: str, records: Records, last: float, average: float) -> str:
    """Asynchronous EASGD and the best synchronous rule against both readings of the bar."""
    wanted = [column for column in columns(data) if column != (64, 1)]  # 64 workers may take twice the epochs
    synchronous = [name for name in RECOMMENDED if RULES[name].synchronous]
    rows = []
    for names, title in ((RECOMMENDED[:1], RECOMMENDED[0]), (synchronous, "best of " + ", ".join(synchronous))):
        for bar, reading in ((last, "last weights"), (average, "moving average")):
            cells = [_met(data, names, column, bar, records) for column in wanted]
            rows.append([title, reading, *cells])
    return lines(["algorithm", "sequential with", *heads(data, wanted)], rows)


def _met(data: str, names: tuple[str, ...], column: tuple[int, int], bar: float, records: Records) -> str:
    means = [mean(scores([default(data, name, *column, seed) for seed in SEEDS], records)) for name in names]
    if not any(means):
        return ""
    distance = max(value for value in means if value) - bar
    return f"{'met' if distance >= -BAR else '**missed**'}, {distance:+.2f}"


def _defaults(data: str, records: Records, last: float, average: float) -> str:
    rows = []
    for algorithm in (*RECOMMENDED, *experiments.others()):
        cells, result = [], ""
        for column in columns(data):
            runs = [default(data, algorithm, *column, seed) for seed in SEEDS]
            result = runs[0].rule().default_result
            cells.append(marked(scores(runs, records), last, average))
        if any(cells):
            rows.append([algorithm, _taus(algorithm, data), result, *cells])
    return lines(["algorithm", "tau", "result", *heads(data)], rows)


def _lowest(data: str, records: Records) -> str:
    """Whether any algorithm ends lower with most workers than one whose workers never meet, which is a collapse."""
    sentences = []
    for column in [column for column in columns(data) if column[0] == 64]:
        names = (*RECOMMENDED, *experiments.others())
        values = {name: mean(scores([default(data, name, *column, seed) for seed in SEEDS], records)) for name in names}
        apart, there = values.pop("averaging"), {name: value for name, value in values.items() if value is not None}
        if apart is not None and there:
            name = min(there, key=there.get)
            (head,) = heads(data, [column])
            verdict = "**a collapse**" if there[name] < apart else "no collapse"
            sentences.append(
                f"{head}: lowest is `{name}` with {there[name]:.2f} ({verdict}), `averaging` has {apart:.2f}."
            )
    return "Workers that never meet (`averaging`) lack steps, not more. " + " ".join(sentences) if sentences else ""


def _taus(algorithm: str, data: str) -> str:
    """The communication periods of the columns, each once."""
    periods = dict.fromkeys(experiments.default_period(algorithm, workers) for workers, _ in columns(data))
    return ", ".join("end" if period == "fit" else str(period) for period in periods)


def _periods(data: str, records: Records, last: float, average: float) -> str:
    rows, runs = [], list(experiments.periods(data, SEEDS))
    for algorithm in RECOMMENDED:
        for period in PERIODS:
            cells = []
            for column in columns(data):
                here = [run for run in runs if (run.algorithm, run.period, asked(run)) == (algorithm, period, column)]
                cells.append(marked(scores(here, records), last, average))
            if any(cells):
                rows.append([algorithm, str(period), *cells])
    return lines(["algorithm", "tau", *heads(data)], rows)


def _scales(runs: list[Run], records: Records) -> str:
    rows = []
    for algorithm, optimizer, rate, workers in dict.fromkeys(
        (r.algorithm, r.optimizer, r.rate, r.workers) for r in runs
    ):
        cells = []
        for scale in SCALES:
            run = Run("higgs", algorithm, workers, 10, EPOCHS["higgs"], optimizer, rate, scale=scale)
            chosen = Run("higgs", algorithm, workers, 10, EPOCHS["higgs"], optimizer, rate).resolved()["scale"] == scale
            cell = text(scores([run], records))
            cells.append(f"**{cell}**" if chosen and cell else cell)
        rows.append([algorithm, f"{optimizer} {rate:g}", str(workers), *cells])
    return (
        "## The factor on the learning rate\n\n"
        "Higgs events, tau 10, one seed; the factor that `learning_rate_scaling: auto` takes is **bold**.\n\n"
        + lines(["algorithm", "optimizer", "p", *(f"x {scale:g}" for scale in SCALES)], rows)
    )
