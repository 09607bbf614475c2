"""The command `dkeras` against the tests' own cluster, and data for it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HIGGS = ROOT / "dags" / "pipelines" / "higgs.yaml"
REAL = ROOT.parent / "shared" / "data" / "higgs" / "training_10k.csv"


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def published(self) -> str:
        last = self.out.strip().splitlines()[-1]
        assert last.startswith("published hdfs://"), self.out + self.err
        return last.removeprefix("published ")


class Dkeras:
    """Runs the command with the cluster's configuration, each call in a process group of its own."""

    def __init__(self, conf_dir: Path):
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("HADOOP", "YARN", "SPARK"))}
        self.env = {**keep, "HADOOP_CONF_DIR": str(conf_dir), "COLUMNS": "200"}

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("dkeras")), *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, timeout: float = 280) -> Outcome:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Outcome(process.returncode, out, err)

    def submit(self, *arguments: str, **settings: str) -> Outcome:
        return self("submit", str(HIGGS), *arguments, *self.overrides(settings))

    @staticmethod
    def overrides(settings: dict[str, str]) -> list[str]:
        """``{"training__epochs": "2"}`` as ``--set training.epochs=2``."""
        return [part for key, value in settings.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


@pytest.fixture(scope="session")
def dkeras(hadoop) -> Dkeras:
    return Dkeras(hadoop.conf_dir)


@pytest.fixture(scope="session")
def events(tmp_path_factory) -> Path:
    """The challenge's first 10,000 events when they are there, else as many synthetic ones."""
    if REAL.exists():
        return REAL
    from dkeras_core.data.higgs import write_events

    path = tmp_path_factory.mktemp("events") / "training.csv"
    write_events(path, rows=10_000, seed=1)
    return path


@pytest.fixture
def newest_run(webhdfs):
    """The folder of the newest run of a pipeline below a root."""
    return lambda root, name: max(run.path for run in webhdfs.list(f"{root}/runs") if run.name.startswith(f"{name}-"))


@pytest.fixture
def result_of(webhdfs, newest_run):
    """A file of the newest run of a pipeline."""

    def read(root: str, pipeline: str, name: str = "result.json") -> dict:
        return json.loads(webhdfs.read_bytes(f"{newest_run(root, pipeline)}/{name}"))

    return read
