import os
from pathlib import Path

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.java import clean_environment, find_java, find_maven


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A search path of one empty folder, and no JAVA_HOME."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path


def script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def settings(home: str, version: str) -> str:
    return f"echo 'Property settings:\n    java.home = {home}\n    java.specification.version = {version}' >&2"


def test_real_java_is_found():
    java = find_java()
    assert java.version >= 17
    assert os.access(java.binary, os.X_OK)


def test_missing_java_is_one_clear_line(path):
    with pytest.raises(ClusterError) as raised:
        find_java()
    assert raised.value.what == "java is missing: Hadoop needs Java 17 or newer"
    assert "JAVA_HOME" in raised.value.next_step


@pytest.mark.parametrize(("version", "number"), [("1.8", 8), ("11", 11)])
def test_old_java_is_named_with_its_version(path, version, number):
    binary = script(path / "java", settings("/opt/java", version))
    with pytest.raises(ClusterError, match=f"{binary} is Java {number}, but Hadoop needs Java 17"):
        find_java()


def test_java_is_asked_where_it_lives(path):
    script(path / "java", settings("/opt/wrapped", "21"))
    assert (find_java().home, find_java().version) == (Path("/opt/wrapped"), 21)


def test_java_that_does_not_run(path):
    script(path / "java", "echo cannot run >&2; exit 1")
    with pytest.raises(ClusterError, match="does not run as a Java runtime"):
        find_java()


def test_java_home_comes_before_the_search_path(path, monkeypatch, tmp_path):
    script(path / "java", settings("/opt/other", "21"))
    script(tmp_path / "jdk" / "bin" / "java", settings(str(tmp_path / "jdk"), "17"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java().home == tmp_path / "jdk"


def test_java_home_without_java_is_named(path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(ClusterError, match="JAVA_HOME is /nowhere"):
        find_java()


def test_missing_maven_is_one_clear_line(path):
    with pytest.raises(ClusterError, match="mvn is missing") as raised:
        find_maven()
    assert "apt-get install maven" in raised.value.next_step


def test_environment_of_the_user_does_not_leak(monkeypatch):
    for name in ("HADOOP_OPTS", "SPARK_HOME", "YARN_CONF_DIR", "JAVA_TOOL_OPTIONS", "CLASSPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "x")
    environment = clean_environment(JAVA_HOME="/opt/java")
    assert environment["JAVA_HOME"] == "/opt/java"
    assert environment["PATH"] == os.environ["PATH"]
    assert "x" not in environment.values()
