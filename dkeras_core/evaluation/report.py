"""The report of a run: one HTML file that opens offline, with everything in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dkeras_core.evaluation import figures, pages, text, training_figures

_CARDS = ("roc_auc", "ams", "accuracy", "f1", "log_loss")


def render(report: Mapping[str, Any]) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    report : dict
        ``pipeline`` (the pipeline file as a dict), ``run`` (progress.json or result.json), ``dataset``
        (preprocess.json), ``train`` (train.json), ``metrics`` (metrics.json), ``environment`` ({"key", "versions"}),
        ``application``, ``run_id``, ``version`` (None for a candidate), ``synthetic`` (bool), ``created`` (ISO time).
        Whatever is missing or None is left out of the page.
    """
    page = pages.environment().get_template("report.html")
    return page.render(**_context(report), css=pages.template("report.css"))


def _context(report: Mapping[str, Any]) -> dict[str, Any]:
    pipeline = report.get("pipeline") or {}
    metrics, train, run = (report.get(part) or {} for part in ("metrics", "train", "run"))
    challenger, champion = metrics.get("challenger") or {}, metrics.get("champion")
    version = metrics.get("champion_version")
    champion_name = f"version {version}" if version is not None else "champion"
    schema = pipeline.get("schema") or {}
    positive, negative = (str(schema.get(name, name)) for name in ("positive", "negative"))
    model = (pipeline.get("registry") or {}).get("model") or pipeline.get("name") or "model"
    evaluated = (
        [
            figures.roc(challenger, champion, champion_name),
            figures.score_distributions(challenger, positive, negative),
            figures.ams(challenger, champion, champion_name),
            figures.calibration(challenger),
        ]
        if challenger
        else []
    )
    return {
        "name": model,
        "description": pipeline.get("description"),
        "report": report,
        "created": _readable(report.get("created")),
        "verdict": _verdict(run, metrics),
        "cards": _cards(challenger, champion, metrics.get("comparison") or {}),
        "champion_name": champion_name if champion else None,
        "gates": metrics.get("gates") or [],
        "learning": [figure for figure in _learning(train) if figure],
        "evaluated": [figure for figure in evaluated if figure],
        "phases": figures.phases(run),
        "periods": _periods(train.get("workers") or []),
        "workers": training_figures.workers(train),
        "train": train,
        "challenger": challenger,
        "dataset": _dataset(report.get("dataset") or {}),
        "algorithm": _algorithm(train),
        "settings": _settings(pipeline),
        "versions": {**(train.get("versions") or {}), **((report.get("environment") or {}).get("versions") or {})},
        "environment_key": (report.get("environment") or {}).get("key"),
    }


def _learning(train: Mapping[str, Any]):
    """Yield the figures of the training, those by epoch first, where there are any."""
    yield training_figures.epochs(train)
    yield training_figures.metrics(train)
    yield training_figures.loss(train, "seconds")
    yield training_figures.loss(train, "rows")


def _algorithm(train: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the algorithm's name and hyper-parameters, and the switches that are not as they are by default."""
    found = [
        ("algorithm" if key == "name" else key.replace("_", " "), _written(value).replace("_", " "))
        for key, value in (train.get("algorithm") or {}).items()
    ]
    switches = train.get("settings") or {}
    usual = {
        "learning_rate_scale": 1.0, "warmup": 0.0, "warm_start": 0, "overlap": False, "on_nonfinite": "stop",
        "wire": "float32",
    }  # fmt: skip
    return found + [
        (key.replace("_", " "), _written(switches[key])) for key in usual if switches.get(key, usual[key]) != usual[key]
    ]


def _periods(workers) -> str | None:
    """Return the communication periods that workers chose by themselves, as a range."""
    chosen = [worker["period"] for worker in workers if (worker or {}).get("period")]
    if not chosen:
        return None
    low, high = min(period["min"] for period in chosen), max(period["max"] for period in chosen)
    return str(low) if low == high else f"{low} to {high}"


def _readable(moment: str | None) -> str | None:
    try:
        return f"{datetime.fromisoformat(moment):%d %B %Y, %H:%M}".lstrip("0") if moment else None
    except ValueError:
        return moment


def _verdict(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str] | None:
    """Return {"tone", "text"} for the pill beside the name."""
    if run.get("status") == "failed" or run.get("phase") == "failed":
        return {"tone": "failed", "text": "Run failed"}
    gates = metrics.get("gates") or []
    if not gates:
        return None
    failed = sum(not gate["passed"] for gate in gates)
    if len(gates) == 1:
        return {"tone": "failed", "text": "Gate failed"} if failed else {"tone": "passed", "text": "Gate passed"}
    if failed:
        return {"tone": "failed", "text": f"{failed} of {len(gates)} gates failed"}
    return {"tone": "passed", "text": f"All {len(gates)} gates passed"}


def _cards(
    challenger: Mapping[str, Any], champion: Mapping[str, Any] | None, comparison: Mapping[str, Any]
) -> list[dict[str, Any]]:
    cards, intervals = [], challenger.get("intervals") or {}
    for name in _CARDS:
        if challenger.get(name) is None:
            continue
        before = (champion or {}).get(name)
        note = {
            "roc_auc": f"± {challenger['roc_auc_se']:.4f}" if challenger.get("roc_auc_se") is not None else "",
            "ams": f"at threshold {challenger.get('ams_threshold') or 0:.3f}",
            "log_loss": "less is better",
        }.get(name, f"at threshold {challenger.get('threshold', 0.5):g}")
        if name in intervals:
            note = f"{text.interval(intervals[name])}{f', {note}' if name != 'roc_auc' else ''}"
        change = text.change(name, challenger[name], before)
        moved = None
        if change and name in comparison:
            low, high = comparison[name]["interval"]
            moved = text.interval(text.difference(name, [low, high]))
            if low <= 0 <= high:  # it may be chance: no colour for it
                change = {**change, "tone": "even"}
        cards.append(
            {"metric": name, "value": challenger[name], "note": note, "before": before, "change": change, "by": moved}
        )
    return cards


def _dataset(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of each split with their share and those of each class, and the missing values by feature."""
    rows = dict(dataset.get("rows") or {})
    total = rows.pop("in", None) or sum(rows.values())
    classes = (dataset.get("classes") or {}).values()
    labels = [str(entry.get("label")) for entry in classes]

    def line(name: str, key: str, number: int) -> dict[str, Any]:
        by_class = [(entry.get("rows") or {}).get(key) for entry in classes]
        return {"name": name, "rows": number, "share": text.share(number, total), "classes": by_class}

    train = rows.get("train") or 0
    missing = sorted((dataset.get("missing") or {}).items(), key=lambda entry: -entry[1])
    return {
        **dataset,
        "labels": labels,
        "splits": [line(name, name, number) for name, number in rows.items() if number],
        "all": line("all", "in", total),
        "missing": [(name, number, text.share(number, train)) for name, number in missing],
    }


def _settings(pipeline: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the pipeline file as sections of (key, value) with dotted keys; plain values make the first section."""
    plain = [(key, _written(value)) for key, value in pipeline.items() if not isinstance(value, Mapping)]
    sections = [
        (key, list(_flattened(value))) for key, value in pipeline.items() if isinstance(value, Mapping) and value
    ]
    return [("pipeline", plain), *sections] if plain else sections


def _flattened(value: Mapping[str, Any], prefix: str = ""):
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flattened(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _written(item)


def _written(value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return text.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in value)
    return str(value)
