"""The command line of spark-submit, container sizes, the shipped package, and the words for refusals."""

import sys
import zipfile
from pathlib import Path

import pytest

from dkeras_core.config import Pipeline, Resources
from dkeras_core.errors import ConfigError
from dkeras_core.yarn.package import package
from dkeras_core.yarn.sizing import containers, memory_overhead, mlp_parameters
from dkeras_core.yarn.submission import SparkSubmission, run_tag, spark_home
from dkeras_core.yarn.submit import explain_submission


def submission(**changes):
    settings = {
        "name": "dkeras higgs",
        "main": Path("/x/main.py"),
        "arguments": ("--root", "/dkeras"),
        "resources": Resources(executors=3, cores=2, memory="2g", driver_cores=4, queue="science"),
        "memory_overhead": 1216,
        "driver_memory_overhead": 1280,
        "conf_dir": Path("/etc/hadoop"),
        "archive": "hdfs://ns/dkeras/envs/train-0.tar.gz",
        "spark": Path("/opt/spark"),
        "tags": ("dkeras", run_tag("Higgs-20261122T1")),
    }
    return SparkSubmission(**{**settings, **changes})


def test_the_packed_environment_is_the_python_of_driver_and_executors():
    made = submission()
    conf = made.conf()
    assert conf["spark.pyspark.python"] == "./environment/bin/python"
    assert conf["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] == "./environment/bin/python"
    argv = made.argv()
    assert argv[:5] == ["/opt/spark/bin/spark-submit", "--master", "yarn", "--deploy-mode", "cluster"]
    assert argv[argv.index("--archives") + 1] == "hdfs://ns/dkeras/envs/train-0.tar.gz#environment"
    assert argv[-3:] == ["/x/main.py", "--root", "/dkeras"]


def test_what_is_asked_of_yarn():
    conf = submission().conf()
    assert conf["spark.executor.instances"] == "3"
    assert conf["spark.executor.cores"] == "2"
    assert conf["spark.executor.memory"] == "2g"
    assert conf["spark.executor.memoryOverhead"] == "1216m"
    assert conf["spark.driver.memoryOverhead"] == "1280m"
    assert conf["spark.yarn.queue"] == "science"
    assert conf["spark.yarn.tags"] == "dkeras,dkeras-run-higgs-20261122t1"
    assert conf["spark.speculation"] == conf["spark.dynamicAllocation.enabled"] == "false"


def test_one_python_process_a_core_keeps_to_its_core():
    conf = submission().conf()
    assert conf["spark.executorEnv.OMP_NUM_THREADS"] == "1"
    assert conf["spark.yarn.appMasterEnv.TF_NUM_INTRAOP_THREADS"] == "4"


def test_the_single_node_stays_on_loopback_and_uploads_no_jars():
    conf = submission(single_node=True, archive=None, spark_jars="hdfs:///jars.zip").conf()
    assert conf["spark.yarn.jars"] == "local:/opt/spark/jars/*"
    assert "spark.yarn.archive" not in conf
    assert conf["spark.executorEnv.SPARK_LOCAL_IP"] == conf["spark.yarn.appMasterEnv.SPARK_LOCAL_IP"] == "127.0.0.1"
    assert conf["spark.pyspark.python"] == sys.executable
    real = submission(spark_jars="hdfs:///jars.zip").conf()
    assert real["spark.yarn.archive"] == "hdfs:///jars.zip"
    assert not any("SPARK_LOCAL_IP" in key for key in real)


def test_settings_of_the_site_have_the_last_word():
    resources = Resources(conf={"spark.yarn.maxAppAttempts": 2, "spark.authenticate": True})
    conf = submission(resources=resources).conf()
    assert conf["spark.yarn.maxAppAttempts"] == "2"
    assert conf["spark.authenticate"] == "true"


def test_no_path_of_this_host_reaches_the_cluster(monkeypatch):
    monkeypatch.setenv("PYSPARK_DRIVER_PYTHON", "/home/me/python")
    monkeypatch.setenv("PYTHONPATH", "/home/me")
    monkeypatch.setenv("KEPT", "1")
    environment = submission().environment()
    assert "PYSPARK_DRIVER_PYTHON" not in environment and "PYTHONPATH" not in environment
    assert environment["KEPT"] == "1"
    assert environment["HADOOP_CONF_DIR"] == environment["YARN_CONF_DIR"] == "/etc/hadoop"
    assert environment["SPARK_HOME"] == "/opt/spark"


def test_the_sites_spark_wins_and_a_wrong_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="holds no bin/spark-submit"):
        spark_home()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "spark-submit").touch()
    assert spark_home() == tmp_path
    monkeypatch.delenv("SPARK_HOME")
    assert (spark_home() / "jars").is_dir()


