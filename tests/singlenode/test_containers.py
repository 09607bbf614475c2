"""Containers on the real YARN: applications of one shell command each, submitted by REST."""

import getpass
import os
import re
import signal
import sys
import time

import pytest
import requests
from hdfs import InsecureClient

from dkeras_core.singlenode import processes
from dkeras_core.singlenode.configuration import NODE_RECOVERY
from dkeras_core.singlenode.home import State

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ALLOCATE = f"{sys.executable} -c 'import time; block = bytearray(1) * (700 * 2**20); time.sleep(60)'"


def submit(hadoop, command, *, memory=256, resources=()):
    """Submit ``command`` as the application master of a new application and return its id."""
    apps = f"{hadoop.resourcemanager_http}/ws/v1/cluster/apps"
    user = {"user.name": getpass.getuser()}
    number = requests.post(f"{apps}/new-application", params=user, timeout=30).json()["application-id"]
    master = {"commands": {"command": f"{{ {command}; }} 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"}}
    context = {
        "application-id": number,
        "application-name": "shell",
        "application-type": "TEST",
        "max-app-attempts": 1,
        "am-container-spec": master | {"local-resources": {"entry": list(resources)}},
        "resource": {"memory": memory, "vCores": 1},
    }
    reply = requests.post(apps, json=context, params=user, timeout=30)
    assert reply.status_code == 202, reply.text
    return number


def look(hadoop, number):
    """The ResourceManager's report, None when it does not know the application."""
    reply = requests.get(f"{hadoop.resourcemanager_http}/ws/v1/cluster/apps/{number}", timeout=30)
    return reply.json()["app"] if reply.ok else None


def finish(hadoop, number, *, seconds=60):
    """Wait for the end of an application and return its report and what it printed."""
    deadline = time.monotonic() + seconds
    while (report := look(hadoop, number))["finalStatus"] == "UNDEFINED":
        assert time.monotonic() < deadline, report["diagnostics"]
        time.sleep(0.2)
    (output,) = hadoop.container_logs.glob(f"{number}/*/stdout")
    return report, output.read_text()


def run(hadoop, command, *, seconds=60, **asked):
    """Run ``command`` to its end."""
    return finish(hadoop, submit(hadoop, command, **asked), seconds=seconds)


def until(question, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := question()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


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
    spare_hadoop.up()
    with pytest.raises(AssertionError):  # still running when the time is over
        run(spare_hadoop, "trap : TERM; while :; do sleep 0.2; done", seconds=5)
    local = spare_hadoop._home.local("nodemanager-1")
    assert processes.containers_below(local)
    spare_hadoop.down()
    assert not processes.containers_below(local)


def printed(hadoop, number):
    return "".join(file.read_text() for file in hadoop.container_logs.glob(f"{number}/*/stdout"))


def test_an_application_outlives_the_resource_manager(spare_hadoop, tmp_path):
    """Killed and started again it goes on with the same application, whose container has not noticed."""
    spare_hadoop.up()
    signal_file = tmp_path / "go"
    app = submit(spare_hadoop, f"echo begun; while [ ! -e {signal_file} ]; do sleep 0.1; done; echo done")
    until(lambda: "begun" in printed(spare_hadoop, app))
    os.kill(pid := spare_hadoop.status().daemon("resourcemanager").pid, signal.SIGKILL)
    until(lambda: processes.Process.of(pid) is None)
    assert spare_hadoop.up().ready
    assert look(spare_hadoop, app)["state"] in ("ACCEPTED", "RUNNING")
    run(spare_hadoop, "true")  # others are taken as before
    assert printed(spare_hadoop, app) == "begun\n"
    signal_file.touch()
    _, output = finish(spare_hadoop, app)
    assert output == "begun\ndone\n"


@pytest.mark.parametrize("ends", ["down", "killed"])
def test_nothing_of_an_earlier_life_passes_for_alive(spare_hadoop, ends):
    spare_hadoop.up()
    app = submit(spare_hadoop, "echo begun; sleep 600")
    until(lambda: "begun" in printed(spare_hadoop, app))
    if ends == "down":
        spare_hadoop.down()
    else:  # as when the machine fails
        for daemon in spare_hadoop.status().daemons:
            os.kill(daemon.pid, signal.SIGKILL)
        until(lambda: spare_hadoop.status().down)
    assert spare_hadoop.up().ready
    assert look(spare_hadoop, app) is None
    run(spare_hadoop, "true")
    assert not processes.containers_below(spare_hadoop._home.local("nodemanager-1"))


@pytest.mark.skipif(not NODE_RECOVERY, reason="a NodeManager remembers on x86-64 only")
def test_what_was_fetched_for_applications_stays(spare_hadoop):
    """The environment's archive takes a minute to unpack: once is enough."""
    spare_hadoop.up()
    client = InsecureClient(spare_hadoop.namenode_http, user=getpass.getuser())
    client.write("/tmp/fetched", data=b"content", overwrite=True)

    def show():
        status = client.status("/tmp/fetched")
        address = State.load(spare_hadoop.home / "state.json").ports["namenode.rpc"]
        value = {"resource": f"hdfs://127.0.0.1:{address}/tmp/fetched", "type": "FILE", "visibility": "PUBLIC"}
        value |= {"size": status["length"], "timestamp": status["modificationTime"]}
        command = "cat fetched; readlink fetched; stat -L -c '%i %z' fetched"
        _, output = run(spare_hadoop, command, resources=[{"key": "fetched", "value": value}])
        return output

    first = show()
    assert first.startswith("content") and "/filecache/" in first
    spare_hadoop.down()
    spare_hadoop.up()
    assert show() == first
