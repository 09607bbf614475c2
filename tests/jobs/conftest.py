"""A small published version that takes two numbers and a category, and raw rows for it."""

from types import SimpleNamespace

import numpy as np
import pytest

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.registry import Registry
from dkeras_core.storage.local import LocalStorage

FEATURES = FeaturePipeline(
    numeric=("mass", "angle"),
    fill=(1.0, 0.0),
    mean=(1.0, 0.5),
    scale=(2.0, 1.0),
    missing=-999.0,
    indicators=("mass",),
    categories={"jets": ("0", "1", "2")},
)


def version_folder(folder, outputs=1, weights=None):
    """Write what a version holds that is scored with, and no more."""
    import json

    import keras

    keras.utils.set_random_seed(1)
    end = keras.layers.Dense(outputs, "sigmoid" if outputs == 1 else "softmax")
    model = keras.Sequential([keras.Input((len(FEATURES.names),)), keras.layers.Dense(5, "tanh"), end])
    if weights is not None:
        model.set_weights([np.full_like(held, weights) for held in model.get_weights()])
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "features.json").write_text(json.dumps(FEATURES.to_json()))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A registry of this machine with three versions of ``tiny``: one score, three scores, and weights that are NaN."""
    base = tmp_path_factory.mktemp("registry")
    registry = Registry(LocalStorage(), str(base / "root"))
    for number, settings in enumerate(({}, {"outputs": 3}, {"weights": np.nan}), start=1):
        registry.publish("tiny", version_folder(base / f"v{number}", **settings), run_id=f"run-{number}")
    registry.promote("tiny", 1, "production")
    return SimpleNamespace(registry=registry, root=base / "root", uri=f"file://{base / 'root'}")


@pytest.fixture(scope="module")
def raw():
    """300 raw rows as pandas: marked and empty values among them, and columns that no model needs."""
    import pandas as pd

    draw = np.random.default_rng(1)
    mass = draw.normal(1, 1, 300).round(6)
    mass[::7] = -999.0
    angle = draw.normal(0, 1, 300).round(6)
    angle[::11] = np.nan
    jets = draw.integers(0, 5, 300).astype(str)
    names = [f"event {i}, \u00e9" for i in range(300)]
    return pd.DataFrame({"id": range(300), "jets": jets, "mass": mass, "note": names, "angle": angle})
