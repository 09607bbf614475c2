"""What only local folders have: the way without renameat2, and which paths open_storage takes for local."""

import os
import threading

import pytest

from dkeras_core.errors import AccessDenied, PathExists, StorageError
from dkeras_core.storage import local, open_storage
from dkeras_core.storage.local import LocalStorage, claim_and_rename, rename_without_overwrite
from dkeras_core.storage.webhdfs import WebHdfsStorage

RENAMES = [rename_without_overwrite, claim_and_rename]


@pytest.mark.parametrize("rename", RENAMES)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_neither_way_of_renaming_overwrites(tmp_path, rename, kind):
    def make(name):
        path = tmp_path / name
        if kind == "file":
            path.write_text(name)
        else:
            path.mkdir()
            (path / "inside").write_text(name)
        return path

    def read(path):
        return (path if kind == "file" else path / "inside").read_text()

    source = make("source")
    for taken in (make("taken"), make("other")):
        with pytest.raises(FileExistsError):
            rename(str(source), str(taken))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError):
        rename(str(source), str(tmp_path / "empty"))
    assert read(source) == "source" and read(tmp_path / "taken") == "taken" and not any((tmp_path / "empty").iterdir())
    rename(str(source), str(tmp_path / "free"))
    assert read(tmp_path / "free") == "source" and not source.exists()


@pytest.mark.parametrize("rename", RENAMES)
def test_one_of_many_wins(tmp_path, rename):
    for i in range(16):
        (tmp_path / f"s{i}").mkdir()
        (tmp_path / f"s{i}/content").write_text(str(i))
    lost, start = [], threading.Barrier(16)

    def race(i):
        start.wait(10)
        try:
            rename(str(tmp_path / f"s{i}"), str(tmp_path / "one"))
        except FileExistsError:
            lost.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(lost) == 15 and int((tmp_path / "one/content").read_text()) not in lost


def test_a_failed_claim_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()

    def refuse(src, dst):
        raise PermissionError(13, "Permission denied", src)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        claim_and_rename(str(tmp_path / "source"), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_on_linux_a_rename_is_one_system_call(tmp_path, monkeypatch):
    if local._renameat2() is None:
        pytest.skip("no renameat2 here")
    monkeypatch.setattr(local, "claim_and_rename", None)
    (tmp_path / "source").mkdir()
    rename_without_overwrite(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").is_dir()


def test_without_renameat2(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_renameat2", lambda: None)
    storage = LocalStorage()
    storage.write_bytes(f"{tmp_path}/a/b", b"1")
    storage.rename(f"{tmp_path}/a", f"{tmp_path}/c")
    storage.write_bytes(f"{tmp_path}/d", b"2")
    with pytest.raises(PathExists):
        storage.rename(f"{tmp_path}/d", f"{tmp_path}/c/b")
    assert storage.read_bytes(f"{tmp_path}/c/b") == b"1"


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    with pytest.raises(StorageError, match="No space left") as error:
        LocalStorage()._get_file(str(tmp_path / "source"), "/dev/full")
    assert "Free space" in error.value.next_step


def test_a_broken_download_keeps_the_old_file(tmp_path, monkeypatch):
    storage = LocalStorage()
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")

    def broken(path, target):
        target.write_bytes(b"ne")
        raise StorageError("the answer broke off")

    monkeypatch.setattr(storage, "_get_file", broken)
    with pytest.raises(StorageError, match="broke off"):
        storage.download(str(tmp_path / "source"), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_refusal_is_told_from_a_failure(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(AccessDenied, match="not permitted") as error:
        LocalStorage().set_mode(str(tmp_path), 0o700)
    assert "owner" in error.value.next_step and error.value.exit_code == 4
    with pytest.raises(StorageError, match="no-such-group") as error:
        LocalStorage().set_owner(str(tmp_path), group="no-such-group")
    assert not isinstance(error.value, AccessDenied)


def test_new_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        LocalStorage().write_bytes(f"{tmp_path}/a", b"")
    finally:
        os.umask(before)
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o640


class Cluster:
    """What open_storage asks of a HadoopConfig."""

    namenode_urls = ("http://nn1:9870", "http://nn2:9870")
    default_fs, secured = "hdfs://site", False


def test_open_storage_picks_by_path_and_surroundings(tmp_path):
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    assert isinstance(open_storage(f"file://{tmp_path}", hadoop=Cluster()), LocalStorage)
    storage = open_storage("/dkeras", hadoop=Cluster())
    assert isinstance(storage, WebHdfsStorage) and storage.url == "http://nn1:9870;http://nn2:9870"
    assert storage.clean("hdfs://site/dkeras//models/") == "/dkeras/models"
    with pytest.raises(StorageError, match="names the file system other"):
        storage.status("hdfs://other/dkeras")
    with pytest.raises(StorageError, match="HADOOP_CONF_DIR") as error:
        open_storage("hdfs://site/dkeras")
    assert error.value.exit_code == 4
    with pytest.raises(StorageError, match="s3"):
        open_storage("s3://bucket/dkeras")
    assert LocalStorage().clean("file:///a%20b/c") == "/a b/c" and LocalStorage().clean("file:/a/b") == "/a/b"
