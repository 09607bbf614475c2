"""The figures of the report, each from the part of train.json, metrics.json or the phases that it shows.

Every function returns a :class:`Figure`, or None when its part is missing.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dkeras_core.evaluation import text
from dkeras_core.evaluation.charts import Axis, Bar, Plot, Segment, legend, stacked_bars

_MEAN_POINTS = 120
_HOVER_POINTS = 40
_WORKER_POINTS = 8_000  # of all workers together: what keeps the file small
PHASE_COLOURS = {"preprocess": "c3", "train": "c1", "evaluate": "c2", "publish": "c4"}
WORKER_TIMES = (("compute", "c1"), ("exchange", "c2"), ("wait", "neutral"), ("spool", "c3"))


@dataclass(frozen=True)
class Figure:
    """A picture with its heading, a sentence on how to read it, its legend and the numbers beside it."""

    title: str
    caption: str
    picture: Markup
    legend: str = ""
    facts: Sequence[tuple[str, str]] = ()


def loss(train: Mapping[str, Any] | None, over: str) -> Figure | None:
    """Return the loss over ``seconds`` or ``rows``: a thin line for each worker, their mean bold."""
    lines = _worker_lines(train, over)
    if not lines:
        return None
    budget = max(60, _WORKER_POINTS // len(lines))
    workers = {worker: _thinned(line, budget) for worker, line in lines.items() if worker is not None}
    mean = _thinned(lines[None], _MEAN_POINTS) if None in lines else _mean_line(list(workers.values()))
    unit = "seconds" if over == "seconds" else "rows trained by each worker" if workers else "rows trained"
    everything = [*workers.values(), mean]
    plot = Plot(
        f"Training loss over {over}",
        Axis.over(unit, [x for line in everything for x, _ in line], zero=True, tight=True),
        Axis.over("training loss", [y for line in everything for _, y in line]),
    )
    for line in workers.values():
        xs, ys = zip(*line, strict=True)
        plot.line(xs, ys, "c5", style="thin faded" if len(workers) <= 4 else "thin faint")
    xs, ys = zip(*mean, strict=True)
    step = max(1, len(xs) // _HOVER_POINTS)
    shown = [f"{text.count(x)} {'s' if over == 'seconds' else 'rows'}: loss {y:.4f}" for x, y in mean]
    titles = [title if i % step == 0 or i == len(shown) - 1 else "" for i, title in enumerate(shown)]
    plot.line(xs, ys, "c1", style="bold with-halo" if len(workers) > 4 else "bold", titles=titles)
    names = [("mean of the workers", "c1", "line bold")]
    if len(workers) > 1:
        names.append((f"each of {len(workers)} workers", "c5", "line thin faded"))
    facts = [("first", text.metric(mean[0][1])), ("last", text.metric(mean[-1][1]))]
    facts.append(("least", text.metric(min(y for _, y in mean))))
    return Figure(f"Loss over {'time' if over == 'seconds' else 'rows'}", "", plot.svg(), legend(names), facts)


def _worker_lines(train: Mapping[str, Any] | None, over: str) -> dict[Any, list[tuple[float, float]]]:
    lines = defaultdict(list)
    for point in (train or {}).get("curve") or ():
        if point.get("loss") is not None and point.get(over) is not None:
            lines[point.get("worker")].append((float(point[over]), float(point["loss"])))
    return {worker: sorted(line) for worker, line in lines.items()}


def _thinned(line: list[tuple[float, float]], points: int) -> list[tuple[float, float]]:
    """Return at most about `points` points, each the mean of a run of neighbours; the first point stays."""
    group = -(-len(line) // points)
    if group <= 1:
        return line
    parts = [line[:1], *(line[i : i + group] for i in range(1, len(line), group))]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _mean_line(lines: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean of the lines where all of them have begun; a line that has ended keeps its last value."""
    smooth = [_thinned(line, _MEAN_POINTS) for line in lines]
    start, end = max(line[0][0] for line in smooth), max(line[-1][0] for line in smooth)
    places = [start + (end - start) * i / (_MEAN_POINTS - 1) for i in range(_MEAN_POINTS)]
    return [(x, sum(_value_at(line, x) for line in smooth) / len(smooth)) for x in places]


