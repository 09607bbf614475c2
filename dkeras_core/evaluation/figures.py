"""The figures of the report about the test split and the phases, each from the part of a run that it shows.

Every function returns a :class:`Figure`, or None when its part is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dkeras_core.evaluation import text
from dkeras_core.evaluation.charts import Axis, Bar, Plot, Segment, stacked_bars

_HOVER_POINTS = 40
PHASE_COLOURS = {"preprocess": "c3", "train": "c1", "evaluate": "c2", "publish": "c4"}


@dataclass(frozen=True)
class Figure:
    """A picture with its heading, a sentence on how to read it, its legend and the numbers beside it."""

    title: str
    caption: str
    picture: Markup
    legend: str = ""
    facts: Sequence[tuple[str, str]] = ()


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


def _curve(model: Mapping[str, Any] | None, name: str, key: str) -> Mapping[str, Any] | None:
    curve = ((model or {}).get("curves") or {}).get(name)
    return curve if curve and curve.get(key) else None
