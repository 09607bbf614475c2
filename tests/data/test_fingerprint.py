"""The fingerprint changes with data and with settings that shape the result, and with nothing else."""

from __future__ import annotations

import os

import pytest

from dkeras_core.config import Pipeline
from dkeras_core.data import fingerprint as module
from dkeras_core.data.fingerprint import fingerprint, identity_of_path, identity_of_query
from dkeras_core.storage.local import LocalStorage

TEXT = """
name: higgs
input: {path: in.csv}
schema: {key: id, label: y, positive: 1, negative: 0, missing: -999.0}
model: {builder: mlp}
registry: {model: higgs}
"""


# Of the first release: with another value every data set would be made again.
KNOWN = "c2607770ac955cba"


def of(*settings):
    return fingerprint(Pipeline.parse(TEXT, overrides=list(settings)), "data")


@pytest.mark.parametrize(
    "setting",
    [
        "input.format=parquet",
        "schema.label=z",
        "schema.missing=-1",
        "schema.categorical=[a]",
        "split.seed=2",
        "split.test=0.3",
        "split={folds: 5, fold: 1}",
        "features.impute=mean",
        "features.indicators=true",
    ],
)
def test_what_shapes_the_result_counts(setting):
    assert of(setting) != of()


def test_without_folds_it_is_what_it_was_before_there_were_folds():
    assert of() == KNOWN


def test_folds_count_and_with_them_the_share_of_the_test_split_does_not():
    found = {of(f"split={{folds: {folds}, fold: {fold}}}") for folds in (2, 3) for fold in (1, 2)}
    assert len(found) == 4
    assert of("split={folds: 3, fold: 1, test: 0.4}") == of("split={folds: 3, fold: 1}")
    assert of("split={folds: 3, fold: 1, validation: 0.1}") != of("split={folds: 3, fold: 1}")


@pytest.mark.parametrize("setting", ["name=other", "root=/other", "training.workers=9", "resources.executors=7"])
def test_what_does_not_shape_it_does_not_count(setting):
    assert of(setting) == of()


def test_data_and_code_count(monkeypatch):
    pipeline = Pipeline.parse(TEXT)
    assert fingerprint(pipeline, "data") != fingerprint(pipeline, "other data")
    before = of()
    monkeypatch.setattr(module, "CODE_VERSION", module.CODE_VERSION + 1)
    assert of() != before and len(before) == 16


def test_identity_of_files_sees_their_bytes_names_and_place(tmp_path):
    storage, path = LocalStorage(), tmp_path / "in.csv"
    path.write_text("a\n1\n")
    first = identity_of_path(storage, str(path))
    os.utime(path, (0, 0))
    assert identity_of_path(storage, str(path)) == first
    path.write_text("a\n2\n")
    assert identity_of_path(storage, str(path)) != first


def test_identity_of_a_query_sees_text_and_files_and_is_never_reused_without_files(tmp_path):
    storage, path = LocalStorage(), tmp_path / "in put.parquet"
    path.write_bytes(b"1")
    uri = path.as_uri()
    first = identity_of_query(storage, "SELECT 1", [uri])
    assert identity_of_query(storage, "SELECT 1", [uri]) == first
    assert identity_of_query(storage, "SELECT 2", [uri]) != first
    path.write_bytes(b"2")
    assert identity_of_query(storage, "SELECT 1", [uri]) != first
    for files in ([], ["s3a://bucket/x"], [f"{uri}.gone"]):
        assert identity_of_query(storage, "SELECT 1", files) != identity_of_query(storage, "SELECT 1", files)
