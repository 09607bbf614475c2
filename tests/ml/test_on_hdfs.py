"""Stages saved to a real HDFS."""

from __future__ import annotations

import pytest

from dkeras_core.errors import PathMissing
from dkeras_core.ml import EASGD, files

pytestmark = pytest.mark.cluster


def test_an_estimator_is_saved_to_hdfs_and_read_back(jvm, hadoop, spark):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(1000)])  # 1.2 MB of weights
    estimator = EASGD(model, loss="mse", workers=3)
    path = f"{jvm.url}/tmp/ml-test"
    estimator.save(path)
    try:
        again = EASGD.load(path)
        assert again._paramMap == estimator._paramMap
        assert jvm.read_bytes("/tmp/ml-test/weights.bin") == again.getOrDefault("model").weights
        with pytest.raises(PathMissing, match=r"/tmp/ml-test/nothing: does not exist"):
            files.read(spark, f"{path}/nothing")
    finally:
        jvm.delete("/tmp/ml-test", recursive=True)