def test_tags_keep_to_the_resource_managers_limits():
    assert len(run_tag("x" * 200)) == 100
    assert run_tag("Run-T") == "dkeras-run-run-t"


def test_overhead_covers_tensorflow_and_grows_with_model_heap_and_cores():
    small = memory_overhead(1024, 500_000, 32)
    assert 1100 <= small <= 1300 and small % 64 == 0
    assert memory_overhead(1024, 50_000_000, 32) > small + 1800  # ten copies of 200 MB
    assert memory_overhead(1024, 500_000, 32, processes=2) > small + 700
    assert memory_overhead(20480, 500_000, 32) == small + (2048 - 384) // 64 * 64
    assert memory_overhead(1024, None, 32) > small
    assert memory_overhead(1024, 500_000, 32, held=640 << 20) == small + 640


def test_driver_and_executors_have_room_for_ensembles_and_the_driver_for_validation_rows(project_root):
    def sizes(*overrides):
        asked = ("resources.executors=16", "resources.memory_overhead=null", "resources.driver_memory_overhead=null")
        found = containers(Pipeline.load(project_root / "dags/pipelines/higgs.yaml", [*asked, *overrides]))
        return found.executor_overhead, found.driver_overhead

    executor, driver = sizes()
    of_many, with_many = sizes("training.result=ensemble")
    assert of_many - executor == with_many - driver >= 64  # 16 x 3 x 1.5 MB
    rows = ["split.validation=0.1", "training.validation={rows: 1000000}"]
    assert sizes(*rows)[0] == executor and 320 <= sizes(*rows)[1] - driver <= 384  # 3 copies of 30 values a row
    assert sizes("training.validation={rows: 1000000}") == (executor, driver)


def test_weights_of_the_registered_builder():
    assert mlp_parameters(30, {"hidden": [600, 600]}) == 31 * 600 + 601 * 600 + 601
    assert mlp_parameters(30, {"hidden": "wide"}) is None
    assert mlp_parameters(30, {}) is None


def test_the_package_is_the_same_file_for_the_same_code(tmp_path):
    one = package(tmp_path / "one")
    two = package(tmp_path / "two")
    assert one.name == two.name and one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert "dkeras_core/errors.py" in names
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]
    stamp = one.stat().st_mtime_ns
    assert package(tmp_path / "one").stat().st_mtime_ns == stamp
    assert list((tmp_path / "one").iterdir()) == [one]


TROUBLE = "org.apache.hadoop.yarn.exceptions.YarnException: Failed to submit application_1_0001 to YARN : "


@pytest.mark.parametrize(
    ("text", "what", "next_step"),
    [
        (
            TROUBLE + "Application application_1_0001 submitted by user u to unknown queue: nosuch",
            "queue nosuch",
            "--queue",
        ),
        (TROUBLE + "Queue root.night is STOPPED. Cannot accept submission", "queue root.night is stopped", "--queue"),
        (
            "java.lang.IllegalArgumentException: Required executor memory (900000 MB), offHeap memory (0) MB, overhead "
            "(90000 MB), and PySpark memory (0 MB) is above the max threshold (8192 MB) of this cluster!",
            "900000 MB is asked for and the largest this cluster gives has 8192 MB",
            "resources.memory",
        ),
        ("SaslException: Client cannot authenticate via:[TOKEN, KERBEROS]", "no valid ticket", "kinit"),
        (
            'AccessControlException: Permission denied: user=bob, access=WRITE, inode="/dkeras":root:g:drwxr-xr-x\n',
            'user=bob, access=WRITE, inode="/dkeras"',
            "root in the pipeline",
        ),
        ("JAVA_HOME is not set\n", "no Java", "Java 17"),
        ("WARN something\nException in thread main x.Y: because\n\tat z\n", "because", "read"),
    ],
)
def test_refusals_name_cause_and_next_step(text, what, next_step):
    error = explain_submission(text, None, 1, Path("/tmp/log"))
    assert what in error.what
    assert next_step in error.next_step