def _value_at(line: list[tuple[float, float]], x: float) -> float:
    right = bisect.bisect_left(line, (x,))
    if right == len(line):
        return line[-1][1]
    if right == 0 or line[right][0] == x:
        return line[right][1]
    (x0, y0), (x1, y1) = line[right - 1], line[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def roc(challenger: Mapping[str, Any], champion: Mapping[str, Any] | None, champion_name: str) -> Figure | None:
    """Return the ROC curve, with the champion's beside it."""
    curve = _curve(challenger, "roc", "fpr")
    if curve is None:
        return None
    plot = Plot("ROC curve", Axis.unit("false positive rate"), Axis.unit("true positive rate"), height=380)
    plot.diagonal()
    other = _curve(champion, "roc", "fpr")
    if other:
        name = f"{champion_name}, AUC {text.metric(champion['roc_auc'])}"
        plot.line(other["fpr"], other["tpr"], "c5", name, style="dashed")
    step = max(1, len(curve["fpr"]) // _HOVER_POINTS)
    points = zip(curve["fpr"], curve["tpr"], curve["threshold"], strict=True)
    titles = [
        f"threshold {t:.4f}: true positives {tpr:.1%}, false positives {fpr:.1%}"
        if t is not None and i % step == 0
        else ""
        for i, (fpr, tpr, t) in enumerate(points)
    ]
    plot.area(curve["fpr"], curve["tpr"], "c1")
    name = f"this model, AUC {text.metric(challenger['roc_auc'])}"
    plot.line(curve["fpr"], curve["tpr"], "c1", name, style="bold", titles=titles)
    facts = [("AUC", text.metric(challenger["roc_auc"]))]
    if challenger.get("roc_auc_se") is not None:
        facts.append(("standard error", f"± {challenger['roc_auc_se']:.4f}"))
    confusion = challenger.get("confusion")
    if confusion and challenger.get("positives") and challenger.get("negatives"):
        true_positive, false_positive = confusion["tp"], confusion["fp"]
        plot.dots(
            [false_positive / challenger["negatives"]],
            [true_positive / challenger["positives"]],
            "c1",
            [f"decision threshold {challenger['threshold']:g}"],
        )
        facts += [
            (f"TPR at {challenger['threshold']:g}", text.share(true_positive, challenger["positives"])),
            (f"FPR at {challenger['threshold']:g}", text.share(false_positive, challenger["negatives"])),
        ]
    return Figure(
        "ROC", "The dot marks the decision threshold; the dashed diagonal is chance.", plot.svg(), plot.legend(), facts
    )


def score_distributions(challenger: Mapping[str, Any], positive: str, negative: str) -> Figure | None:
    """Return the densities of the score of both classes."""
    curve = _curve(challenger, "scores", "edges")
    if curve is None:
        return None
    edges = curve["edges"]
    plot = Plot(
        "Score distributions",
        Axis.unit("score"),
        Axis.over("density", [*curve["positive"], *curve["negative"]], zero=True),
        height=380,
    )
    for name, key, colour in ((negative, "negative", "c2"), (positive, "positive", "c1")):
        titles = [
            f"{name}, score {low:.2f} to {high:.2f}: density {height:.3f}"
            for low, high, height in zip(edges[:-1], edges[1:], curve[key], strict=True)
        ]
        plot.histogram(edges, curve[key], colour, f"{name} ({text.count(challenger.get(f'{key}s'))} rows)", titles)
    plot.rule(challenger["threshold"], f"threshold {challenger['threshold']:g}")
    facts = [
        (text.label(name), text.metric(challenger[name])) for name in ("precision", "recall") if name in challenger
    ]
    facts += [(text.label("f1"), text.metric(challenger.get("f1")))]
    return Figure("Score distributions", "Each class by itself integrates to one.", plot.svg(), plot.legend(), facts)


def ams(challenger: Mapping[str, Any], champion: Mapping[str, Any] | None, champion_name: str) -> Figure | None:
    """Return the approximate median significance over the threshold, with its maximum."""
    curve = _curve(challenger, "ams", "threshold")
    if curve is None:
        return None
    other = _curve(champion, "ams", "threshold")
    plot = Plot(
        "AMS over threshold",
        Axis.unit("threshold"),
        Axis.over("AMS", [*curve["ams"], *(other["ams"] if other else ())], zero=True),
    )
    if other:
        name = f"{champion_name}, at most {champion['ams']:.3f}"
        plot.line(other["threshold"], other["ams"], "c5", name, style="dashed")
    titles = [
        f"threshold {t:.3f}: AMS {value:.3f}" if i % (len(curve["ams"]) // _HOVER_POINTS + 1) == 0 else ""
        for i, (t, value) in enumerate(zip(curve["threshold"], curve["ams"], strict=True))
    ]
    plot.area(curve["threshold"], curve["ams"], "c1")
    plot.line(curve["threshold"], curve["ams"], "c1", "this model", style="bold", titles=titles)
    best = challenger["ams_threshold"]
    plot.rule(best, f"{challenger['ams']:.3f} at {best:.3f}")
    plot.dots([best], [challenger["ams"]], "c1", [f"maximum {challenger['ams']:.4f} at threshold {best:.5f}"])
    facts = [
        ("AMS, maximum", f"{challenger['ams']:.4f}"),
        ("at threshold", f"{best:.4f}"),
        ("expected signal", f"{challenger['ams_signal']:,.1f}"),
        ("expected background", f"{challenger['ams_background']:,.1f}"),
    ]
    caption = "Approximate median significance of the challenge; weights scaled to the totals of the whole data set."
    return Figure("AMS over threshold", caption, plot.svg(), plot.legend(), facts)


def calibration(challenger: Mapping[str, Any]) -> Figure | None:
    """Return the observed share of positives over the mean score, with 95 % intervals (Wilson)."""
    curve = _curve(challenger, "calibration", "score")
    if curve is None:
        return None
    plot = Plot("Calibration", Axis.unit("mean score of the bin"), Axis.unit("share of positives"))
    plot.diagonal()
    plot.line(curve["score"], curve["observed"], "c1", style="thin")
    points = list(zip(curve["score"], curve["observed"], curve["rows"], strict=True))
    plot.dots(
        curve["score"],
        curve["observed"],
        "c1",
        [f"mean score {x:.3f}: {y:.1%} positive of {text.count(rows)} rows" for x, y, rows in points],
        [_wilson(y, rows) for _, y, rows in points],
    )
    facts = [
        (text.label(name), text.metric(challenger[name]))
        for name in ("calibration_error", "brier", "log_loss")
        if name in challenger
    ]
    caption = "On the dashed line, scores are probabilities. Bars are 95 % intervals."
    return Figure("Calibration", caption, plot.svg(), facts=facts)


def _wilson(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval (1927) of a binomial share."""
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5 / (1 + z * z / rows)
    return middle - half, middle + half


def phases(run: Mapping[str, Any] | None) -> tuple[Markup, list[dict]] | None:
    """Return one bar with a segment for each phase that has ended, and the rows of the table below it."""
    ended = [phase for phase in (run or {}).get("phases") or () if phase.get("seconds") is not None]
    total = sum(phase["seconds"] for phase in ended)
    if not total:
        return None
    rows = [
        {
            "name": phase["name"],
            "colour": PHASE_COLOURS.get(phase["name"], "c5"),
            "seconds": phase["seconds"],
            "share": phase["seconds"] / total,
            "state": phase.get("state", ""),
            "detail": phase.get("detail") or "",
        }
        for phase in ended
    ]
    segments = [
        Segment(row["seconds"], row["colour"], f"{row['name']}: {text.seconds(row['seconds'])}, {row['share']:.1%}")
        for row in rows
    ]
    return stacked_bars([Bar(segments)], "Time per phase", thickness=26), rows


def workers(train: Mapping[str, Any] | None) -> Figure | None:
    """Return a bar for each worker: where its seconds went."""
    accounts = [account for account in (train or {}).get("workers") or () if account]
    bars = []
    totals = dict.fromkeys((name for name, _ in WORKER_TIMES), 0.0)
    many = len(accounts) > 16
    for account in accounts:
        segments = []
        for name, colour in WORKER_TIMES:
            value = float(account.get(f"{name}_seconds") or 0)
            totals[name] += value
            who = f"worker {account.get('worker')}"
            segments.append(Segment(value, colour, f"{who}: {name} {text.seconds(value)}"))
        spent = sum(segment.value for segment in segments)
        where = f" on {account['host']}" if account.get("host") else ""
        left = f"Worker {account.get('worker')}{where}"
        bars.append(Bar(segments) if many else Bar(segments, left, text.seconds(spent)))
    whole = sum(totals.values())
    if not whole:
        return None
    names = [(f"{name} {text.share(totals[name], whole)}", colour, "box") for name, colour in WORKER_TIMES]
    picture = stacked_bars(bars, "Time of each worker", pitch=12 if many else 44, thickness=9 if many else 14)
    longest = max(sum(segment.value for segment in bar.segments) for bar in bars)
    caption = f"A bar for each of {len(bars)} workers; the longest is {text.seconds(longest)}." if many else ""
    return Figure("Time of each worker", caption, picture, legend(names))


def _curve(model: Mapping[str, Any] | None, name: str, key: str) -> Mapping[str, Any] | None:
    curve = ((model or {}).get("curves") or {}).get(name)
    return curve if curve and curve.get(key) else None
