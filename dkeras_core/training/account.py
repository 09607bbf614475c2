"""The account of a run, ``train.json``: what was trained, by whom, in which time, and what to think of it."""

from __future__ import annotations

import math
from typing import Any

from dkeras_core.errors import TrainingError
from dkeras_core.exchange import ServerStatus, versions
from dkeras_core.training import searches
from dkeras_core.training.curve import Curve
from dkeras_core.training.history import History
from dkeras_core.training.settings import TrainingSettings

FEW_EXCHANGES = 20  # of a worker in a run: below, the workers hardly couple (docs/convergence.md)
HIGH_SHARE = 0.1  # of the workers' time, for exchanges or for waiting


def check_rows(accounts: list[dict[str, Any]], settings: TrainingSettings) -> None:
    """Every row has reached a worker, and every worker that was not ended early has trained each of its rows."""
    if settings.rule.local == "pieces":
        return  # the coordinator has checked the rows of every evaluation
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
    if settings.rule.synchronous:
        late = {worker.worker: (worker.late, round(worker.late_seconds, 3)) for worker in status.workers}
        for account in accounts:
            account["late"], account["late_seconds"] = late[account["worker"]]
    search = {"search": searches.account(status.search, accounts)} if status.search else {}
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
        **search,
        **history.to_dict(),
    }


def warnings(settings: TrainingSettings, accounts: list[dict[str, Any]]) -> list[str]:
    """Return what was odd about the run, one sentence each, with what to do about it."""
    trained = [account for account in accounts if account["steps"]]
    found = [
        *_departures(accounts, trained),
        *_few_exchanges(settings, [account for account in trained if not ended_early(account)]),
        *_costly_exchanges(settings, trained),
        *_stragglers(settings, trained),
    ]
    slow = sorted({account["fused"] for account in trained if str(account.get("fused", "")).startswith("no")})
    return found + [f"the workers trained step by step, which is slow: {reason}" for reason in slow]


def _departures(accounts, trained):
    """Workers that had nothing to do, dropped out, or were started again."""
    idle = [account for account in accounts if not account["rows"] and not account.get("dropped")]
    if idle:
        yield f"{len(idle)} of {len(accounts)} workers were given no rows; use fewer workers"
    for account in accounts:
        who = f"worker {account['worker']} on {account['host']}"
        if account.get("dropped"):
            yield f"{who} dropped out, and the result is made without it: {account['dropped']}"
    again = [str(account["worker"]) for account in trained if account.get("attempt")]
    if again:
        yield f"workers that were lost and started again: {', '.join(again)}; their first rows were trained twice"


def _few_exchanges(settings, accounts):
    rule = settings.rule
    if not rule.exchanging or rule.communication_period in ("epoch", "fit") or not accounts:
        return
    least = min(accounts, key=lambda account: account["exchanges"])
    if least["exchanges"] < FEW_EXCHANGES and settings.workers > 1:
        period = max(1, least["steps"] // FEW_EXCHANGES)
        yield (
            f"worker {least['worker']} exchanged only {least['exchanges']} times: below about {FEW_EXCHANGES} the "
            "workers hardly learn from each other; train for more epochs, use fewer workers, or set "
            f"communication_period to {period}{' or less' if period > 1 else ''}"
        )


def _costly_exchanges(settings, accounts):
    exchange = sum(account["exchange_seconds"] for account in accounts)
    compute = sum(account["compute_seconds"] for account in accounts)
    exchanges, steps = (sum(account[name] for account in accounts) for name in ("exchanges", "steps"))
    if not (exchanges and compute) or exchange < HIGH_SHARE * (exchange + compute):
        return
    share = settings.exchange_share
    wanted = math.ceil(exchange / exchanges * (1 - share) / (share * compute / steps))
    most = max(1, min(account["steps"] for account in accounts) // FEW_EXCHANGES)
    head = f"exchanges took {exchange / (exchange + compute):.0%} of the workers' time"
    if settings.rule.local == "pieces":
        yield f"{head}, in which they also wait for the last pieces of an evaluation; use fewer workers"
    elif settings.rule.local != "steps":
        yield f"{head}; an algorithm with several local steps between exchanges would spend less"
    elif wanted <= most:
        yield f"{head}; communication_period {wanted} would bring that down to about {share:.0%}"
    else:
        yield f"{head}; use fewer workers, or communication_period {most} (more would leave too few exchanges)"


def _stragglers(settings, accounts):
    """Of a synchronous rule: the worker for which the others waited most."""
    if not settings.rule.synchronous or not accounts:
        return
    last = max(accounts, key=lambda account: account.get("late_seconds", 0.0))
    waited = last.get("late_seconds", 0.0)
    # The first round waits for whoever compiles longest: a straggler comes last clearly more often than by chance
    often = max(3, 1.5 * last["exchanges"] / len(accounts))
    if waited > HIGH_SHARE * last["seconds"] and last["late"] >= often:
        yield (
            f"the others waited {waited:.1f} s for worker {last['worker']} on {last['host']}, which came last to "
            f"{last['late']} of {last['exchanges']} rounds; look at that host, or use an asynchronous algorithm"
        )
