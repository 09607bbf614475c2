"""The story of a run, as ``keras.Model.fit`` tells it, with what every worker did."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What a run measured on its way.

    Attributes
    ----------
    epoch : list of int
        The epochs, counted from 1: the rows of all workers together have passed that many times.
    history : dict of str to list
        As in Keras, one value for each entry of ``epoch``: ``loss``, the mean training loss of the workers over the
        epoch; ``val_loss`` and ``val_<metric>``, of the center on the validation rows (None where it was not finite, or
        not measured: an epoch that ended while an earlier one was still evaluated).
    epoch_seconds : list of float
        Time of each entry since the start.
    final : dict of str to float
        ``val_loss`` and the metrics of the result itself; None for one that is not finite.
    stopped : str or None
        Why the run ended before its epochs were over.
    restored : int or None
        The epoch whose center is the result (``EarlyStopping.restore_best``); None when it is the run's own result.
    workers : list of dict
        The account of each worker: host, rows, steps, exchanges, seconds by part, communication period, last loss.
    curve : list of dict
        Training loss as the workers reported it: ``{"seconds", "rows", "loss", "worker"}``.
    """

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float | None]] = field(default_factory=dict)
    epoch_seconds: list[float] = field(default_factory=list)
    final: dict[str, float | None] = field(default_factory=dict)
    stopped: str | None = None
    restored: int | None = None
    workers: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def add(self, epoch: int, seconds: float, logs: dict[str, float | None]) -> None:
        """Append one epoch; quantities that come or are missing later are None elsewhere."""
        for name in logs.keys() - self.history.keys():
            self.history[name] = [None] * len(self.epoch)
        self.epoch.append(epoch)
        self.epoch_seconds.append(round(seconds, 3))
        for name, values in self.history.items():
            values.append(logs.get(name))

    def best(self, name: str = "val_loss", mode: str = "min") -> tuple[int, float] | None:
        """Epoch and value of the best ``name``, or None when it was never measured."""
        found = [
            (value, epoch)
            for epoch, value in zip(self.epoch, self.history.get(name, ()), strict=False)
            if value is not None
        ]
        if not found:
            return None
        value, epoch = min(found) if mode == "min" else max(found, key=lambda pair: (pair[0], -pair[1]))
        return epoch, value

    def to_dict(self) -> dict[str, Any]:
        """The attributes as values that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> History:
        """Read back what :meth:`to_dict` gave, also from a run's account (``train.json``), which holds it."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})
