"""HadoopConfig reads what real client configurations hold: high availability, https, variables, wildcards."""

import pytest

from dkeras_core.errors import ConfigError
from dkeras_core.yarn.hadoop_config import HadoopConfig


def write(folder, core=(), hdfs=(), yarn=()):
    for name, pairs in (("core-site.xml", core), ("hdfs-site.xml", hdfs), ("yarn-site.xml", yarn)):
        body = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in dict(pairs).items())
        (folder / name).write_text(f'<?xml version="1.0"?>\n<configuration>{body}</configuration>')
    return HadoopConfig.load(folder)


def test_one_node_with_ports_and_defaults(tmp_path):
    config = write(
        tmp_path,
        core={"fs.defaultFS": "hdfs://nn.example:8020/"},
        yarn={"yarn.resourcemanager.hostname": "rm.example"},
    )
    assert config.default_fs == "hdfs://nn.example:8020"
    assert config.namenode_urls == ("http://nn.example:9870",)
    assert config.resourcemanager_urls == ("http://rm.example:8088",)
    assert config.secured is False


def test_high_availability_lists_every_address_and_variables_are_substituted(tmp_path):
    config = write(
        tmp_path,
        core={"fs.defaultFS": "hdfs://prod", "hadoop.security.authentication": "kerberos"},
        hdfs={
            "dfs.nameservices": "prod,other",
            "dfs.ha.namenodes.prod": "nn1, nn2",
            "dfs.namenode.rpc-address.prod.nn1": "a.example:8020",
            "dfs.namenode.http-address.prod.nn1": "0.0.0.0:9999",
            "dfs.namenode.rpc-address.prod.nn2": "b.example:8020",
            "dfs.ha.namenodes.other": "nn9",
        },
        yarn={
            "yarn.resourcemanager.ha.enabled": "true",
            "yarn.resourcemanager.ha.rm-ids": "rm1,rm2",
            "yarn.resourcemanager.hostname.rm1": "r1.example",
            "yarn.resourcemanager.webapp.address.rm1": "${yarn.resourcemanager.hostname.rm1}:18088",
            "yarn.resourcemanager.hostname.rm2": "r2.example",
        },
    )
    assert config.namenode_urls == ("http://a.example:9999", "http://b.example:9870")
    assert config.resourcemanager_urls == ("http://r1.example:18088", "http://r2.example:8088")
    assert config.secured is True


def test_https_only_uses_the_https_addresses_and_ports(tmp_path):
    config = write(
        tmp_path,
        core={"fs.defaultFS": "hdfs://nn.example:8020"},
        hdfs={"dfs.http.policy": "HTTPS_ONLY", "dfs.namenode.http-address": "nn.example:1"},
        yarn={"yarn.http.policy": "HTTPS_ONLY", "yarn.resourcemanager.hostname": "rm.example"},
    )
    assert config.namenode_urls == ("https://nn.example:9871",)
    assert config.resourcemanager_urls == ("https://rm.example:8090",)


def test_environment_and_circular_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("RM_HOST", "from-environment")
    config = write(
        tmp_path,
        core={"fs.defaultFS": "hdfs://n:1", "a": "${b}", "b": "${a}", "c": "${nowhere}/x"},
        yarn={"yarn.resourcemanager.hostname": "${env.RM_HOST}", "d": "${env.NOT_SET_HERE:-fallback}"},
    )
    assert config.resourcemanager_urls == ("http://from-environment:8088",)
    assert config.get("d") == "fallback"
    assert config.get("a") in ("${a}", "${b}")
    assert config.get("c") == "${nowhere}/x"


def test_a_final_property_is_not_overridden(tmp_path):
    config = write(tmp_path, core={"fs.defaultFS": "hdfs://n:1"}, yarn={"x": "later"})
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>x</name><value>first</value><final>true</final></property></configuration>"
    )
    config = HadoopConfig.load(tmp_path)
    assert config.get("x") == "first"


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write(tmp_path, core={"fs.defaultFS": "hdfs://n:1"})
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.setenv("YARN_CONF_DIR", str(tmp_path))
    assert HadoopConfig.load().default_fs == "hdfs://n:1"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "yarn-site.xml").unlink(), "yarn-site.xml does not exist"),
        (lambda folder: (folder / "core-site.xml").write_text("<configuration>"), "core-site.xml cannot be read"),
        (lambda folder: (folder / "core-site.xml").write_text("<configuration/>"), "does not set fs.defaultFS"),
    ],
)
def test_errors_name_the_file(tmp_path, damage, named):
    write(tmp_path, core={"fs.defaultFS": "hdfs://n:1"})
    damage(tmp_path)
    with pytest.raises(ConfigError, match=named) as caught:
        _ = HadoopConfig.load(tmp_path).default_fs
    assert caught.value.next_step


def test_no_folder_at_all(monkeypatch, tmp_path):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    with pytest.raises(ConfigError, match="neither HADOOP_CONF_DIR nor YARN_CONF_DIR"):
        HadoopConfig.load()
    with pytest.raises(ConfigError, match="does not exist"):
        HadoopConfig.load(tmp_path / "nowhere")


def test_a_local_file_system_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not an HDFS"):
        _ = write(tmp_path, core={"fs.defaultFS": "file:///"}).default_fs


def test_a_resource_manager_without_address(tmp_path):
    config = write(tmp_path, core={"fs.defaultFS": "hdfs://n:1"})
    with pytest.raises(ConfigError, match="where the ResourceManager is"):
        _ = config.resourcemanager_urls
