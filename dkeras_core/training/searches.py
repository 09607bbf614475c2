"""What the driver does otherwise when the run is a search over all rows: an iteration takes the place of an epoch."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from dkeras_core.exchange.status import SearchStatus
from dkeras_core.training.settings import TrainingSettings


def as_search(settings: TrainingSettings, architecture: str) -> TrainingSettings:
    """The settings with the search's iterations as epochs.

    Raises ConfigError when the model's loss is not the same at every evaluation.
    """
    from dkeras_core.learning import model_io
    from dkeras_core.learning.checks import check_repeatable

    check_repeatable(model_io.from_json(architecture))
    return replace(settings, epochs=settings.rule.iterations)


def progress(search: SearchStatus, rows: int) -> dict[str, Any]:
    """The fields of ``progress.json`` that say how far the search is; ``rows`` are the training rows."""
    if not search.iterations:
        return {"rows": 0, "epoch": 0}
    last = search.iterations[-1]
    figures = {name: last[name] for name in ("loss", "gradient_norm")}
    return {"rows": last["iteration"] * rows, "epoch": last["iteration"], **figures}


def account(search: SearchStatus, accounts: list[dict[str, Any]]) -> dict[str, Any]:
    """What the run's account keeps of the search; each worker's account gets the pieces that it was first to finish."""
    for worker in accounts:
        worker["pieces"] = search.done.get(worker["worker"], 0)
    return {name: value for name, value in asdict(search).items() if name != "done"}
