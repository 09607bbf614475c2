"""Airflow on this machine: starts, runs a DAG, mends what crashed; the fixture checks that it leaves nothing."""

import os
import subprocess
import time

import pytest

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.singlenode.airflow import COMMANDS, LocalAirflow

HELLO = """
from airflow.sdk import dag, task

@dag(schedule=None, params={"number": 3})
def hello():
    @task
    def double(params):
        print("the number is", params["number"])
        return 2 * params["number"]

    double()

hello()
"""


def appears(rest, dag, seconds=60):
    deadline = time.monotonic() + seconds
    while dag not in rest.dags():
        assert time.monotonic() < deadline and rest.import_errors() == []
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_dag_runs_and_what_crashed_is_started_again(airflow):
    local, rest = airflow.local, airflow.rest
    assert oct((local.home / "passwords.json").stat().st_mode)[-3:] == "600"
    (airflow.dags / "hello.py").write_text(HELLO)
    appears(rest, "hello")
    assert set(rest.health().values()) == {"healthy"}

    run = rest.trigger("hello", {"number": 5})
    assert rest.wait("hello", run, seconds=90) == "success"
    assert rest.xcom("hello", run, "double") == 10 and "the number is 5" in rest.log("hello", run, "double")
    with pytest.raises(ClusterError, match="404"):
        rest.run("hello", "no-such-run")

    before = {name: local._process(name) for name in COMMANDS}
    local.kill("scheduler")
    assert local.status().components["scheduler"] == "down" and not local.status().ready
    assert local.up().ready
    after = {name: local._process(name) for name in COMMANDS}
    assert [name for name in COMMANDS if after[name] != before[name]] == ["scheduler"]
    assert rest.wait("hello", rest.trigger("hello"), seconds=90) == "success"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no Airflow at"):
        LocalAirflow(tmp_path / "home", python=tmp_path / "python").up()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module named airflow >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ConfigError, match="folder of DAGs"):
        LocalAirflow(tmp_path / "home", python=python, dags=tmp_path / "none").up()
    with pytest.raises(ClusterError, match=r"migrate failed: no module named airflow"):
        LocalAirflow(tmp_path / "home", python=python, dags=tmp_path).up()
    assert LocalAirflow(tmp_path / "home").status().down


def test_only_one_at_a_time(tmp_path):
    import fcntl

    home = tmp_path / "home"
    home.mkdir()
    with (home / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ClusterError, match="somebody else starts or stops"):
            LocalAirflow(home).down()


@pytest.mark.slow
def test_the_package_imports_neither_spark_nor_tensorflow(airflow_python):
    """In Airflow's environment there are none."""
    code = (
        "import dkeras_core.airflow.rest, dkeras_core.yarn.resource_manager, dkeras_core.registry, dkeras_core.config"
    )
    missing = "import importlib.util as u; print([n for n in ('pyspark', 'tensorflow') if u.find_spec(n)])"
    found = subprocess.run(
        [airflow_python, "-c", f"{code}; {missing}"], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (found.stdout.strip(), found.returncode) == ("[]", 0), found.stderr
