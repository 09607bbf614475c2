"""What a training run is told beside the model and the rows, and which of it contradicts itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from dkeras_core.config_file import meant
from dkeras_core.data.spool import Column
from dkeras_core.errors import ConfigError
from dkeras_core.rules import Rule

RESULTS = ("mean", "center", "ema", "ensemble")
WIRES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ServerSettings:
    """Where the parameter server binds and what it tells executors; ``port`` is 0, a number or a range."""

    host: str = "127.0.0.1"
    advertise: str | None = None
    port: int | tuple[int, int] = 0


@dataclass(frozen=True)
class EarlyStopping:
    """When a run ends before its epochs are over.

    Parameters
    ----------
    monitor : str
        "val_loss" or "val_<metric>" of the center on the validation rows, or "loss", the workers' training loss.
    patience : int
        Evaluated epochs without an improvement that are borne.
    min_delta : float
        What counts as an improvement.
    mode : str
        "min", "max", or "auto": the less the better, except for metrics such as accuracy and AUC.
    restore_best : bool
        Let the best of all evaluated centers be the result when the run's own result is worse on the same rows.
    """

    monitor: str = "val_loss"
    patience: int = 2
    min_delta: float = 0.0
    mode: str = "auto"
    restore_best: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EarlyStopping:
        """Make one of its fields by name; ConfigError for a name that is none."""
        known = [one.name for one in fields(cls)]
        if strange := [name for name in values if name not in known]:
            raise ConfigError(f"early_stopping has no {strange[0]!r}{meant(str(strange[0]), known)}")
        return cls(**values)

    def __post_init__(self):
        if not (self.monitor == "loss" or (self.monitor.startswith("val_") and len(self.monitor) > 4)):
            raise ConfigError(
                f"early stopping cannot monitor {self.monitor!r}",
                "use val_loss, val_<metric> such as val_accuracy, or loss",
            )
        if self.patience < 0 or self.min_delta < 0 or self.mode not in ("auto", "min", "max"):
            raise ConfigError(
                f"early stopping: patience {self.patience} and min_delta {self.min_delta} must not be negative, "
                f'mode must be "auto", "min" or "max", not {self.mode!r}'
            )
        if self.restore_best and self.monitor == "loss":
            raise ConfigError(
                "early stopping cannot restore the best center by the training loss: that is the workers' loss, "
                "each with its own parameters, not the center's",
                "monitor val_loss, or leave restore_best out",
            )


@dataclass(frozen=True)
class TrainingSettings:
    """What the driver needs beside the model and the rows; what is not described here is in ``TrainingTask``.

    rule : Rule
        The algorithm; made for ``workers`` here, so that what is told of the run has numbers.
    result : str or None
        "mean", "center", "ema" or "ensemble"; None for the rule's own choice.
    wire : str
        How dense vectors travel: "float32", "bfloat16" or "float16".
    silence_deadline : float
        Seconds without a word after which a worker is lost. In a step that takes longer it says that it lives.
    step_deadline : float
        Seconds that a worker may live without having finished a local step or read a batch of rows; then it is lost.
    barrier_deadline : float
        Seconds that workers wait for another that has not joined, is lost, or is silent so long.
    early_stopping : EarlyStopping or None
        When to end before the epochs are over.
    target_loss : float or None
        The run ends when the loss (that of validation, where there is one) is this or less.

    Raises ConfigError when settings contradict each other.
    """

    rule: Rule
    optimizer: dict[str, Any]
    loss: Any
    epochs: int
    batch_size: int
    workers: int
    rows: int
    inputs: tuple[Column, ...]
    labels: tuple[Column, ...] = (Column("label"),)
    weight: str | None = None
    class_weight: dict[int, float] | None = None
    loss_weights: float | list[float] | dict[str, float] | None = None
    seed: int = 1
    threads: int = 1
    result: str | None = None
    learning_rate_scale: float = 1.0
    warmup: float = 0.0
    warm_start: int = 0
    overlap: bool = False
    exchange_share: float = 0.05
    on_nonfinite: str = "stop"
    wire: str = "float32"
    early_stopping: EarlyStopping | None = None
    target_loss: float | None = None
    join_deadline: float = 180.0
    silence_deadline: float = 300.0
    step_deadline: float = 3600.0
    barrier_deadline: float = 300.0
    server: ServerSettings = field(default_factory=ServerSettings)

    def __post_init__(self):
        numbers = {name: getattr(self, name) for name in ("workers", "epochs", "batch_size", "threads", "seed")}
        check_numbers(**numbers, warm_start=self.warm_start)
        _check_class_weight(self.class_weight)
        found = list(
            contradictions(
                self.rule,
                self.workers,
                result=self.result,
                overlap=self.overlap,
                warm_start=self.warm_start,
                early_stopping=self.early_stopping,
                wire=self.wire,
            )
        )
        if self.wire not in WIRES:
            found.append(("wire", f"must be one of {', '.join(WIRES)}, not {self.wire!r}"))
        if self.on_nonfinite not in ("stop", "drop"):
            found.append(("on_nonfinite", f'must be "stop" or "drop", not {self.on_nonfinite!r}'))
        if found:
            raise ConfigError("; ".join(f"{setting}: {reason}" for setting, reason in found))
        object.__setattr__(self, "rule", self.rule.for_workers(self.workers))

    @property
    def chosen_result(self) -> str:
        """The result that is taken: as set, else the rule's own choice."""
        return self.result or self.rule.default_result


