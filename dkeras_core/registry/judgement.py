"""Two versions on the same rows: is the new one worse by more than allowed, and is it worse beyond chance?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dkeras_core.config import Pipeline, Promotion
from dkeras_core.errors import DkerasError, RegistryError
from dkeras_core.evaluation import bootstrap
from dkeras_core.evaluation.gates import GateResult, gates
from dkeras_core.evaluation.metrics import BinaryStatistics
from dkeras_core.evaluation.paired import PairedStatistics
from dkeras_core.registry.heldout import HeldOut

#: How far a metric may be from the published one, for the same model and rows on another machine.
REPRODUCED = 1e-4
_ALWAYS = ("roc_auc", "log_loss")
_BATCH = 65_536


def compare(
    pipeline: Pipeline,
    settings: Promotion,
    rows: HeldOut,
    mine: np.ndarray,
    theirs: np.ndarray,
    current: str,
    published: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Judge the version by its scores and those of the current one.

    Parameters
    ----------
    pipeline : the version's own.
    rows : n rows of its test split.
    mine, theirs : float32[n], scores of the version and of the current one.
    current : name of the current version, for messages.
    published : the metrics in the version's manifest.

    Returns
    -------
    (comparison, significance)
        Each with "passed", "message" and "detail".

    Raises
    ------
    DkerasError
        A gate names a metric that these data do not have, scores are no probabilities, or the version does not get
        the metrics here that it was published with.
    """
    weighted = pipeline.schema_.weight is not None
    totals = rows.class_totals if weighted else None
    threshold = pipeline.evaluation.threshold
    both, paired = [BinaryStatistics(threshold), BinaryStatistics(threshold)], PairedStatistics(threshold)
    for start in range(0, len(rows.labels), _BATCH):
        part = slice(start, start + _BATCH)
        weights = rows.weights[part] if weighted else None
        for statistics, scores in zip(both, (mine, theirs), strict=True):
            statistics.update(scores[part], rows.labels[part], weights)
        paired.update(mine[part], theirs[part], rows.labels[part], weights)
    here, there = (statistics.result(totals) for statistics in both)
    if len(rows.labels) == rows.total:
        _refuse_changed(here, published, rows.path)
    wanted = _wanted(pipeline, settings)
    judged = gates(wanted, here, there)
    # With several metrics compared, each is held to more, so that together they are wrong as rarely as one alone.
    told = [metric for metric in wanted if metric not in bootstrap.WITHOUT_INTERVAL]
    confidence = 1 - (1 - bootstrap.CONFIDENCE) / max(1, len(told))
    gains = bootstrap.compare(paired, here, there, totals, confidence=confidence)
    gains = {metric: gains[metric] for metric in told if metric in gains}
    return _comparison(judged, rows, current), _significance(gains, settings, confidence, rows, current)


def _wanted(pipeline: Pipeline, settings: Promotion) -> dict[str, dict[str, float | None]]:
    """Return the comparing rules of the pipeline's gates, and one on the settings' metric where none of them is."""
    wanted = {
        metric: {"max_drop": gate.max_drop, "min_gain": gate.min_gain}
        for metric, gate in pipeline.evaluation.gates.items()
        if gate.max_drop is not None or gate.min_gain is not None
    }
    return wanted if settings.metric in wanted else {settings.metric: {"max_drop": settings.max_drop}, **wanted}


def _refuse_changed(here: Mapping[str, Any], published: Mapping[str, Any], path: str) -> None:
    for metric in _ALWAYS:
        before, now = published.get(metric), here[metric]
        if before is not None and now is not None and abs(now - before) > REPRODUCED:
            raise RegistryError(
                f"{metric} is {now:.6g} on {path}, but the version was published with {before:.6g}: "
                "these are not the rows that it was judged on, or they are scored in another way",
                "Preprocess the data again, or publish the version again.",
            )


def _comparison(judged: list[GateResult], rows: HeldOut, current: str) -> dict[str, Any]:
    failed = [gate for gate in judged if not gate.passed]
    said = "; ".join(gate.message.replace("the champion's", f"{current}'s") for gate in failed or judged)
    detail = {"gates": [gate.to_json() for gate in judged], "rows": len(rows.labels), "current": current}
    return {"passed": not failed, "message": f"{said} (on the same {rows.rows})", "detail": detail}


def _significance(
    gains: dict[str, dict], settings: Promotion, confidence: float, rows: HeldOut, current: str
) -> dict[str, Any]:
    worse = [metric for metric, found in gains.items() if found["interval"][1] < -settings.negligible]
    level = f"{100 * confidence:.4g} %"
    said = []
    for metric in worse or gains:
        gain, (low, high) = gains[metric]["gain"], gains[metric]["interval"]
        direction = "better" if gain > 0 else "worse" if gain < 0 else "unchanged"
        amount = f"{abs(gain):.3g} " if gain else ""
        said.append(f"{metric} {amount}{direction}, {level} interval of the gain {low:+.3g} to {high:+.3g}")
    message = "; ".join(said) or "these rows cannot tell: no metric has an interval"
    if worse:
        message = f"significantly worse than {current}: {message}"
    detail = {"gains": gains, "confidence": confidence, "rows": len(rows.labels), "current": current}
    return {"passed": bool(gains) and not worse, "message": message, "detail": detail}


def split_note(pipeline: Pipeline, other: str, current: str) -> str:
    """Return a warning when the current version may have been trained on rows of this test split, else nothing.

    ``other`` is its pipeline file. The split is a function of key and seed, so with other settings a row of one's
    test split may be in the other's training split, which flatters the one that has seen it.
    """
    try:
        theirs = Pipeline.parse(other, source=current) if other else None
    except DkerasError:
        theirs = None
    if theirs is None:
        return f"; how {current} split its rows is not known: it may have been trained on some of these"
    same = (theirs.split.seed, theirs.schema_.key) == (pipeline.split.seed, pipeline.schema_.key)
    (begin, end), (low, high) = pipeline.split.span, theirs.split.span
    if same and low <= begin and end <= high:
        return ""
    return f"; {current} was split otherwise and may have been trained on some of these rows, which flatters it"
