"""Containers on the real YARN: applications of one shell command each, submitted by REST."""

import getpass
import re
import sys
import time

import pytest
import requests

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ALLOCATE = f"{sys.executable} -c 'import time; block = bytearray(1) * (700 * 2**20); time.sleep(60)'"


def run(hadoop, command, *, memory=256, seconds=60):
    """Run ``command`` as the application master of a new application and return its report and what it printed."""
    apps = f"{hadoop.resourcemanager_http}/ws/v1/cluster/apps"
    user = {"user.name": getpass.getuser()}
    number = requests.post(f"{apps}/new-application", params=user, timeout=30).json()["application-id"]
    context = {
        "application-id": number,
        "application-name": "shell",
        "application-type": "TEST",
        "max-app-attempts": 1,
        "am-container-spec": {"commands": {"command": f"{{ {command}; }} 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"}},
        "resource": {"memory": memory, "vCores": 1},
    }
    reply = requests.post(apps, json=context, params=user, timeout=30)
    assert reply.status_code == 202, reply.text
    deadline = time.monotonic() + seconds
    while (report := requests.get(f"{apps}/{number}", timeout=30).json()["app"])["finalStatus"] == "UNDEFINED":
        assert time.monotonic() < deadline, report["diagnostics"]
        time.sleep(0.2)
    (output,) = hadoop.container_logs.glob(f"{number}/*/stdout")
    return report, output.read_text()


def test_container_starts_quickly_and_its_log_stays(hadoop):
    run(hadoop, "true")  # the first one loads classes
    begin = time.monotonic()
    _, output = run(hadoop, "echo hello")
    assert output == "hello\n"
    assert time.monotonic() - begin < 10


def test_environment_of_a_container_is_clean(hadoop):
    _, output = run(hadoop, "env")
    environment = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert environment["HADOOP_CONF_DIR"] == str(hadoop.conf_dir)
    assert environment["JAVA_HOME"].startswith("/")
    assert environment["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert not [name for name in environment if name.startswith(("SPARK_", "PYTHON", "PYTEST", "VIRTUAL_ENV"))]


def test_container_above_its_memory_is_killed(hadoop):
    begin = time.monotonic()
    report, _ = run(hadoop, ALLOCATE)
    assert time.monotonic() - begin < 30
    assert report["finalStatus"] == "FAILED"
    assert "exitCode: -104" in report["diagnostics"], report["diagnostics"]
    assert re.search(r"beyond the 'PHYSICAL' memory limit", report["diagnostics"])


def test_stopped_node_ends_its_containers(spare_hadoop):
    """NodeManager and `down` together leave nothing, also of a container that ignores TERM."""
    from dkeras_core.singlenode import processes

    spare_hadoop.up()
    with pytest.raises(AssertionError):  # still running when the time is over
        run(spare_hadoop, "trap : TERM; while :; do sleep 0.2; done", seconds=5)
    local = spare_hadoop._home.local("nodemanager-1")
    assert processes.containers_below(local)
    spare_hadoop.down()
    assert not processes.containers_below(local)
