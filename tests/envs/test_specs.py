import re

import pytest

from dkeras_core.errors import EnvironmentBuildError
from envs.builder import specs
from envs.builder.archive import find_inputs
from envs.builder.specs import ENVS, archive_key, conda_forge_specs, excluded, read_lock


def versions(name):
    return {package.name: package.version for package in read_lock(ENVS / name)}


def test_the_locks_agree_and_the_tests_hold_everything():
    train, tools, test = versions("train.lock"), versions("tools.lock"), versions("test.lock")
    assert (train | tools).items() <= test.items()
    assert "tensorflow-cpu" in train and "pyspark" not in train
    assert not {"tensorflow-cpu", "keras"} & set(tools)


@pytest.mark.parametrize("name", ["train.lock", "tools.lock", "test.lock", "build.lock"])
def test_no_lock_names_a_registry(name):
    assert not re.search(r"https?:|index-url|find-links", (ENVS / name).read_text())


def test_a_line_without_hash_is_refused(tmp_path):
    lock = tmp_path / "a.lock"
    lock.write_text("# made\nnumpy==2.4.6 \\\n    --hash=sha256:" + "0" * 64 + "\nkeras==3.15.1\n")
    with pytest.raises(EnvironmentBuildError, match=r"a\.lock: 'keras==3\.15\.1' is not pinned with hashes"):
        read_lock(lock)


def test_the_key_follows_every_input(monkeypatch):
    inputs = {"lock": ["a==1 --hash=sha256:0"], "python": {"version": "3.11.7"}}
    key = archive_key(inputs)
    assert re.fullmatch(r"[0-9a-f]{16}", key)
    assert archive_key(dict(reversed(inputs.items()))) == key
    others = [
        archive_key(inputs | {"lock": ["a==1 --hash=sha256:1"]}),
        archive_key(inputs | {"python": {"version": "3.11.8"}}),
    ]
    monkeypatch.setattr(specs, "EXCLUDES", ())
    others.append(archive_key(inputs))
    monkeypatch.undo()
    monkeypatch.setattr(specs, "RECIPE", specs.RECIPE + 1)
    others.append(archive_key(inputs))
    assert len({key, *others}) == 5


def test_the_key_of_the_locked_environment_is_stable_and_knows_the_interpreter(monkeypatch, tmp_path):
    monkeypatch.delenv("ENV_CHANNEL", raising=False)
    key = find_inputs(tmp_path).key
    assert find_inputs(tmp_path).key == key
    monkeypatch.setattr("envs.builder.archive.python_identity", lambda: {"version": "another"})
    assert find_inputs(tmp_path).key != key


def test_conda_forge_gets_the_same_specifications_under_its_names():
    found = conda_forge_specs(ENVS / "train.in")
    assert found[0] == "python 3.11.*"
    assert "python-hdfs" in found and "hdfs" not in found
    assert "keras >=3.15,<3.16" in found


def test_excludes():
    base = "lib/python3.11/site-packages"
    assert excluded(f"{base}/tensorflow/include/a/b.h")
    assert excluded(f"{base}/numpy/linalg/tests/test_linalg.py")
    assert excluded("lib/libpython3.11.a")
    assert not excluded(f"{base}/tensorflow/python/include.py")
    assert not excluded(f"{base}/keras/src/testing/x.py")
