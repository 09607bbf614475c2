"""The data sets of the runs, ready for a network: float32 features, int32 classes, and the score in points."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulated import mnist
from simulated.mnist import Unavailable

ROOT = Path(__file__).resolve().parents[3]
HIGGS = ROOT.parent / "shared" / "data" / "higgs" / "training_10k.csv"
MISSING = -999.0


@dataclass(frozen=True)
class Dataset:
    """Training and test rows; ``score(probabilities [n, classes], labels [n])`` is in points, 0 to 100."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: int
    score: Callable[[np.ndarray, np.ndarray], float]


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Test accuracy in per cent."""
    return 100 * float(np.mean(probabilities.argmax(1) == labels))


def area_under_curve(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """ROC AUC x 100 of the second class, ties counted half."""
    scores, positive = probabilities[:, 1], labels == 1
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    hits, misses = int(positive.sum()), int((~positive).sum())
    return 100 * float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def load(name: str) -> Dataset:
    """The data set "mnist", "higgs" or "blobs" (a small one, made here). Raises Unavailable with the reason."""
    return {"mnist": _mnist, "higgs": _higgs, "blobs": _blobs}[name]()


def _mnist() -> Dataset:
    images, labels, test_images, test_labels = mnist.load(ROOT / "build" / "cache" / "mnist")
    train = images.astype(np.float32) / 255, labels.astype(np.int32)
    test = test_images.astype(np.float32) / 255, test_labels.astype(np.int32)
    return Dataset("mnist", train, test, 10, accuracy)


def _higgs() -> Dataset:
    """8,000 and 2,000 real events, as the pipeline prepares them: medians for what is missing, mean 0, deviation 1."""
    if not HIGGS.is_file():
        raise Unavailable(f"the real Higgs events are not there ({HIGGS.name})")
    with HIGGS.open(newline="") as file:
        header, *rows = csv.reader(file)
    wanted = [index for index, name in enumerate(header) if name.startswith(("DER_", "PRI_"))]
    values = np.array([[row[index] for index in wanted] for row in rows], np.float64)
    labels = np.array([row[header.index("Label")] == "s" for row in rows], np.int32)
    order = np.random.default_rng(2014).permutation(len(rows))
    values, labels, cut = values[order], labels[order], len(rows) * 4 // 5
    values[values == MISSING] = np.nan
    values = np.where(np.isnan(values), np.nanmedian(values[:cut], axis=0), values)
    values = ((values - values[:cut].mean(0)) / values[:cut].std(0)).astype(np.float32)
    return Dataset("higgs", (values[:cut], labels[:cut]), (values[cut:], labels[cut:]), 2, area_under_curve)


def _blobs() -> Dataset:
    """Two classes that a straight line cannot part: for tests of the simulation itself."""
    random = np.random.default_rng(0)
    values = random.normal(size=(1200, 2)).astype(np.float32)
    labels = (values[:, 0] * values[:, 1] > 0).astype(np.int32)
    return Dataset("blobs", (values[:1000], labels[:1000]), (values[1000:], labels[1000:]), 2, accuracy)
