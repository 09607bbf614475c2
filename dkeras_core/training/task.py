"""What a worker is given, and what it answers: plain values that travel through Spark's closure channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    workers : int
        Number of workers p of the run.
    threads : int
        Cores a worker may use.
    """

    address: tuple[str, int]
    secret: bytes = field(repr=False)
    rule: dict[str, Any]
    architecture: str
    optimizer: dict[str, Any]
    loss: str
    epochs: int
    batch_size: int
    workers: int
    seed: int
    features: int
    threads: int = 1
    connect_deadline: float = 60.0
