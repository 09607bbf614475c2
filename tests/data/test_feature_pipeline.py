"""The feature pipeline in NumPy: kinds of tables, missing and unseen values, bad values named."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dkeras_core.data.features import FeaturePipeline, canonical
from dkeras_core.errors import DataError

FITTED = FeaturePipeline(
    numeric=("x", "n"),
    fill=(5.0, 1.0),
    mean=(1.0, 0.0),
    scale=(0.5, 2.0),
    missing=-999.0,
    indicators=("n",),
    categories={"c": ("1", "2", "red")},
)
ROWS = {"other": ["a", "b", "c"], "n": [3, -999, 4], "c": ["red", "blue", None], "x": [2.0, -999.0, None]}
EXPECTED = np.array(
    [
        [0.5, 6.0, 0.0, 0.0, 0.0, 1.0],
        [2.0, 2.0, 1.0, 0.0, 0.0, 0.0],
        [2.0, 8.0, 0.0, 0.0, 0.0, 0.0],
    ],
    np.float32,
)


@pytest.mark.parametrize(
    "table",
    [
        ROWS,
        pa.table(ROWS),
        pa.RecordBatch.from_pydict(ROWS),
        pa.concat_tables([pa.table(ROWS).slice(0, 1), pa.table(ROWS).slice(1)]),
        pd.DataFrame(ROWS),
        {**ROWS, "x": np.array(["2", " -999.0 ", ""]), "n": ["3", "-999", "4.0"]},
    ],
    ids=["mapping", "table", "batch", "chunks", "pandas", "text"],
)
def test_numbers_by_hand(table):
    result = FITTED.transform(table)
    assert result.dtype == np.float32
    assert np.array_equal(result, EXPECTED)


def test_names_and_columns_are_in_the_order_of_the_output():
    assert FITTED.columns == ["x", "n", "c"]
    assert FITTED.names == ["x", "n", "n_missing", "c=1", "c=2", "c=red"]


def test_whole_numbers_are_one_category_however_they_are_written():
    for values in (
        [2, 1],
        [2.0, 1.0],
        ["2", " 1.0 "],
        pa.array([2, 1], pa.int8()),
        pa.array(["2", "1"]).dictionary_encode(),
    ):
        result = FITTED.transform({"x": [0.0, 0.0], "n": [0, 0], "c": values})
        assert result[:, 3:].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert [canonical(v) for v in (3, 3.0, "3.0", "3.5", " a ", "1d", -0.0)] == ["3", "3", "3", "3.5", "a", "1d", "0"]


def test_without_standardisation_marker_and_rows():
    plain = FeaturePipeline(("x",), (7.0,), None, None, None, (), {})
    assert plain.transform({"x": [None, -999.0]}).tolist() == [[7.0], [-999.0]]
    assert plain.transform({"x": np.zeros(0)}).shape == (0, 1)


@pytest.mark.parametrize(
    "how", [lambda p: FeaturePipeline.from_json(json.dumps(p.to_json())), lambda p: pickle.loads(pickle.dumps(p))]
)
def test_it_survives_its_file_and_the_way_to_an_executor(how):
    assert how(FITTED) == FITTED


def test_it_loads_from_a_file(tmp_path):
    path = tmp_path / "features.json"
    path.write_text(json.dumps(FITTED.to_json()))
    assert FeaturePipeline.load(path) == FITTED


@pytest.mark.parametrize(
    "rows, message",
    [
        ({"x": [1.0]}, "no column 'n', 'c'"),
        ({"x": [1.0, np.nan], "n": [1, 1], "c": ["1", "1"]}, r"'x' holds nan in 1 of 2 rows \(first in row 1\)"),
        ({"x": [np.inf], "n": [1], "c": ["1"]}, "'x' holds inf"),
        ({"x": [1.0], "n": ["many"], "c": ["1"]}, "'n' holds a value that is no number.*many"),
        ({"x": pa.array([[1.0]]), "n": [1], "c": ["1"]}, "'x' holds a value that is no number"),
    ],
)
def test_bad_values_and_columns_are_named(rows, message):
    with pytest.raises(DataError, match=f"(?s){message}"):
        FITTED.transform(rows)


@pytest.mark.parametrize("text", ["{", '{"format": 99}', '{"format": 1}', "[]"])
def test_a_damaged_description_is_refused(text):
    with pytest.raises(DataError, match=r"features\.json cannot be used"):
        FeaturePipeline.from_json(text)
