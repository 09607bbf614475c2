"""Averages that the server keeps shard by shard: of the center's last stretch, and of the workers' last vectors."""

from __future__ import annotations

import numpy as np

ETA = 8.0


class TailAverage:
    """A moving average of the center over about the last tenth of the run, whose length nobody knows beforehand.

    Polynomial-decay averaging (Shamir and Zhang, ICML 2013, arXiv 1212.1824): a sample of a shard after t exchanges, d
    after the one before, enters with weight (eta + 1) d / (t + eta d), so the weights grow as t^eta and their mean age
    stays at 1 / (eta + 2) of the run, here a tenth. Only every ``stride``-th exchange is a sample, which makes the
    average nearly free; at the start more are, so that a run of few exchanges has an average too.
    """

    def __init__(self, values: np.ndarray, parts: int, stride: int):
        self.values = values.copy()
        self._sampled = [0] * parts
        self._stride = stride

    def update(self, part: int, span: slice, center: np.ndarray, exchanges: int) -> None:
        """Take one shard of the center after ``exchanges`` exchanges; the caller holds the shard's lock."""
        since = exchanges - self._sampled[part]
        if since < min(self._stride, max(1, exchanges // 16)):
            return
        self._sampled[part] = exchanges
        weight = (ETA + 1) * since / (exchanges + ETA * since)
        average = self.values[span]
        # average + weight (center - average) in its place; a temporary array would stay with the thread's allocator
        np.subtract(average, center, out=average)
        np.multiply(average, np.float32(1 - weight), out=average)
        np.add(average, center, out=average)


class ShardedMean:
    """The mean of vectors that arrive in shards; each shard counts the vectors that reached it."""

    def __init__(self, size: int, parts: int):
        self._sum = np.zeros(size, np.float32)
        self._counts = np.zeros(parts, np.int64)

    def add(self, part: int, span: slice, values: np.ndarray) -> None:
        """Add one shard of a vector; the caller holds the shard's lock."""
        self._sum[span] += values
        self._counts[part] += 1

    def result(self, spans: list[slice]) -> np.ndarray:
        """The mean, of shape (size,). Raises ZeroDivisionError when a shard has had no vector."""
        mean = self._sum.copy()
        for span, count in zip(spans, self._counts, strict=True):
            mean[span] /= np.float32(count)
        return mean
