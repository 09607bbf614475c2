"""A file of synthetic events, and pipelines on a local root folder."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dkeras_core.config import Pipeline
from dkeras_core.data.higgs import write_events
from dkeras_core.data.preprocess import preprocess
from dkeras_core.paths import Layout
from dkeras_core.storage.local import LocalStorage

HIGGS = """
name: higgs
root: {root}
input: {{path: {path}}}
schema: {{key: EventId, label: Label, positive: s, negative: b, weight: Weight, missing: -999.0}}
model: {{builder: mlp}}
registry: {{model: higgs}}
"""


@pytest.fixture(scope="session")
def events(tmp_path_factory):
    """A CSV file of 2,000 synthetic events; copy it before changing it."""
    return write_events(tmp_path_factory.mktemp("events") / "training.csv", rows=2000, seed=3)


@pytest.fixture(scope="session")
def narrow(events):
    """The first 300 events as text, with three features: a mass, a momentum and the number of jets."""
    table = pd.read_csv(events, dtype=str, nrows=300)
    kept = table[["EventId", "DER_mass_MMC", "PRI_tau_pt", "PRI_jet_num", "Weight", "Label"]]
    return kept.to_csv(index=False)


@pytest.fixture(scope="session")
def run_in(spark):
    """Preprocess a file into a root folder, with settings such as ``"split.test=0.3"``."""

    def call(root, path, *settings, spark=spark, progress=None, by=None):
        pipeline = Pipeline.parse(HIGGS.format(root=root, path=path), overrides=list(settings))
        return preprocess(spark, pipeline, LocalStorage(), Layout(pipeline.root), progress, run=by)

    return call


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def run(run_in, root):
    """The same into a root folder of this test alone."""
    return functools.partial(run_in, root)


VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


@pytest.fixture
def vectors():
    """Spark ML vectors as Spark gives them in Arrow: arrays are dense ones, tuples (size, indices, values) sparse."""

    def make(rows):
        return pa.array(
            [
                row
                if row is None
                else {"type": 0, "size": row[0], "indices": list(row[1]), "values": list(row[2])}
                if isinstance(row, tuple)
                else {"type": 1, "size": None, "indices": None, "values": list(np.asarray(row, float))}
                for row in rows
            ],
            VECTOR,
        )

    return make
