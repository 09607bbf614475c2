"""One ``spark-submit --master yarn --deploy-mode cluster`` as a value: what is run, and why each setting is set."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from dkeras_core.config import Resources
from dkeras_core.errors import ConfigError

_SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_MAX_TAG = 100  # the ResourceManager refuses longer tags


def run_tag(run_id: str) -> str:
    """The YARN tag of all applications of a run (lower case: the ResourceManager stores tags so)."""
    return f"dkeras-run-{run_id.lower()}"[:_MAX_TAG]


def spark_home() -> Path:
    """The site's own Spark when SPARK_HOME is set, else the one inside the installed pyspark."""
    if os.environ.get("SPARK_HOME"):
        home = Path(os.environ["SPARK_HOME"])
        source = "SPARK_HOME"
    else:
        spec = importlib.util.find_spec("pyspark")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                "neither SPARK_HOME is set nor pyspark installed", "set SPARK_HOME or pip install pyspark"
            )
        home = Path(next(iter(spec.submodule_search_locations)))
        source = "pyspark"
    if not (home / "bin" / "spark-submit").is_file():
        raise ConfigError(f"{home} (from {source}) holds no bin/spark-submit", "set SPARK_HOME to a Spark installation")
    return home


@dataclass(frozen=True)
class SparkSubmission:
    """Everything about one application.

    Parameters
    ----------
    name : str
        The application's name in YARN.
    main : Path
        Python file that is run in the driver.
    arguments : tuple of str
        Its arguments.
    resources : Resources
        Executors, cores, heaps and queue; ``resources.conf`` has the last word over all settings here.
    memory_overhead, driver_memory_overhead : int
        MiB beside the heaps of the executors and of the driver (:mod:`dkeras_core.yarn.sizing`).
    conf_dir : Path
        HADOOP_CONF_DIR of the submission.
    archive : str, optional
        URI of the packed environment in HDFS; without it the containers use this interpreter (one machine only).
    spark_jars : str, optional
        URI of the zip of Spark's jars in HDFS (``spark.yarn.archive``); not needed on the single node.
    py_files, files : tuple of Path
        Python code and other files shipped with the application.
    tags : tuple of str
        YARN tags; the first that is unique to this submission finds the application again.
    staging : str, optional
        Folder in HDFS for what spark-submit uploads; Spark adds ``<user>/.sparkStaging/<application>``.
    single_node : bool
        The bundle's own daemons on loopback: Spark's jars are read from this disk, everything binds to 127.0.0.1.
    """

    name: str
    main: Path
    arguments: tuple[str, ...]
    resources: Resources
    memory_overhead: int
    driver_memory_overhead: int
    conf_dir: Path
    archive: str | None = None
    spark_jars: str | None = None
    py_files: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    staging: str | None = None
    single_node: bool = False
    spark: Path = field(default_factory=spark_home)

    def argv(self) -> list[str]:
        """The command line."""
        argv = [str(self.spark / "bin" / "spark-submit"), "--master", "yarn", "--deploy-mode", "cluster"]
        argv += ["--name", self.name]
        for key, value in sorted(self.conf().items()):
            argv += ["--conf", f"{key}={value}"]
        for flag, paths in (("--py-files", self.py_files), ("--files", self.files)):
            if paths:
                argv += [flag, ",".join(str(path) for path in paths)]
        if self.archive:
            argv += ["--archives", f"{self.archive}#environment"]
        return [*argv, str(self.main), *self.arguments]

    def environment(self) -> dict[str, str]:
        """The environment of the spark-submit process."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            # spark-submit would send these to the cluster, where the paths of this host mean nothing
            if key not in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYTHONPATH", "SPARK_MASTER")
        }
        configured = {"HADOOP_CONF_DIR": str(self.conf_dir), "YARN_CONF_DIR": str(self.conf_dir)}
        # spark-submit lives for seconds: half its time goes into compiling code that then runs once.
        java = {
            "SPARK_SUBMIT_OPTS": f"{_SHORT_LIVED} -Djava.io.tmpdir={tempfile.gettempdir()} "
            f"{os.environ.get('SPARK_SUBMIT_OPTS', '')}".strip()
        }
        local = {"SPARK_LOCAL_IP": "127.0.0.1"} if self.single_node else {}
        return {**inherited, **configured, **java, **local, "SPARK_HOME": str(self.spark)}

    def conf(self) -> dict[str, str]:
        """All Spark settings, later groups overriding earlier ones; the pipeline's own come last."""
        return {
            **self._resources(),
            **self._yarn(),
            **self._python(),
            **{key: _text(value) for key, value in self.resources.conf.items()},
        }

    def _resources(self) -> dict[str, str]:
        asked = self.resources
        return {
            "spark.executor.instances": str(asked.executors),
            "spark.executor.cores": str(asked.cores),
            "spark.executor.memory": asked.memory,
            "spark.executor.memoryOverhead": f"{self.memory_overhead}m",
            "spark.driver.memory": asked.driver_memory,
            "spark.driver.memoryOverhead": f"{self.driver_memory_overhead}m",
            "spark.driver.cores": str(asked.driver_cores),
            "spark.yarn.queue": asked.queue,
            # The membership of a training run is fixed, and a second copy of a worker would train its rows twice.
            "spark.dynamicAllocation.enabled": "false",
            "spark.speculation": "false",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        }

    def _yarn(self) -> dict[str, str]:
        conf = {
            "spark.yarn.tags": ",".join(tag.lower()[:_MAX_TAG] for tag in self.tags),
            "spark.yarn.maxAppAttempts": "1",
            # The run is followed over REST, so the submitting JVM (half a gigabyte) may end after submission.
            "spark.yarn.submit.waitAppCompletion": "false",
            # Hadoop's defaults retry an unreachable ResourceManager for fifteen minutes.
            "spark.hadoop.yarn.resourcemanager.connect.max-wait.ms": "30000",
            "spark.hadoop.yarn.resourcemanager.connect.retry-interval.ms": "1000",
            # The application master takes them, too, and would give up after five times those 30 s.
            "spark.yarn.scheduler.reporterThread.maxFailures": "20",
        }
        if self.staging:
            conf["spark.yarn.stagingDir"] = self.staging
        if self.single_node:
            conf["spark.yarn.jars"] = f"local:{self.spark}/jars/*"
            conf["spark.ui.enabled"] = "false"
            conf["spark.driver.extraJavaOptions"] = conf["spark.executor.extraJavaOptions"] = _SHORT_LIVED
        elif self.spark_jars:
            conf["spark.yarn.archive"] = self.spark_jars
        return {key: value for key, value in conf.items() if value}

    def _python(self) -> dict[str, str]:
        python = "./environment/bin/python" if self.archive else sys.executable
        conf = {"spark.pyspark.python": python, "spark.python.worker.faulthandler.enabled": "true"}
        driver = {**_threads(self.resources.driver_cores), "PYSPARK_PYTHON": python}
        executor = _threads(1)
        shared = {
            # Packages in a home directory on the node must not mix with the packed environment.
            "PYTHONNOUSERSITE": "1",
            # Keras writes its configuration to the home directory otherwise, which a container may not have.
            "KERAS_HOME": "./keras",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            # What TensorFlow writes to the temporary folder stays there when a container is killed, so that folder is
            # the container's own; YARN makes it and removes it.
            "TMPDIR": "{{PWD}}/tmp",
            **({"SPARK_LOCAL_IP": "127.0.0.1"} if self.single_node else {}),
        }
        conf |= {f"spark.yarn.appMasterEnv.{key}": value for key, value in {**shared, **driver}.items()}
        conf |= {f"spark.executorEnv.{key}": value for key, value in {**shared, **executor}.items()}
        return conf


def _threads(cores: int) -> dict[str, str]:
    """One Python process keeps to its cores; Spark starts one process for every executor core."""
    return {
        "OMP_NUM_THREADS": str(cores),
        "OPENBLAS_NUM_THREADS": str(cores),
        "TF_NUM_INTRAOP_THREADS": str(cores),
        "TF_NUM_INTEROP_THREADS": "1",
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
