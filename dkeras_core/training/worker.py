"""The worker: spools its rows, trains windows of local steps, and exchanges with the parameter server.

The same function runs in a Spark executor and in a local process; it knows neither Spark nor YARN.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from dkeras_core.data.columns import Column
from dkeras_core.data.feed import Feed, Window
from dkeras_core.data.spool import Spool
from dkeras_core.errors import DataError, TrainingError
from dkeras_core.exchange import Client
from dkeras_core.rules import rule_from_config
from dkeras_core.training.exchanger import Exchanger, NotFinite, make_exchanger
from dkeras_core.training.guard import Guard, Unusable
from dkeras_core.training.period import AutomaticPeriod, window_of
from dkeras_core.training.portions import Portions
from dkeras_core.training.settings import shows_itself
from dkeras_core.training.tally import Tally
from dkeras_core.training.task import TrainingTask

REPORT_INTERVAL = 0.5  # seconds between reports: often enough for a bar, seldom enough to cost nothing
SEED_STRIDE = 1_000_003  # keeps the workers' seeds apart for any number of epochs


def run_worker(task: TrainingTask, worker: int, attempt: int, batches: Iterable, directory: Path) -> dict:
    """Train on the rows of ``batches`` for ``task.epochs`` epochs; return this worker's account.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        The columns that ``task.inputs``, ``task.labels`` and ``task.weight`` name, and ``pieces.PIECE`` for a rule
        whose workers compute pieces.
    directory : Path
        A local folder with room for the rows; what is written there is removed at the end.

    Raises
    ------
    ExchangeError
        The server cannot be reached, refused this worker, or ended the run; the message names the cause.
    DataError
        A row does not fit the model or the loss; column and row are named.
    TrainingError
        The loss or a vector became non-finite (unless the task says to drop such a worker), or rows trained differ
        from rows in.
    """
    with Client.connect(
        task.address, task.secret, worker=worker, attempt=attempt, deadline=task.connect_deadline
    ) as client:
        return _kind_of(task)(task, worker, attempt, client)(batches, directory)


def _kind_of(task: TrainingTask) -> type[WorkerRun]:
    if rule_from_config(task.rule).local != "pieces":
        return WorkerRun
    from dkeras_core.training.search_worker import SearchRun  # derived from WorkerRun

    return SearchRun


class WorkerRun:
    """One worker's run: what it is made of, and the loop that reads like Algorithm 1 of arXiv 1412.6651."""

    def __init__(self, task: TrainingTask, worker: int, attempt: int, client: Client):
        self._task, self._worker, self._attempt, self._client = task, worker, attempt, client
        self._rule = rule_from_config(task.rule).for_workers(task.workers)
        self._seed = task.seed + SEED_STRIDE * (worker + 1)
        self._tally = Tally()
        self._reported = -math.inf
        self._stopped: str | None = None
        self._automatic: AutomaticPeriod | None = None
        self._trainer = self._guard = self._state = None
        self._rows = 0
        self._pending = 0  # local steps since the last exchange
        self._portions = Portions()
        self._leading = worker == 0 and task.warm_start > 0 and not client.led

    def __call__(self, batches: Iterable, directory: Path) -> dict:
        with Spool.create(directory, self._columns()) as spool:
            with self._tally.measuring("spool"), self._own_rows():
                self._spool(batches, spool)
            self._rows = spool.rows
            if not spool.rows:
                return self._leave("was given no rows")
            with self._tally.measuring("start"):
                x = self._start(spool)
            try:
                self._train(spool, x)
                state = self._own_state()
            except Unusable as error:
                if self._task.on_nonfinite == "drop":
                    return self._leave(error.what, dropped=error.what)
                raise TrainingError(error.what, error.next_step) from error
        self._check_rows()
        account = self._account()
        self._client.finish(x, state, account)
        return account

    @contextmanager
    def _own_rows(self) -> Iterator[None]:
        """Say of a row that is named that it is counted in this worker's share."""
        try:
            yield
        except DataError as error:
            share = f" (row of worker {self._worker}'s share)" if " row " in error.what else ""
            raise DataError(error.what + share, error.next_step) from error

    def _columns(self) -> tuple[Column, ...]:
        return self._task.columns

    def _check_rows(self) -> None:
        if self._stopped is None and self._tally.rows != self._rows * self._task.epochs:
            raise TrainingError(
                f"worker {self._worker} trained {self._tally.rows} rows but was given {self._rows} rows x "
                f"{self._task.epochs} epochs",
                "this is a defect of the feed; please report it",
            )

    def _spool(self, batches: Iterable, spool: Spool) -> None:
        self._report("spooling", at_once=True)
        for batch in batches:
            spool.append(batch)
            self._report("spooling")
        spool.seal()

    def _start(self, spool: Spool) -> np.ndarray:
        """Build the model, take the center as this worker's x."""
        from dkeras_core.learning import model_io
        from dkeras_core.learning.checks import check_labels
        from dkeras_core.learning.flat import aligned
        from dkeras_core.learning.local import LocalTrainer
        from dkeras_core.learning.settings import make_optimizer

        self._report("starting", at_once=True)
        task = self._task
        in_epoch = -(-self._rows // task.batch_size)
        steps = in_epoch * task.epochs
        self._window = window_of(
            self._rule.communication_period,
            steps=steps,
            steps_in_epoch=in_epoch,
            batch_bytes=task.batch_size * sum(column.row_bytes for column in task.columns),
        )
        if self._rule.communication_period == "auto":
            self._automatic = AutomaticPeriod(task.exchange_share, steps, self._window)
        self._trainer = LocalTrainer(
            model_io.from_json(task.architecture),
            make_optimizer(
                self._rule.optimizer(task.optimizer),
                scale=task.learning_rate_scale,
                warmup_steps=round(task.warmup * steps),
            ),
            task.loss,
            batch_size=task.batch_size,
            communication_period=self._window,
            class_weight=task.class_weight,
            loss_weights=task.loss_weights,
            seed=self._seed,
            lookahead=self._rule.lookahead,
        )
        self._guard = Guard(self._worker, self._trainer, self._tally)
        labels = [column.name for column in task.labels]
        with self._own_rows():
            check_labels(self._trainer.model, task.loss, [spool.arrays[name] for name in labels], labels)
        spool.release()  # the check has read them all
        x, self._state = self._client.center()
        if self._state is not None:
            self._trainer.flat.set_state(self._state)
        return aligned(x)

    def _train(self, spool: Spool, x: np.ndarray) -> None:
        task = self._task
        feed = Feed(spool, seed=self._seed, **self._feed_settings())
        exchanger = make_exchanger(self._rule, self._client, self._trainer, overlap=task.overlap)
        with closing(exchanger):
            if not self._leading:
                exchanger.start(x)
            for epoch in range(task.epochs):
                self._epoch(feed, epoch, exchanger, x)
                if self._rule.communication_period == "epoch" and self._pending:
                    self._meet(exchanger, x)
                if self._stopped is not None:
                    break
                with self._tally.measuring("exchange"):
                    self._show(exchanger, x)
            if self._pending or self._leading:
                self._meet(exchanger, x)
            with self._tally.measuring("exchange"):
                exchanger.settle(x)
        self._guard.parameters(x)
        self._report("finishing", at_once=True)

    def _feed_settings(self) -> dict:
        task = self._task
        return {
            "batch_size": task.batch_size,
            "communication_period": self._window,
            "features": _names(task.inputs),
            "label": _names(task.labels),
            "weight": task.weight,
        }

    def _epoch(self, feed: Feed, epoch: int, exchanger: Exchanger, x: np.ndarray) -> None:
        # An epoch goes on where the last one ended, so that windows end where exchanges are due
        first = -self._pending % self._window or None
        with closing(feed.windows(epoch, first=first)) as windows:
            while self._stopped is None and (window := self._next(windows)) is not None:
                for piece in self._pieces(window):
                    self._local(exchanger, piece, x)
                    if self._pending >= self._due():
                        self._meet(exchanger, x)
                    elif not exchanger.busy:
                        self._report("training")

    def _next(self, windows: Iterator[Window]) -> Window | None:
        with self._tally.measuring("wait"):
            return next(windows, None)

    def _due(self) -> float:
        """Local steps from one exchange to the next."""
        if self._leading:
            return self._task.warm_start
        if self._automatic:
            return self._automatic.tau
        period = self._rule.communication_period
        return period if self._rule.exchanging and isinstance(period, int) else math.inf

    def _pieces(self, window: Window) -> Iterator[Window]:
        """Cut a window where an exchange is due."""
        for piece in self._portions.of(window, lambda: self._due() - self._pending):
            if self._stopped is not None:
                return
            yield piece

    def _local(self, exchanger: Exchanger, window: Window, x: np.ndarray) -> None:
        compute, compiled = self._tally.seconds["compute"], self._trainer.compile_seconds
        with self._computing(window.steps):
            loss = (self._trainer.window if self._leading else exchanger.local)(window, x)
        if self._automatic and self._trainer.compile_seconds == compiled:
            self._automatic.computed(self._tally.seconds["compute"] - compute, window.steps)
        self._guard.loss(loss, window, x)
        self._tally.trained(window.rows, window.steps, loss)
        self._pending += window.steps

    @contextmanager
    def _computing(self, steps: int) -> Iterator[None]:
        """Time what the trainer does in ``steps`` local steps, what it compiles apart."""
        seconds, compiled, begun = self._tally.seconds, self._trainer.compile_seconds, time.monotonic()
        yield
        taken, compiling = time.monotonic() - begun, self._trainer.compile_seconds - compiled
        seconds["compile"] += compiling
        seconds["compute"] += max(taken - compiling, 0.0)
        if not compiling:
            self._portions.took(taken, steps)

    def _meet(self, exchanger: Exchanger, x: np.ndarray) -> None:
        """Exchange, or hand the others the center to begin with."""
        begun = time.monotonic()
        exchanger.settle(x)
        settled = time.monotonic()
        self._report("training")
        reported = time.monotonic()
        if self._leading:
            self._guard.parameters(x)
            self._client.lead(x)
            self._leading = False
            exchanger.start(x)
        elif self._rule.exchanging:
            try:
                exchanger.begin(x, self._pending)
            except NotFinite as found:
                raise self._guard.unusable(found.vector, "what it would send") from None
            self._tally.exchanges += 1
        taken = settled - begun + time.monotonic() - reported
        self._tally.seconds["exchange"] += taken
        if self._automatic:
            self._automatic.exchanged(taken)
        self._pending = 0

    def _show(self, exchanger: Exchanger, x: np.ndarray) -> None:
        """Give the driver, at the end of an epoch, what it needs to evaluate the center."""
        if self._worker == 0 and shows_itself(self._rule, self._task.workers):
            self._guard.parameters(x)
            self._client.lead(x)
        if self._state is not None:
            exchanger.settle(x)
            self._client.share_state(self._own_state())

    def _leave(self, reason: str, dropped: str | None = None) -> dict:
        """End without a vector: there is none, or none that the others could use."""
        if self._leading:  # the others wait for a center to begin with
            self._client.lead(self._client.center()[0])
        account = self._account() | ({"dropped": dropped} if dropped else {})
        self._client.drop(reason, account)
        return account

    def _own_state(self) -> np.ndarray | None:
        """The model's non-trainable state; None when it has none."""
        return None if self._state is None else self._guard.state()

    def _report(self, state: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._reported < REPORT_INTERVAL and not at_once:
            return
        self._reported = now
        stop = self._client.report(
            {"host": socket.gethostname(), "state": state, "communication_period": self._tau(), **self._tally.report()}
        )
        self._stopped = self._stopped or stop

    def _tau(self) -> int | str:
        return self._automatic.tau if self._automatic else self._rule.communication_period

    def _account(self) -> dict:
        return {
            "worker": self._worker,
            "host": socket.gethostname(),
            "attempt": self._attempt,
            "rows": self._rows,
            "fused": self._trainer.fused if self._trainer else "",
            "communication_period": self._tau(),
            "overlap": self._task.overlap,
            **({"period": self._automatic.account()} if self._automatic else {}),
            **({"stopped": self._stopped} if self._stopped else {}),
            **self._tally.account(),
        }


def _names(columns: tuple[Column, ...]) -> str | list[str]:
    """One column's name, or the names of several: the feed makes an array of the one and a tuple of the others."""
    return columns[0].name if len(columns) == 1 else [column.name for column in columns]
