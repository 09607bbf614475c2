"""Preprocessing against pandas and scikit-learn as oracles; the split; what is reused and what is not."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from dkeras_core.config import Split
from dkeras_core.data import preprocess as module
from dkeras_core.data.dataset import DatasetInfo
from dkeras_core.data.features import FeaturePipeline
from dkeras_core.data.split import key_hash, split_of
from dkeras_core.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "higgs" / "training_10k.csv"


@pytest.fixture(scope="module")
def dataset(run_in, events, tmp_path_factory):
    """The 2,000 events with default settings: what is known about the data set."""
    return run_in(tmp_path_factory.mktemp("root"), events)


def read(info, split):
    return pd.read_parquet(f"{info.path}/{split}").set_index("key")


def matrix(frame):
    return np.stack(frame["features"].to_numpy())


def test_every_row_stands_in_exactly_one_split_with_its_label_and_weight(dataset, events):
    parts = {split: read(dataset, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} | {"in": 2000} == dataset.rows
    assert dataset.rows["validation"] == 0 and 0.15 < dataset.rows["test"] / 2000 < 0.25
    together = pd.concat(parts.values())
    raw = pd.read_csv(events, dtype={"EventId": str}).set_index("EventId")
    assert sorted(together.index) == sorted(raw.index)
    raw = raw.loc[together.index]
    assert (together["label"].to_numpy() == (raw["Label"] == "s")).all()
    assert np.allclose(together["weight"], raw["Weight"], rtol=1e-15)
    assert together["label"].dtype == np.float32 and together["features"].iloc[0].dtype == np.float32
    for name, label in (("positive", "s"), ("negative", "b")):
        described = dataset.classes[name]
        assert described["label"] == label
        assert described["rows"]["in"] == (raw["Label"] == label).sum()
        assert described["weight"]["in"] == pytest.approx(raw["Weight"][raw["Label"] == label].sum())
        test = parts["test"][parts["test"]["label"] == (label == "s")]
        assert described["rows"]["test"] == len(test)
        assert described["weight"]["test"] == pytest.approx(test["weight"].sum())


def oracle(raw, train):
    """Impute and standardise with scikit-learn, fitted on the rows ``train``."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    values = raw.loc[:, "DER_mass_MMC":"PRI_jet_all_pt"].astype(float)
    imputer = SimpleImputer(missing_values=-999.0, strategy="median").fit(values.loc[train])
    scaler = StandardScaler().fit(imputer.transform(values.loc[train]))
    # Spark divides by the deviation with n - 1, scikit-learn with n.
    correction = np.sqrt((len(train) - 1) / len(train))
    return imputer.statistics_, scaler.transform(imputer.transform(values)) * correction


def check_against_oracle(info, path):
    """Compare fitted numbers and all features with scikit-learn's; both splits."""
    raw = pd.read_csv(path, dtype={"EventId": str}).set_index("EventId")
    train, test = read(info, "train"), read(info, "test")
    medians, expected = oracle(raw, list(train.index))
    fitted = FeaturePipeline.load(f"{info.path}/features.json")
    for name, ours, theirs in zip(fitted.numeric, fitted.fill, medians, strict=True):
        values = raw.loc[train.index, name]
        values = np.sort(values[values != -999.0].to_numpy())
        # Spark takes a value that occurs, and may be one place in 10,000 off.
        middle, off = (len(values) - 1) // 2, 1 + len(values) // 10_000
        assert values[middle - off] <= ours <= values[middle + 1 + off], (name, ours, theirs)
    expected = pd.DataFrame(expected, index=raw.index)
    for part in (train, test):
        assert np.abs(matrix(part) - expected.loc[part.index].to_numpy()).max() < 0.02
        transformed = fitted.transform(raw.loc[part.index])
        assert np.abs(matrix(part) - transformed).max() < 1e-6
    assert np.abs(matrix(train).mean(axis=0)).max() < 1e-4
    assert np.abs(matrix(train).std(axis=0, ddof=1) - 1).max() < 1e-4


def test_features_equal_those_of_scikit_learn_and_of_the_numpy_pipeline(dataset, events):
    assert len(dataset.features) == 30 and dataset.features[0] == "DER_mass_MMC"
    check_against_oracle(dataset, events)


