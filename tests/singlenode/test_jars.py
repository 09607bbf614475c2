"""The download, with a script in the place of Maven; the fixture ``hadoop`` uses the real one."""

import shutil
import threading
import zipfile
from pathlib import Path

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.jars import ensure_jars

MAVEN = """#!/bin/sh
echo called >> {calls}
for argument in "$@"; do case "$argument" in -DoutputDirectory=*) target="${{argument#*=}}" ;; esac; done
{body}
"""
GOOD = """
mkdir -p "$target"
echo "Downloaded from central: https://user:secret@mirror.example/a/b/hadoop-common-3.5.0.jar (4.5 MB at 9 MB/s)"
sleep 0.3
cp {jars}/* "$target"
"""


@pytest.fixture
def maven(tmp_path, monkeypatch):
    """``maven(body)`` puts a script called mvn on the search path; ``maven.calls()`` counts its runs."""
    jars = tmp_path / "repository"
    jars.mkdir()
    with zipfile.ZipFile(jars / "hadoop-hdfs-3.5.0-tests.jar", "w") as jar:
        jar.writestr("webapps/hdfs/index.html", "page")
        jar.writestr("org/apache/hadoop/Test.class", "class")
    with zipfile.ZipFile(jars / "hadoop-common-3.5.0.jar", "w") as jar:
        jar.writestr("core-default.xml", "<configuration/>")
    calls = tmp_path / "calls"
    calls.touch()

    def put(body=GOOD):
        file = tmp_path / "bin" / "mvn"
        file.parent.mkdir(exist_ok=True)
        file.write_text(MAVEN.format(calls=calls, body=body.format(jars=jars)))
        file.chmod(0o755)
        java = shutil.which("java")
        monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin:{java.rpartition('/')[0]}")

    put.calls = lambda: len(calls.read_text().splitlines())
    put.repository = jars
    return put


def test_jars_and_web_pages_are_put_in_place_once(maven, tmp_path):
    maven()
    told = []
    jars = ensure_jars(told.append, shared=tmp_path / "shared")
    assert [file.name for file in (jars.folder / "jars").iterdir()] == ["hadoop-common-3.5.0.jar"]
    assert (jars.folder / "webapps" / "hdfs" / "index.html").read_text() == "page"
    assert not (jars.folder / "org").exists()
    assert jars.classpath == f"{jars.folder}:{jars.folder}/jars/*"
    assert "downloaded 1 jars: hadoop-common-3.5.0.jar (4.5 MB)" in told
    assert not [line for line in told if "mirror.example" in line]
    assert ensure_jars(told.append, shared=tmp_path / "shared") == jars
    assert maven.calls() == 1


def test_partial_download_is_never_taken_for_complete(maven, tmp_path):
    maven('mkdir -p "$target"; cp {jars}/hadoop-common* "$target"; kill -9 $$')
    shared = tmp_path / "shared"
    with pytest.raises(ClusterError, match="could not download"):
        ensure_jars(shared=shared)
    (shared / "partial-1" / "jars").mkdir(parents=True)  # what a killed process leaves
    maven()
    ensure_jars(shared=shared)
    assert maven.calls() == 2
    assert not list(shared.glob("partial-*"))


def test_damaged_jar_is_named(maven, tmp_path):
    (maven.repository / "guava-33.jar").write_bytes(b"PK\x03\x04 half a fi")
    maven()
    with pytest.raises(ClusterError, match=r"guava-33\.jar is damaged"):
        ensure_jars(shared=tmp_path / "shared")
    assert [file.name for file in (tmp_path / "shared").iterdir()] == ["lock"]


def test_failure_shows_the_cause_without_addresses(maven, tmp_path):
    maven(
        'echo "[INFO] Scanning"; '
        'echo "[ERROR] no route to (https://user:secret@mirror.example/maven2): '
        'Connect to mirror.example:443 [mirror.example/192.0.2.1] failed: refused -> [Help 1]"; '
        'echo "[ERROR] "; echo "[ERROR] Re-run Maven using the -X switch"; exit 1'
    )
    with pytest.raises(ClusterError) as raised:
        ensure_jars(shared=tmp_path / "shared")
    assert raised.value.what.splitlines()[1:] == [
        "  no route to (<repository>): Connect to <repository> failed: refused"
    ]


def test_relative_folder_is_that_of_the_caller(maven, tmp_path, monkeypatch):
    maven()
    monkeypatch.chdir(tmp_path)
    assert ensure_jars(shared=Path("shared")).folder.parent == tmp_path / "shared"


def test_two_at_once_download_once(maven, tmp_path):
    maven()
    found = []
    threads = [threading.Thread(target=lambda: found.append(ensure_jars(shared=tmp_path / "shared"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2 and found[0] == found[1]
    assert maven.calls() == 1
