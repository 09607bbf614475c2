"""The same on a real HDFS: uploaded by the command, preprocessed through Spark's JVM, reused, and nothing left."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dkeras_core.cli.data import app
from dkeras_core.config import Pipeline
from dkeras_core.data.higgs import write_events
from dkeras_core.data.preprocess import preprocess
from dkeras_core.errors import DataError, StorageError
from dkeras_core.paths import Layout
from dkeras_core.storage.hadoop import HadoopStorage

pytestmark = pytest.mark.cluster

TEXT = """
name: higgs
root: /data-tests
input: {path: raw/higgs/training.csv}
schema: {key: EventId, label: Label, positive: s, negative: b, weight: Weight, missing: -999.0}
model: {builder: mlp}
registry: {model: higgs}
"""


@pytest.fixture
def storage(hadoop, spark, monkeypatch):
    """HDFS as the default file system of the session, for one test."""
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    before = settings.get("fs.defaultFS")
    settings.set("fs.defaultFS", HadoopConfig.load().default_fs)
    yield HadoopStorage(spark)
    settings.set("fs.defaultFS", before)


def test_upload_preprocess_reuse_and_refuse(storage, spark, tmp_path):
    arguments = [
        "higgs",
        "--rows",
        "400",
        "--output",
        str(tmp_path / "training.csv"),
        "--upload",
        "--root",
        "/data-tests",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    names = [child.name for child in storage.list("/data-tests/raw/higgs")]
    assert names == ["training.csv", "training.json"]

    layout, pipeline = Layout("/data-tests"), Pipeline.parse(TEXT)
    first = preprocess(spark, pipeline, storage, layout)
    assert first.rows["in"] == 400 and first.path == layout.dataset("higgs", first.fingerprint)
    # Uploading the same bytes again changes nothing that counts.
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = preprocess(spark, pipeline, storage, layout)
    assert again.reused and again.rows == first.rows
    assert spark.read.parquet(f"{first.path}/train").count() == first.rows["train"]

    storage.write_bytes("/data-tests/raw/higgs/cut.csv", (tmp_path / "training.csv").read_bytes()[:-30])
    cut = Pipeline.parse(TEXT, overrides=["input.path=raw/higgs/cut.csv"])
    with pytest.raises(DataError, match=r"/data-tests/raw/higgs/cut\.csv:401: .*the file was cut off"):
        preprocess(spark, cut, storage, layout)
    assert [child.name for child in storage.list("/data-tests/data/higgs")] == [first.fingerprint]


@pytest.mark.parametrize("quota", ["names", "bytes"])
def test_a_quota_that_is_exceeded_is_said_and_leaves_nothing(storage, spark, tmp_path, quota):
    root = f"/quota-{quota}"
    storage.upload(write_events(tmp_path / "training.csv", rows=400), f"{root}/raw/higgs/training.csv")
    storage.mkdirs(f"{root}/data")
    hadoop = spark._jvm.org.apache.hadoop
    address = spark._jvm.java.net.URI(storage.url)
    admin = hadoop.hdfs.client.HdfsAdmin(address, spark.sparkContext._jsc.hadoopConfiguration())
    folder = hadoop.fs.Path(f"{root}/data")
    admin.setQuota(folder, 12) if quota == "names" else admin.setSpaceQuota(folder, 1000)
    pipeline = Pipeline.parse(TEXT, overrides=[f"root={root}"])
    with pytest.raises(StorageError, match=r"quota.*exceeded") as caught:
        preprocess(spark, pipeline, storage, Layout(root))
    assert "ask an administrator to raise it" in str(caught.value)
    assert storage.list(f"{root}/data/higgs") == []
