import xml.etree.ElementTree as ElementTree

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import daemons
from dkeras_core.singlenode.configuration import NODE_RECOVERY, NodeResources, node_resources, write
from dkeras_core.singlenode.home import Home


def read(file):
    return {entry.findtext("name"): entry.findtext("value") for entry in ElementTree.parse(file).getroot()}


@pytest.fixture
def written(tmp_path):
    """Client's and second node's settings by file name, the home, and the ports."""
    home = Home(tmp_path / "c")
    names = [name for daemon in daemons.cluster(2) for name in daemon.port_names]
    ports = {name: 20000 + i for i, name in enumerate(names)}
    write(home, ports, NodeResources(10240, 4))
    write(home, ports, NodeResources(10240, 4), nodemanager="nodemanager-2")
    client = {file.name: read(file) for file in home.conf.iterdir()}
    node = {file.name: read(file) for file in (home.folder("nodemanager-2") / "conf").iterdir()}
    return client, node, home, ports


def test_client_finds_file_system_and_resource_manager(written):
    client, _, _, ports = written
    assert client["core-site.xml"]["fs.defaultFS"] == f"hdfs://127.0.0.1:{ports['namenode.rpc']}"
    yarn = client["yarn-site.xml"]
    assert yarn["yarn.resourcemanager.address"] == f"127.0.0.1:{ports['resourcemanager.rpc']}"
    assert yarn["yarn.resourcemanager.scheduler.address"] == f"127.0.0.1:{ports['resourcemanager.scheduler']}"
    assert not [name for name in yarn if name.endswith("address") and name.startswith("yarn.nodemanager")]


def test_every_port_is_configured_on_loopback(written):
    client, node, _, ports = written
    values = {value for part in (client, node) for file in part.values() for value in file.values()}
    for name, port in ports.items():
        if not name.startswith("nodemanager-1"):
            assert values & {f"127.0.0.1:{port}", f"hdfs://127.0.0.1:{port}"}, name
    assert not [value for value in values if value.startswith("0.0.0.0")]


def test_every_address_setting_holds_a_port(written):
    client, node, _, _ = written
    for part in (client, node):
        for file in part.values():
            for name, value in file.items():
                if name.endswith("address"):
                    assert value.startswith("127.0.0.1:"), name


def test_node_has_its_own_folder_and_shares_the_logs(written):
    _, node, home, _ = written
    yarn = node["yarn-site.xml"]
    assert yarn["yarn.nodemanager.local-dirs"] == str(home.local("nodemanager-2"))
    assert yarn["yarn.nodemanager.log-dirs"] == str(home.container_logs)
    assert yarn["yarn.nodemanager.resource.memory-mb"] == "10240"
    assert yarn["yarn.scheduler.maximum-allocation-mb"] == "10240"


def test_what_is_remembered_stands_in_the_home(written):
    client, node, home, _ = written
    assert client["yarn-site.xml"]["yarn.resourcemanager.fs.state-store.uri"] == f"file://{home.applications}"
    recovered = node["yarn-site.xml"].get("yarn.nodemanager.recovery.dir")
    assert recovered == (f"{home.folder('nodemanager-2')}/recovery" if NODE_RECOVERY else None)


def test_memory_is_enforced_and_the_environment_is_clean(written):
    yarn = written[1]["yarn-site.xml"]
    assert yarn["yarn.nodemanager.pmem-check-enabled"] == "true"
    assert yarn["yarn.nodemanager.vmem-check-enabled"] == "false"
    whitelist = yarn["yarn.nodemanager.env-whitelist"].split(",")
    assert {"JAVA_HOME", "HADOOP_CONF_DIR"} <= set(whitelist)
    assert not [name for name in whitelist if name.startswith(("SPARK", "HADOOP_HOME", "CLASSPATH"))]


@pytest.mark.parametrize(
    ("host_mb", "expected_mb"), [(1024, 1024), (8 * 1024, 4864), (16 * 1024, 9728), (24 * 1024, 11008)]
)
def test_node_memory_leaves_room_for_the_host(host_mb, expected_mb):
    assert node_resources(host_mb, 4) == NodeResources(expected_mb, 4)


@pytest.mark.parametrize("name", ["a b", "a,b", "a%b", "ä"])
def test_path_that_hadoop_cannot_use_is_refused(tmp_path, name):
    with pytest.raises(ClusterError, match="cannot keep its data"):
        Home(tmp_path / name)
