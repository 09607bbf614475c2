"""When a run ends before its epochs are over, and which of its centers was the best."""

from __future__ import annotations

import math

from dkeras_core.errors import ConfigError
from dkeras_core.training.settings import TrainingSettings, watches_center

Figures = dict[str, float | None]  # None for what is not finite

_LESS_IS_BETTER = (
    "loss",
    "error",
    "crossentropy",
    "divergence",
    "hinge",
    "poisson",
    "log_cosh",
    "mse",
    "mae",
    "mape",
    "msle",
    "bce",
    "kld",
    "false_",
)


class Stopping:
    """Decides, epoch by epoch, whether the run should end, and keeps the best center where it is to be restored."""

    def __init__(self, settings: TrainingSettings, measured: list[str]):
        self._early, self._target = settings.early_stopping, settings.target_loss
        self._target_name = "val_loss" if measured and watches_center(settings.rule, settings.workers) else "loss"
        if self._early and self._early.monitor not in ("loss", *measured):
            raise ConfigError(
                f"early stopping monitors {self._early.monitor}, but "
                + (f"measured are {', '.join(measured)}" if measured else "there are no validation rows"),
                "name one of these, or add the metric"
                if measured
                else "hold back rows for validation (split.validation in a pipeline), or monitor loss",
            )
        self._best: float | None = None
        self._waited = 0
        self._kept: tuple | None = None

    def reason(self, epoch: int, logs: dict[str, float], center, state) -> str | None:
        """Take the figures of an epoch; return why the run should end, or None."""
        loss = logs.get(self._target_name)
        if self._target is not None and loss is not None and loss <= self._target:
            return f"{self._target_name} {loss:.4f} has reached the target {self._target:g}"
        if self._early is None:
            return None
        name = self._early.monitor
        if self._gain(logs.get(name)) > self._early.min_delta:
            self._best, self._waited = logs[name], 0
            if self._early.restore_best:
                self._kept = (epoch, center, state, {k: v for k, v in logs.items() if k != "loss"})
            return None
        self._waited += 1
        if self._waited <= self._early.patience:
            return None
        so_far = "was never finite" if self._best is None else f"has not improved on {self._best:.4f}"
        return f"{name} {so_far} for {self._waited} evaluated epochs"

    def better_than(self, final: Figures) -> tuple | None:
        """(epoch, center, state, figures) of the kept center when it is better than the result, else None."""
        if self._kept is None or self._gain(final[self._early.monitor]) >= 0:
            return None
        return self._kept

    def _gain(self, value: float | None) -> float:
        """By how much ``value`` is better than the best so far; None is no figure, and the worst."""
        if value is None or self._best is None:
            return -math.inf if value is None else math.inf
        mode = self._early.mode
        if mode == "auto":
            mode = "min" if any(word in self._early.monitor.lower() for word in _LESS_IS_BETTER) else "max"
        return self._best - value if mode == "min" else value - self._best
