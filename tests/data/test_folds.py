"""The folds of a cross-validation: each row is tested on once, and features know nothing of the rows tested on."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from dkeras_core.config import Split
from dkeras_core.data.split import key_hash, split_of


@pytest.fixture(scope="module")
def keys(spark):
    return spark.range(20000).selectExpr("cast(id as string) as key").persist()


def drawn(frame, *splits):
    """The name of the split of each key, one column for each of ``splits``."""
    columns = [split_of(key_hash(F.col("key"), split), split).alias(str(i)) for i, split in enumerate(splits)]
    return frame.select("key", *columns).toPandas().set_index("key")


def test_the_ten_test_splits_are_disjoint_and_cover_all_rows(keys):
    found = drawn(keys, *(Split(folds=10, fold=fold, validation=0.15) for fold in range(1, 11)))
    assert ((found == "test").sum(axis=1) == 1).all()
    shares = pd.DataFrame({name: (found == name).mean() for name in ("test", "validation", "train")})
    assert (abs(shares - [0.1, 0.15, 0.75]) < 0.015).all(axis=None)
    again = drawn(keys.orderBy(F.desc("key")).repartition(7), Split(folds=10, fold=3, validation=0.15))
    assert (again["0"] == found.loc[again.index, "2"]).all()


def test_another_seed_cuts_other_folds(keys):
    found = drawn(keys, Split(folds=4, fold=1), Split(folds=4, fold=1, seed=2))
    both = (found == "test").all(axis=1).mean()
    assert both == pytest.approx(1 / 16, abs=0.01)


def test_the_first_fold_is_the_split_of_that_share(keys):
    found = drawn(keys, Split(folds=5, fold=1, validation=0.1), Split(test=0.2, validation=0.1))
    assert (found["0"] == found["1"]).all()


@pytest.mark.parametrize("folds", [2, 3, 7, 10, 1000])
def test_no_hash_is_between_two_folds(spark, folds):
    """Hashes at the very bounds of the folds, against exact fractions; the high bits of a hash do not matter."""
    bounds = [Fraction(i * 2**53, folds) for i in range(folds + 1)]
    sample = [bounds[i] for i in sorted({0, 1, 2, folds // 2, folds - 1, folds})]
    places = sorted({int(b) + d for b in sample for d in (-1, 0, 1) if 0 <= int(b) + d < 2**53})
    hashed = [place + high * 2**53 for place in places for high in (-1024, 0, 1023)]
    frame = spark.createDataFrame([(value,) for value in hashed], "h bigint")
    near = sorted({1, 2, 3, folds // 2, folds // 2 + 1, folds - 1, folds} & set(range(1, folds + 1)))
    splits = [Split(folds=folds, fold=fold, validation=0.25) for fold in near]
    rows = frame.select("h", *(split_of(F.col("h"), split).alias(f"{split.fold}") for split in splits)).collect()
    spans = list(pairwise(bounds))
    for row in rows:
        place = row["h"] % 2**53
        for split in splits:
            low, high = spans[split.fold - 1]
            after = Fraction((place - high) % 2**53, 2**53)
            # A validation split is drawn with the precision of a double, so its own bound is not tried here.
            expected = "test" if low <= place < high else "validation" if after < Fraction(1, 4) else "train"
            if abs(after - Fraction(1, 4)) > Fraction(1, 2**50):
                assert row[str(split.fold)] == expected, (place, split)


def rows_of(info, split):
    return pd.read_parquet(f"{info.path}/{split}").set_index("key")


@pytest.mark.slow
def test_data_sets_test_each_row_once_and_fit_their_features_on_the_others(run, narrow, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(narrow)
    raw = pd.read_csv(path, dtype={"EventId": str}).set_index("EventId")
    folds = range(1, 5)
    made = [run(path, "split.folds=4", f"split.fold={i}", "features.impute=mean", by=f"run-{i}") for i in folds]
    assert len({info.fingerprint for info in made}) == 4
    described = [json.loads(Path(info.path, "dataset.json").read_text()) for info in made]
    assert [one["run"] for one in described] == [f"run-{i}" for i in folds], "who has made it"
    tested = [rows_of(info, "test") for info in made]
    assert sorted(key for part in tested for key in part.index) == sorted(raw.index)
    means = set()
    for info, test in zip(made, tested, strict=True):
        train = rows_of(info, "train")
        assert set(train.index) == set(raw.index) - set(test.index) and info.rows["test"] == len(test) > 0
        fitted = json.loads(Path(info.path, "features.json").read_text())
        expected = raw.loc[train.index, "PRI_tau_pt"].mean()
        assert fitted["mean"][fitted["numeric"].index("PRI_tau_pt")] == pytest.approx(expected, rel=1e-9)
        means.add(expected)
        features = np.stack(train["features"].to_numpy())
        assert np.abs(features.mean(axis=0)).max() < 1e-4 and np.abs(features.std(axis=0, ddof=1) - 1).max() < 1e-4
    assert len(means) == 4, "the means of each fold are its own"
