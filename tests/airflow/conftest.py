"""A real Airflow of its own for the tests: started once, on a free port, stopped whole."""

import contextlib
import subprocess
from types import SimpleNamespace

import pytest

from dkeras_core.airflow.rest import Rest
from dkeras_core.singlenode import ports, processes
from dkeras_core.singlenode.airflow import USER, LocalAirflow


@pytest.fixture(scope="session")
def airflow_python(project_root):
    """The interpreter of Airflow's environment, which is made when it is not there."""
    subprocess.run([project_root / "envs/bootstrap.sh", "airflow"], check=True, timeout=600)
    return project_root / "build/airflow/venv/bin/python"


@pytest.fixture(scope="session")
def airflow(airflow_python, tmp_path_factory):
    """(local, rest, dags): put DAG files into the folder ``dags``; they appear after seconds."""
    with _running(airflow_python, tmp_path_factory.mktemp("airflow"), {}) as found:
        yield found


@pytest.fixture(scope="session")
def airflow_on_hadoop(airflow_python, tmp_path_factory, hadoop, project_root):
    """The same on the HDFS and YARN of the session's cluster."""
    with _running(airflow_python, tmp_path_factory.mktemp("airflow"), _on(hadoop, project_root)) as found:
        yield found


@pytest.fixture(scope="module")
def fresh_airflow_on_hadoop(airflow_python, tmp_path_factory, hadoop, project_root):
    """The same for one module alone: no other test has left DAGs in it."""
    with _running(airflow_python, tmp_path_factory.mktemp("airflow"), _on(hadoop, project_root)) as found:
        yield found


def _on(hadoop, project_root):
    return {
        "HADOOP_CONF_DIR": str(hadoop.conf_dir),
        "DKERAS_COMMAND": str(project_root / "build/venv/bin/dkeras"),
    }


@contextlib.contextmanager
def _running(python, folder, environment):
    (folder / "dags").mkdir()
    local = LocalAirflow(folder / "home", dags=folder / "dags", python=python, environment=environment)
    try:
        assert local.up().ready
        port = int(local.address.rpartition(":")[2])
        yield SimpleNamespace(local=local, rest=Rest(local.address, USER, local.password), dags=folder / "dags")
    finally:
        local.down()
    assert local.status().down and ports.is_free(port)
    assert not (local.home / "tmp").exists()
    mark = f"AIRFLOW_HOME={local.home}"
    assert [one.command() for one in processes.every() if mark in one.environment()] == []
