"""The real daemons: `hadoop` is only looked at, `spare_hadoop` is stopped and broken."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import SingleNode, daemons, health, ports, processes
from dkeras_core.singlenode.home import State
from dkeras_core.singlenode.processes import Process

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def pids(status):
    return {daemon.name: daemon.pid for daemon in status.daemons}


def numbers(node):
    return State.load(node.home / "state.json").ports


def run(project_root, *arguments, **environment):
    """Run `dkeras cluster …` as a user does."""
    return subprocess.run(
        [sys.executable, "-c", "from dkeras_core.cli.app import main; main()", "cluster", *arguments],
        cwd=project_root, env=os.environ | environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


@pytest.fixture
def spare(spare_hadoop):
    """The spare cluster, up with one node."""
    spare_hadoop.up(nodes=1)
    return spare_hadoop


# -- a cluster that is up ------------------------------------------------------------------------------------------


def test_ready_means_every_daemon_works(hadoop):
    status = hadoop.status()
    assert status.ready and not status.down
    assert [daemon.name for daemon in status.daemons][:4] == [
        "namenode",
        "datanode",
        "resourcemanager",
        "nodemanager-1",
    ]
    assert all(daemon.memory > 50 * 2**20 for daemon in status.daemons)
    assert hadoop.namenode_http == status.web_pages["namenode"]
    assert hadoop.resourcemanager_http == status.web_pages["resourcemanager"]


def test_web_pages_answer(hadoop):
    import requests

    for name, page in hadoop.status().web_pages.items():
        reply = requests.get(page, timeout=30)
        assert reply.status_code == 200 and "<html" in reply.text.lower(), name


def test_daemons_listen_on_loopback_only(hadoop):
    alive = {daemon.pid for daemon in hadoop.status().daemons}
    inodes = {link for pid in alive for link in ports.open_files(processes.PROC / str(pid) / "fd")}
    for table in ("tcp", "tcp6"):
        for row in (processes.PROC / "net" / table).read_text().splitlines()[1:]:
            fields = row.split()
            if f"socket:[{fields[9]}]" in inodes and fields[3] == ports.LISTEN:
                assert fields[1].startswith(("0100007F:", "0000000000000000FFFF00000100007F:")), row


def test_daemons_survive_their_starter_and_see_a_clean_environment(hadoop):
    for name, process in daemons.running(hadoop._home).items():
        assert os.getsid(process.pid) == process.pid, name
        assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
        environment = dict(entry.split("=", 1) for entry in process.environment())
        assert environment["HADOOP_CONF_DIR"] == str(hadoop.conf_dir)
        leaked = {key for key in environment if key.startswith(("SPARK_", "YARN_", "HADOOP_", "PYTEST", "PYTHON"))}
        assert leaked == {"HADOOP_CONF_DIR"}


def test_folders_of_users_are_there(hadoop):
    from hdfs import InsecureClient

    client = InsecureClient(hadoop.namenode_http, user="somebody")
    assert client.status("/tmp")["permission"] == "1777"
    assert client.status(f"/user/{os.environ.get('USER') or 'root'}")["permission"] == "755"
    client.write("/tmp/by-somebody", data=b"x")
    assert client.status("/tmp/by-somebody")["owner"] == "somebody"
    assert client.delete("/tmp/by-somebody")


def test_tools_of_hadoop_run_against_it(hadoop):
    result = hadoop.run("org.apache.hadoop.hdfs.tools.DFSAdmin", "-safemode", "get")
    assert "Safe mode is OFF" in result.stdout, result.stderr
    with pytest.raises(ClusterError, match="DFSAdmin -report did not end within 0 s"):
        hadoop.run("org.apache.hadoop.hdfs.tools.DFSAdmin", "-report", timeout=0.1)


def test_up_again_changes_nothing(hadoop):
    before = pids(hadoop.status())
    begin = time.monotonic()
    assert pids(hadoop.up()) == before
    assert time.monotonic() - begin < 10


def test_command_reports_a_ready_cluster(hadoop, project_root):
    table = run(project_root, "status", "--home", str(hadoop.home), COLUMNS="100")
    assert table.returncode == 0, table.stderr
    assert hadoop.namenode_http in table.stdout and "ready: 1 node" in table.stdout
    report = json.loads(run(project_root, "status", "--json", "--home", str(hadoop.home)).stdout)
    assert report["ready"] and report["daemons"][0]["pid"] == hadoop.status().daemon("namenode").pid
    lines = run(project_root, "logs", "namenode", "--lines", "3", "--home", str(hadoop.home)).stdout
    assert len(lines.splitlines()) == 3


def test_unknown_log_is_refused_with_the_known_names(hadoop):
    with pytest.raises(ClusterError, match="no log of 'namenod'") as raised:
        hadoop.logs("namenod")
    assert "namenode" in raised.value.next_step


# -- a cluster that is stopped and broken ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["namenode", "datanode", "resourcemanager", "nodemanager-1"])
def test_crash_is_seen_and_mended(spare, project_root, name):
    before = pids(spare.status())
    os.kill(before[name], signal.SIGKILL)
    wait_for(lambda: not spare.status().daemon(name).alive)
    status = spare.status()
    assert not status.ready and not status.down
    assert status.daemon(name).condition == f"crashed (was process {before[name]})"
    assert run(project_root, "status", "--home", str(spare.home)).returncode == 3
    mended = spare.up()
    assert mended.ready
    assert {other for other, pid in pids(mended).items() if pid != before[other]} == {name}


def test_second_node_comes_and_goes(spare):
    first = pids(spare.status())
    status = spare.up(nodes=2)
    assert status.ready and status.nodes == 2
    assert {name: pid for name, pid in pids(status).items() if name != "nodemanager-2"} == first
    assert spare.up().nodes == 2  # as many as before
    assert spare.up(nodes=1).ready
    assert pids(spare.status()) == first


def test_down_leaves_no_process_no_port_and_no_container(spare, project_root):
    container = spare._home.local("nodemanager-1") / "usercache" / "me" / "appcache" / "application_1" / "container_1"
    container.mkdir(parents=True)
    left = processes.start(
        ["sleep", "600"], environment={"PATH": os.environ["PATH"], "CONTAINER_ID": "container_1"}, folder=container,
        output=spare.home / "sleep.out",
    )  # fmt: skip
    alive = [Process.of(pid) for pid in pids(spare.status()).values()]
    result = run(project_root, "down", "--home", str(spare.home))
    assert result.returncode == 0, result.stderr
    assert not [process for process in [*alive, left] if process.alive()]
    assert all(ports.is_free(port) for port in numbers(spare).values())
    assert not [process for process in processes.every() if str(spare.home) in " ".join(process.command())]
    assert spare.status().down
    assert run(project_root, "status", "--home", str(spare.home)).returncode == 4
    spare.down()  # again: nothing to do


def test_files_survive_down_and_up(spare):
    spare.run("org.apache.hadoop.fs.FsShell", "-touch", "/tmp/kept")
    before = numbers(spare)
    spare.down()
    assert spare.up().ready
    assert numbers(spare) == before
    assert spare.run("org.apache.hadoop.fs.FsShell", "-test", "-e", "/tmp/kept").returncode == 0


def test_port_taken_while_down_is_named_and_replaced(spare):
    spare.down()
    before = numbers(spare)
    told = []
    wait_for(lambda: ports.is_free(before["namenode.rpc"]))  # connections of the old daemon may linger
    with socket.create_server(("127.0.0.1", before["namenode.rpc"])):
        assert spare.up(progress=told.append).ready
    after = numbers(spare)
    assert {name for name in after if after[name] != before[name]} == {"namenode.rpc"}
    assert f":{after['namenode.rpc']}<" in (spare.conf_dir / "core-site.xml").read_text()
    (line,) = [line for line in told if "is taken" in line]
    assert f"port {before['namenode.rpc']} (namenode rpc) is taken by process {os.getpid()} (" in line


def test_port_taken_while_others_run_is_an_error(spare):
    alive = spare.status().daemon("namenode")
    os.kill(alive.pid, signal.SIGKILL)
    wait_for(lambda: ports.is_free(numbers(spare)["namenode.http"]))
    others = {name: pid for name, pid in pids(spare.status()).items() if pid}
    with (
        socket.create_server(("127.0.0.1", numbers(spare)["namenode.http"])),
        pytest.raises(ClusterError, match=rf"\(namenode http\) is taken by process {os.getpid()} \("),
    ):
        spare.up()
    assert {name: pid for name, pid in pids(spare.status()).items() if pid} == others


def test_failed_start_shows_the_log_and_leaves_nothing(spare):
    spare.down()
    version = spare.home / "namenode" / "current" / "VERSION"
    content = version.read_text()
    version.write_text(content.replace("layoutVersion=", "layoutVersion=x"))
    try:
        with pytest.raises(
            ClusterError, match=r"(?s)namenode ended while the cluster started:.*layoutVersion|NumberFormat"
        ):
            spare.up()
    finally:
        version.write_text(content)
    assert spare.status().down
    assert all(daemon.condition == "stopped" for daemon in spare.status().daemons)


def test_killed_up_is_taken_over_by_the_next(spare, project_root):
    spare.down()
    begun = subprocess.Popen(
        [sys.executable, "-c", "from dkeras_core.cli.app import main; main()", "cluster", "up", "--home", spare.home],
        cwd=project_root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: daemons.running(spare._home))
    begun.kill()
    begun.wait()
    taken_over = daemons.running(spare._home)
    assert taken_over
    status = spare.up()
    assert status.ready
    assert {name: process.pid for name, process in taken_over.items()}.items() <= pids(status).items()


def test_interrupted_up_stops_what_it_started(spare, project_root):
    spare.down()
    begun = subprocess.Popen(
        [sys.executable, "-c", "from dkeras_core.cli.app import main; main()", "cluster", "up", "--home", spare.home],
        cwd=project_root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: len(daemons.running(spare._home)) >= 3)
    begun.send_signal(signal.SIGINT)
    assert begun.wait(60) == 130
    assert spare.status().down


def test_daemons_whose_ports_are_forgotten_are_started_anew(spare):
    before = pids(spare.status())
    (spare.home / "state.json").unlink()
    status = spare.up()
    assert status.ready
    assert not set(pids(status).values()) & set(before.values())
    assert not [pid for pid in before.values() if Process.of(pid)]


def test_concurrent_ups_are_serialised(spare):
    spare.down()
    found, told = [], []
    threads = [
        threading.Thread(target=lambda: found.append(SingleNode(spare.home).up(progress=told.append))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert [status.ready for status in found] == [True, True]
    assert pids(found[0]) == pids(found[1])
    assert told.count("starting namenode") == 1


def test_node_that_is_killed_is_lost_and_the_other_works_on(spare):
    status = spare.up(nodes=2)
    os.kill(status.daemon("nodemanager-2").pid, signal.SIGKILL)
    wait_for(lambda: state_of(spare, "nodemanager-2") == "LOST", seconds=90)
    assert state_of(spare, "nodemanager-1") == "RUNNING"
    assert spare.up().nodes == 2
    spare.up(nodes=1)


def state_of(node, name):
    return health._nodes(numbers(node))[numbers(node)[f"{name}.rpc"]]["state"]


# -- without a cluster ------------------------------------------------------------------------------------------------


def test_missing_java_is_one_clear_line(project_root, tmp_path):
    result = run(project_root, "up", "--home", str(tmp_path / "c"), PATH=str(tmp_path), JAVA_HOME="")
    assert result.returncode == 5
    assert "java is missing: Hadoop needs Java 17" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "c").exists()


def test_cluster_that_was_never_started_is_down(project_root, tmp_path):
    result = run(project_root, "status", "--home", str(tmp_path / "c"))
    assert result.returncode == 4 and "dkeras cluster up" in result.stdout
    assert run(project_root, "down", "--home", str(tmp_path / "c")).returncode == 0
    assert not (tmp_path / "c").exists()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
