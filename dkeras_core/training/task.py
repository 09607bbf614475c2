"""What a worker is given: plain values that travel through Spark's closure channel, or as JSON through a pipe."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from dkeras_core.data.spool import Column


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a worker needs to train; the same for all workers.

    Parameters
    ----------
    address : (str, int)
        The parameter server's advertised host and port.
    secret : bytes
        32 bytes, made for this job; never logged.
    rule : dict
        Configuration of the update rule (``Rule.to_config()``).
    architecture : str
        The Keras model as JSON.
    optimizer : dict
        ``{"name": ..., **arguments}`` of a Keras optimizer.
    loss
        What ``keras.losses.get`` takes; a list or dictionary for several outputs.
    inputs, labels : tuples of data.spool.Column
        The columns that a row is made of: one for each input and each output of the model.
    weight : str or None
        Column of sample weights.
    class_weight : dict of int to float, or None
        Weight of each class.
    loss_weights : float, list or dict of float, or None
        Factor on the loss of each output.
    workers : int
        Number of workers p of the run.
    threads : int
        Cores a worker may use.
    learning_rate_scale, warmup : float
        Factor on the optimizer's learning rate, and the share of a worker's local steps over which it is reached.
    warm_start : int
        Local steps that worker 0 makes alone before the others take the center.
    overlap : bool
        Let the exchange of one window travel while the next is computed.
    exchange_share : float
        With communication_period "auto", the share of the time that exchanging may take.
    on_nonfinite : str
        "stop" the run, or "drop" the worker, when a loss or a vector is not finite.
    """

    address: tuple[str, int]
    secret: bytes = field(repr=False)
    rule: dict[str, Any]
    architecture: str
    optimizer: dict[str, Any]
    loss: Any
    epochs: int
    batch_size: int
    workers: int
    seed: int
    inputs: tuple[Column, ...]
    labels: tuple[Column, ...] = (Column("label"),)
    weight: str | None = None
    class_weight: dict[int, float] | None = None
    loss_weights: float | list[float] | dict[str, float] | None = None
    threads: int = 1
    learning_rate_scale: float = 1.0
    warmup: float = 0.0
    warm_start: int = 0
    overlap: bool = False
    exchange_share: float = 0.05
    on_nonfinite: str = "stop"
    connect_deadline: float = 60.0

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of a row, each once."""
        weight = (Column(self.weight),) if self.weight else ()
        return tuple(dict.fromkeys((*self.inputs, *self.labels, *weight)))

    @property
    def reads(self) -> list[str]:
        """The columns of a DataFrame or a file that a row is read from."""
        return list(dict.fromkeys(name for column in self.columns for name in column.reads))

    def to_json(self) -> str:
        """The task as JSON; it holds the secret."""
        return json.dumps(dataclasses.asdict(self) | {"secret": self.secret.hex()})

    @classmethod
    def from_json(cls, text: str) -> TrainingTask:
        """Read back what :meth:`to_json` wrote."""
        values = json.loads(text)
        for group in ("inputs", "labels"):
            values[group] = tuple(
                Column(**column | {"shape": tuple(column["shape"]), "sources": tuple(column["sources"])})
                for column in values[group]
            )
        if values["class_weight"] is not None:  # JSON has no numbers as keys
            values["class_weight"] = {int(label): weight for label, weight in values["class_weight"].items()}
        return cls(**values | {"address": tuple(values["address"]), "secret": bytes.fromhex(values["secret"])})