def test_the_saved_spark_pipeline_gives_the_features_again(dataset, events, spark):
    from pyspark.ml import PipelineModel

    from dkeras_core.data.spark_features import transform

    raw = spark.read.csv(str(events), header=True, inferSchema=True).limit(50)
    again = transform(PipelineModel.load(f"{dataset.path}/features"), raw).select("features").toPandas()
    fitted = FeaturePipeline.load(f"{dataset.path}/features.json")
    assert np.abs(matrix(again) - fitted.transform(raw.toPandas())).max() < 1e-6


def test_the_description_survives_its_file_and_counts_what_is_missing(dataset, events):
    stored = DatasetInfo.from_json(Path(dataset.path, "dataset.json").read_text())
    assert stored == dataset and not dataset.reused and dataset.seconds > 0
    raw = pd.read_csv(events, dtype={"EventId": str}).set_index("EventId").loc[read(dataset, "train").index]
    assert dataset.missing == {
        name: int((raw[name] == -999.0).sum()) for name in dataset.features if (raw[name] == -999.0).any()
    }
    with pytest.raises(DataError, match=r"dataset\.json"):
        DatasetInfo.from_json('{"path": "/x"}')


def test_files_are_as_many_as_workers_and_in_the_order_of_the_hash(dataset, spark):
    files = sorted(Path(dataset.path, "train").glob("part-*.parquet"))
    assert len(files) == 2
    for file in files:
        keys = pd.read_parquet(file)["key"]
        hashed = spark.createDataFrame(keys.to_frame()).select(key_hash(F.col("key"), Split())).toPandas()
        assert hashed.iloc[:, 0].is_monotonic_increasing
        assert not keys.is_monotonic_increasing


def test_number_of_files_grows_with_workers_and_size():
    assert module._files(1000, 30, workers=2) == 2
    assert module._files(0, 30, workers=4) == 4
    assert module._files(10_000_000, 30, workers=4) == 12


def test_split_depends_on_key_and_seed_alone(spark):
    def splits(frame, **settings):
        split = Split(test=0.25, validation=0.1, **settings)
        chosen = split_of(key_hash(F.col("key"), split), split)
        return {row.key: row.split for row in frame.select("key", chosen.alias("split")).collect()}

    keys = spark.range(4000).selectExpr("cast(id as string) as key")
    first = splits(keys)
    assert splits(keys.orderBy(F.desc("key")).repartition(7)) == first
    subset = splits(keys.where("key < 2000").coalesce(1))
    assert subset.items() <= first.items()
    assert splits(keys, seed=2) != first
    shares = pd.Series(first).value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.25, abs=0.03) and shares["validation"] == pytest.approx(0.1, abs=0.02)
    # Known values: another hash would put rows that older models were trained on into new test splits.
    assert [first[str(key)] for key in range(8)] == KNOWN


KNOWN = ["validation", "test", "train", "test", "test", "test", "test", "train"]


