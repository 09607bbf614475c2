"""The account of a run, ``train.json``: what was trained, by whom, in which time, and what to think of it."""

from __future__ import annotations

from typing import Any

from dkeras_core.errors import TrainingError
from dkeras_core.exchange import ServerStatus, versions
from dkeras_core.training.curve import Curve
from dkeras_core.training.history import History
from dkeras_core.training.settings import TrainingSettings

FEW_EXCHANGES = 20  # of a worker in a run: below, the workers hardly couple (docs/convergence.md)


def check_rows(accounts: list[dict[str, Any]], settings: TrainingSettings) -> None:
    """Every row has reached a worker, and every worker that was not ended early has trained each of its rows."""
    rows = sum(account["rows"] for account in accounts)
    trained = sum(account["rows_trained"] for account in accounts)
    short = [
        account
        for account in accounts
        if account["rows_trained"] != account["rows"] * settings.epochs and not ended_early(account)
    ]
    if rows != settings.rows or short:
        raise TrainingError(
            f"rows do not add up: {settings.rows} rows in the training split, {rows} reached the workers, "
            f"{trained} were trained in {settings.epochs} epochs"
            + "".join(
                f"; worker {account['worker']} trained {account['rows_trained']} of "
                f"{account['rows']} x {settings.epochs}"
                for account in short
            ),
            "the input may have changed while it was read; run again",
        )


def ended_early(account: dict[str, Any]) -> bool:
    """Whether a worker was asked to stop, or dropped out, before its epochs were over."""
    return bool(account.get("stopped") or account.get("dropped"))


def make_account(
    settings: TrainingSettings,
    accounts: list[dict[str, Any]],
    status: ServerStatus,
    curve: Curve,
    history: History,
    parameters: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the account; the parts of ``history`` are keys of it."""
    trained = sum(account["rows_trained"] for account in accounts)
    history.workers = sorted(accounts, key=lambda account: account["worker"])
    history.curve = curve.points()
    return {
        "algorithm": settings.rule.to_config(),
        "optimizer": settings.optimizer,
        "parameters": int(parameters),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "rows_in": settings.rows,
        "rows_trained": trained,
        "seconds": round(seconds, 3),
        "rows_per_second": round(trained / seconds, 1),
        "versions": versions(),
        "result": settings.chosen_result,
        "exchange": {"count": status.exchanges, "bytes": status.bytes, "shards": status.shards},
        "settings": {
            "learning_rate_scale": settings.learning_rate_scale,
            "warmup": settings.warmup,
            "warm_start": settings.warm_start,
            "overlap": settings.overlap,
            "exchange_share": settings.exchange_share,
            "on_nonfinite": settings.on_nonfinite,
            "wire": settings.wire,
        },
        "warnings": warnings(settings, accounts),
        **history.to_dict(),
    }


def warnings(settings: TrainingSettings, accounts: list[dict[str, Any]]) -> list[str]:
    """Return what was odd about the run, one sentence each, with what to do about it."""
    return []
