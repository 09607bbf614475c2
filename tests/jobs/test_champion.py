"""A champion applies its own feature numbers to the raw columns that the test split keeps."""

import numpy as np
import pyarrow as pa

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.jobs.champion import FromRaw, load_keras


def test_raw_columns_become_the_champions_features():
    features = FeaturePipeline(
        numeric=("a", "b"),
        fill=(0.5, 1.0),
        mean=(1.0, 2.0),
        scale=(2.0, 0.5),
        missing=-999.0,
        indicators=(),
        categories={},
    )
    raw = pa.StructArray.from_arrays(
        [pa.array([5.0, 6.0]), pa.array([3.0, -999.0]), pa.array([4.0, 2.0])], ["new", "a", "b"]
    )
    batch = pa.RecordBatch.from_arrays([pa.array([1.0, 0.0]), raw], ["label", "raw"])
    expected = features.transform({"a": [3.0, -999.0], "b": [4.0, 2.0]})
    assert np.array_equal(FromRaw(features)(batch), expected)
    assert np.allclose(expected, [[4.0, 1.0], [-1.0, 0.0]])


def test_a_model_comes_back_from_the_bytes_of_its_file(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.save(tmp_path / "model.keras")
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    predict = load_keras((tmp_path / "model.keras").read_bytes())
    assert np.allclose(predict(rows), model.predict(rows, verbose=0), atol=1e-6)