@pytest.fixture
def small(narrow, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(narrow)
    return path


@pytest.fixture
def copied(dataset, root):
    """A copy of the data set below another root folder; the fingerprint does not depend on where it stands."""
    path = root / "data" / "higgs" / dataset.fingerprint
    shutil.copytree(dataset.path, path)
    return path


def test_unchanged_data_are_reused_without_being_read(run, events, dataset, copied):
    written = times(copied)
    # The number of workers changes how fast it goes, not what comes out.
    found = run(events, "training.workers=5", spark=Untouchable())
    assert found.reused and found.path == str(copied)
    assert dataclasses.replace(found, reused=False, path=dataset.path, seconds=dataset.seconds) == dataset
    assert times(copied) == written


@pytest.mark.parametrize("damage", ["no part", "short part", "no _SUCCESS", "no features.json", "wrong dataset.json"])
def test_a_damaged_data_set_is_not_reused(run, events, copied, damage):
    part = next(copied.glob("test/part-*.parquet"))
    if damage == "short part":
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "wrong dataset.json":
        (copied / "dataset.json").write_text("{")
    else:
        (part if damage == "no part" else copied / damage.split()[1]).unlink()
    with pytest.raises(Stopped):
        run(events, progress=stop_at("reading"))
    assert [p.name for p in copied.parent.iterdir()] == [copied.name]


def test_a_damaged_data_set_is_replaced_and_a_good_one_of_another_run_is_taken(
    run, events, dataset, copied, monkeypatch
):
    def make(spark, pipeline, storage, folder, tell):
        shutil.copytree(dataset.path, folder, dirs_exist_ok=True)
        (Path(folder) / "_SUCCESS").unlink()
        (Path(folder) / "dataset.json").unlink()
        if ready:
            (copied / "_SUCCESS").touch()
        return dataclasses.replace(dataset, rows={**dataset.rows, "in": 1})

    monkeypatch.setattr(module, "_make", make)
    (copied / "_SUCCESS").unlink()
    ready = False
    assert not run(events).reused
    assert run(events).rows["in"] == 1
    shutil.rmtree(copied)
    shutil.copytree(dataset.path, copied)
    (copied / "_SUCCESS").unlink()
    ready = True
    late = run(events)
    assert late.reused and late.rows == dataset.rows
    assert [p.name for p in copied.parent.iterdir()] == [copied.name]


@pytest.mark.slow
def test_everything_but_the_defaults(run, small, dataset, spark, tmp_path):
    """A query over Parquet in another order, with categories, indicators, means and a validation split."""
    source, query = tmp_path / "in.parquet", tmp_path / "in.sql"
    spark.read.csv(str(small), header=True, inferSchema=True).orderBy(F.desc("PRI_tau_pt")).write.parquet(str(source))
    query.write_text(f"SELECT * FROM parquet.`{source}` WHERE PRI_jet_num <= 3;\n")
    settings = (
        "input.format=sql",
        "split.validation=0.2",
        "schema.categorical=[PRI_jet_num]",
        "features.indicators=true",
        "features.impute=mean",
    )
    info = run(query, *settings)
    assert info.rows["validation"] > 30 and info.rows["in"] == 300
    fitted = FeaturePipeline.load(f"{info.path}/features.json")
    assert info.features == fitted.names
    assert info.features == [
        "DER_mass_MMC",
        "PRI_tau_pt",
        "DER_mass_MMC_missing",
        *(f"PRI_jet_num={i}" for i in range(4)),
    ]
    raw = pd.read_csv(small, dtype={"EventId": str}).set_index("EventId")
    for split in ("train", "validation", "test"):
        part = read(info, split)
        assert np.abs(matrix(part) - fitted.transform(raw.loc[part.index])).max() < 1e-6
    # A row is tested on or not whatever format, order and number of rows it comes with.
    assert set(read(info, "test").index) == set(read(dataset, "test").index) & set(raw.index)
    train = raw.loc[read(info, "train").index]
    observed = train["DER_mass_MMC"][train["DER_mass_MMC"] != -999.0]
    assert fitted.fill[0] == pytest.approx(observed.mean(), rel=1e-12)
    assert run(query, *settings).reused


@pytest.mark.slow
def test_parquet_gives_the_split_of_csv_and_constants_leave_values_alone(run, small, dataset, spark, tmp_path):
    source = tmp_path / "in.parquet"
    table = spark.read.csv(str(small), header=True, inferSchema=True)
    table.orderBy("PRI_tau_pt").coalesce(1).write.parquet(str(source))
    settings = ("input.format=parquet", "features.impute=constant", "features.standardise=false")
    info = run(source, *settings, "schema.drop=[PRI_jet_num]")
    test = read(info, "test")
    raw = pd.read_csv(small, dtype={"EventId": str}).set_index("EventId")
    assert set(test.index) == set(read(dataset, "test").index) & set(raw.index)
    assert info.features == ["DER_mass_MMC", "PRI_tau_pt"]
    expected = raw.loc[test.index, info.features].replace(-999.0, 0.0).to_numpy(np.float32)
    assert np.array_equal(matrix(test), expected)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real events of the challenge are not on this machine")
def test_real_events_against_scikit_learn(run):
    info = run(REAL)
    assert info.rows["in"] == 10_000 and info.classes["positive"]["rows"]["in"] == 3372
    check_against_oracle(info, REAL)


class Stopped(Exception):
    pass


def stop_at(word):
    """A progress function that stops the preprocessing when it comes to a step."""

    def progress(message):
        if message.startswith(word):
            raise Stopped

    return progress


def times(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


class Untouchable:
    """A session that must not be used."""

    def __getattr__(self, name):
        raise AssertionError(f"the session was used ({name}) although nothing has changed")
