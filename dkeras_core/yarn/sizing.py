"""How much memory a container needs beside its JVM heap: Python, TensorFlow, the model and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dkeras_core.config import Pipeline, Resources, mebibytes

TENSORFLOW_RESIDENT = 700
"""MiB that a Python process holds after importing TensorFlow and training one step of a small model."""

# Copies of the parameter vector in a worker: weights, gradients, two optimizer slots, the flat copy, the message and
# the answer of an exchange; the fused loop keeps one generation of weights and slots more.
_COPIES = 10
_ROWS_RESIDENT = 20_000
"""Rows that Arrow holds at once while they are spooled (two batches of 10,000)."""
_UNKNOWN_PARAMETERS = 20_000_000


def memory_overhead(
    heap: int, parameters: int | None, batch_size: int, row_width: int = 256, processes: int = 1, held: int = 0
) -> int:
    """Return MiB to ask for beside a JVM heap of ``heap`` MiB.

    Parameters
    ----------
    heap : int
        JVM heap in MiB; Spark's own rule (a tenth, at least 384 MiB) is kept for what the JVM uses outside it.
    parameters : int or None
        Number of weights of the model; None when it is not known before the job runs (20 million are assumed).
    batch_size : int
        Rows of one training step.
    row_width : int
        Float32 values that a row holds at once: features and activations.
    processes : int
        Python processes in the container: one for every core.
    held : int
        Further bytes that each of them holds.
    """
    jvm = max(384, heap // 10)
    weights = (parameters if parameters is not None else _UNKNOWN_PARAMETERS) * 4 * _COPIES
    rows = (_ROWS_RESIDENT + 2 * batch_size) * row_width * 4
    worker = TENSORFLOW_RESIDENT + (weights + rows + held) / 2**20
    return -(-int(jvm + processes * worker) // 64) * 64


def mlp_parameters(features: int, parameters: dict[str, Any]) -> int | None:
    """Return the number of weights of the registered builder ``mlp``, None when ``hidden`` is not a list of sizes."""
    hidden = parameters.get("hidden")
    if not isinstance(hidden, list | tuple) or not all(isinstance(size, int) for size in hidden):
        return None
    widths = [features, *hidden, 1]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


@dataclass(frozen=True)
class Containers:
    """What a pipeline asks of YARN, in MiB: overheads beside the heaps, and whole containers."""

    executors: int
    executor_cores: int
    driver_cores: int
    executor_overhead: int
    driver_overhead: int
    executor: int
    driver: int

    @property
    def total(self) -> int:
        return self.driver + self.executors * self.executor


def containers(pipeline: Pipeline) -> Containers:
    """Return the containers of a pipeline; overheads it leaves open are sized from its model and batch."""
    asked, model = pipeline.resources, pipeline.model
    # Columns that are not listed are only known when the data is read; a table for an mlp rarely has more.
    width = len(pipeline.schema_.features or ()) or 256
    parameters = mlp_parameters(width, model.parameters) if model.builder == "mlp" else None

    def overhead(given: str | None, heap: str, processes: int, held: int) -> int:
        if given:
            return mebibytes(given)
        return memory_overhead(mebibytes(heap), parameters, pipeline.training.batch_size, 2 * width, processes, held)

    members = _members(pipeline, parameters)
    executor_overhead = overhead(asked.memory_overhead, asked.memory, asked.cores, members)
    driver_overhead = overhead(asked.driver_memory_overhead, asked.driver_memory, 1, members + _rows(pipeline, width))
    return _containers(asked, executor_overhead, driver_overhead)


def scoring_containers(asked: Resources, model_bytes: int, width: int) -> Containers:
    """Return the containers that score rows; overheads that are left open are sized from the model.

    Parameters
    ----------
    model_bytes : int
        Size of the model's file: a process holds the weights as they are read, as Keras' and as TensorFlow's.
    width : int
        Values in a row of raw columns or of features.
    """

    def overhead(given: str | None, heap: str, processes: int) -> int:
        if given:
            return mebibytes(given)
        return memory_overhead(mebibytes(heap), 0, 0, 2 * width, processes, held=4 * model_bytes)

    return _containers(
        asked,
        overhead(asked.memory_overhead, asked.memory, asked.cores),
        overhead(asked.driver_memory_overhead, asked.driver_memory, 1),
    )


def _containers(asked: Resources, executor_overhead: int, driver_overhead: int) -> Containers:
    return Containers(
        executors=asked.executors,
        executor_cores=asked.cores,
        driver_cores=asked.driver_cores,
        executor_overhead=executor_overhead,
        driver_overhead=driver_overhead,
        executor=mebibytes(asked.memory) + executor_overhead,
        driver=mebibytes(asked.driver_memory) + driver_overhead,
    )


def _members(pipeline: Pipeline, parameters: int | None) -> int:
    """Bytes of an ensemble: the workers' vectors, the model made of them, and its file. Nothing for one vector."""
    result = pipeline.training.result or pipeline.algorithm.rule().default_result
    members = pipeline.workers if result == "ensemble" else 0
    return members * 3 * 4 * (parameters if parameters is not None else _UNKNOWN_PARAMETERS)


def _rows(pipeline: Pipeline, width: int) -> int:
    """Bytes of the validation rows in the driver: as Arrow, as arrays, and a copy while they are drawn."""
    return 3 * 4 * width * pipeline.training.validation.rows if pipeline.split.validation else 0