def check_numbers(**given: Any) -> None:
    """Raise ConfigError for a setting that is not a whole number of at least 1; 0 is one for seed and warm_start."""
    for name, value in given.items():
        least = 0 if name in ("seed", "warm_start") else 1
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ConfigError(f"{name} is a whole number of at least {least}, not {value!r}")


def _check_class_weight(weights: Any) -> None:
    for label, weight in (weights or {}).items():
        if not (isinstance(label, Integral) and label >= 0 and isinstance(weight, Real) and 0 <= weight < math.inf):
            raise ConfigError(
                f"class_weight gives numbers of at least 0 for the classes 0, 1, ..., not {label!r}: {weight!r}"
            )


def shows_itself(rule: Rule, workers: int) -> bool:
    """Whether worker 0 puts its parameters into the center at the ends of epochs, so that they can be evaluated.

    It does where all workers have the same and the server keeps none, and where there is no other worker.
    """
    return rule.local == "averaged_gradients" or (rule.local == "steps" and not rule.exchanging and workers == 1)


def watches_center(rule: Rule, workers: int) -> bool:
    """Whether the center moves while the workers train, so that validating it says something."""
    moves = rule.local == "pieces" or (rule.exchanging and rule.communication_period != "fit")
    return moves or shows_itself(rule, workers)


def contradictions(
    rule: Rule,
    workers: int,
    *,
    result: str | None,
    overlap: bool,
    warm_start: int,
    early_stopping: Any,
    wire: str,
) -> Iterator[tuple[str, str]]:
    """Yield (setting, reason) for what this rule cannot do; ``early_stopping`` is anything with a ``monitor``."""
    try:
        rule.for_workers(workers)
    except ConfigError as error:
        yield "workers", error.what
    if result is not None and result not in RESULTS:
        yield "result", f"must be one of {', '.join(RESULTS)}, not {result!r}"
    searches = rule.local == "pieces"
    apart = not (rule.exchanging or searches)
    if result in ("ema", "ensemble") and searches:
        yield "result", f"the workers of {rule.name} end with the best parameters, all the same; use center"
    if result in ("center", "ema") and apart:
        yield "result", f"workers of {rule.name} never exchange, so there is no {result} to take; use mean or ensemble"
    if result == "ema" and rule.local == "averaged_gradients":
        yield "result", f"the server of {rule.name} averages gradients, and there is no average of a center; use mean"
    if overlap and (rule.local != "steps" or not rule.exchanging):
        why = "never exchanges" if apart else "needs the answer of an exchange before its next step"
        yield "overlap", f"algorithm {rule.name} {why}, so nothing can travel meanwhile"
    if warm_start and not rule.exchanging:
        why = "never exchange" if apart else "make no steps of their own"
        yield "warm_start", f"workers of {rule.name} {why}, so none can go ahead for the others"
    if wire != "float32" and searches:
        yield "wire", f"{rule.name} takes differences of nearly equal gradients, which need float32"
    if wire == "bfloat16" and rule.whole_vectors:
        yield (
            "wire",
            f"workers of {rule.name} go on from whole vectors, in which bfloat16 rounds away steps of less than 0.4 % "
            "of a parameter; use float16, or float32 for small learning rates",
        )
    if early_stopping and early_stopping.monitor != "loss" and not watches_center(rule, workers):
        yield (
            "early_stopping",
            f"the center of {rule.name} does not move before the end, so {early_stopping.monitor} says nothing "
            "meanwhile; monitor loss",
        )
