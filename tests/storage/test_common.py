"""One suite for every file system: local folders, HDFS by WebHDFS, HDFS through Spark's JVM."""

import os
import secrets
import threading
import time

import pytest

from dkeras_core.errors import PathExists, PathMissing, StorageError
from dkeras_core.storage import FileStatus, open_storage
from dkeras_core.storage.access import group_may, writers


@pytest.fixture(
    params=["local", pytest.param("webhdfs", marks=pytest.mark.cluster), pytest.param("jvm", marks=pytest.mark.cluster)]
)
def place(request, tmp_path):
    """(storage, an empty folder in it) for each implementation."""
    if request.param == "local":
        storage, base = open_storage(str(tmp_path)), str(tmp_path / "base")
    elif request.param == "webhdfs":
        storage, base = request.getfixturevalue("webhdfs"), f"/tmp/storage-{secrets.token_hex(4)}"
    else:
        storage, base = request.getfixturevalue("jvm"), f"/tmp/storage-{secrets.token_hex(4)}"
    storage.mkdirs(base)
    yield storage, base
    storage.delete(base, recursive=True)


def test_a_written_file_is_listed_and_read(place):
    storage, base = place
    before = time.time()
    storage.write_bytes(f"{base}/deep/er/a.txt", b"hello", mode=0o640)
    status = storage.status(f"{base}/deep/er/a.txt")
    assert status == FileStatus(f"{base}/deep/er/a.txt", False, 5, status.modified, status.owner, 0o640, status.group)
    assert before - 5 <= status.modified <= time.time() + 5 and status.owner and status.name == "a.txt"
    assert status.group == storage.status(f"{base}/deep").group != ""
    assert storage.read_bytes(f"{base}/deep/er/a.txt") == b"hello"
    assert storage.status(f"{base}/deep").is_dir and storage.status(f"{base}/none") is None
    assert storage.exists(f"{base}/deep") and not storage.exists(f"{base}/deep/none")


def test_listing_is_sorted_and_whole(place):
    storage, base = place
    for name in ("b", "a", "10", "9", "c d+%#é?"):
        storage.write_bytes(f"{base}/{name}", name.encode())
    storage.mkdirs(f"{base}/z")
    assert [s.name for s in storage.list(base)] == sorted(["b", "a", "10", "9", "c d+%#é?", "z"])
    assert [s.path for s in storage.list(base) if s.is_dir] == [f"{base}/z"]
    assert storage.read_bytes(f"{base}/c d+%#é?") == "c d+%#é?".encode()
    assert storage.list(f"{base}/z") == []
    with pytest.raises(PathMissing, match="none"):
        storage.list(f"{base}/none")
    with pytest.raises(StorageError, match="/a"):
        storage.list(f"{base}/a")


def test_walk_yields_every_file(place):
    storage, base = place
    for name in ("x/1", "x/y/2", "3"):
        storage.write_bytes(f"{base}/{name}", b"-")
    assert [s.path for s in storage.walk(base)] == [f"{base}/3", f"{base}/x/1", f"{base}/x/y/2"]
    assert [s.path for s in storage.walk(f"{base}/3")] == [f"{base}/3"]
    with pytest.raises(PathMissing):
        list(storage.walk(f"{base}/none"))


def test_a_file_is_created_once(place):
    storage, base = place
    storage.write_bytes(f"{base}/a", b"first")
    with pytest.raises(PathExists, match="/a"):
        storage.write_bytes(f"{base}/a", b"second")
    assert storage.read_bytes(f"{base}/a") == b"first"
    storage.write_bytes(f"{base}/a", b"third", overwrite=True)
    assert storage.read_bytes(f"{base}/a") == b"third"
    storage.mkdirs(f"{base}/d")
    with pytest.raises(StorageError):
        storage.write_bytes(f"{base}/d", b"over a folder", overwrite=True)
    assert storage.list(f"{base}/d") == []


def test_of_many_creators_one_succeeds(place):
    storage, base = place
    outcomes = in_threads(8, lambda i: storage.write_bytes(f"{base}/lease", f"{i}".encode()))
    winners = [i for i, error in enumerate(outcomes) if error is None]
    assert len(winners) == 1 and storage.read_bytes(f"{base}/lease") == f"{winners[0]}".encode()
    assert all(error is None or isinstance(error, PathExists) for error in outcomes), outcomes


def test_rename_never_overwrites_and_never_nests(place):
    storage, base = place
    storage.write_bytes(f"{base}/file", b"kept")
    storage.write_bytes(f"{base}/folder/inside", b"kept")
    storage.write_bytes(f"{base}/src_file", b"src")
    storage.write_bytes(f"{base}/src_folder/a", b"src")
    storage.mkdirs(f"{base}/empty")
    for src in ("src_file", "src_folder"):
        for dst in ("file", "folder", "empty"):
            with pytest.raises(PathExists, match=dst):
                storage.rename(f"{base}/{src}", f"{base}/{dst}")
    kept = ["file", "folder/inside", "src_file", "src_folder/a"]
    assert [s.path for s in storage.walk(base)] == [f"{base}/{name}" for name in kept]
    assert storage.list(f"{base}/empty") == [] and storage.read_bytes(f"{base}/file") == b"kept"
    storage.rename(f"{base}/src_folder", f"{base}/7")
    assert storage.read_bytes(f"{base}/7/a") == b"src" and not storage.exists(f"{base}/src_folder")
    storage.rename(f"{base}/src_file", f"{base}/8")
    assert storage.read_bytes(f"{base}/8") == b"src"


def test_rename_names_what_is_missing(place):
    storage, base = place
    with pytest.raises(PathMissing, match="/nothing"):
        storage.rename(f"{base}/nothing", f"{base}/dst")
    storage.write_bytes(f"{base}/src", b"-")
    with pytest.raises(PathMissing, match="/no/folder"):
        storage.rename(f"{base}/src", f"{base}/no/folder/dst")
    storage.mkdirs(f"{base}/d")
    with pytest.raises(StorageError):
        storage.rename(f"{base}/d", f"{base}/d/within")
    assert storage.exists(f"{base}/src") and storage.exists(f"{base}/d")


def test_of_many_renames_to_one_name_one_succeeds(place):
    storage, base = place
    for i in range(8):
        storage.write_bytes(f"{base}/src{i}/content", f"{i}".encode())
    outcomes = in_threads(8, lambda i: storage.rename(f"{base}/src{i}", f"{base}/1"))
    winners = [i for i, error in enumerate(outcomes) if error is None]
    assert len(winners) == 1 and all(e is None or isinstance(e, PathExists) for e in outcomes), outcomes
    assert [s.name for s in storage.list(f"{base}/1")] == ["content"]
    assert storage.read_bytes(f"{base}/1/content") == f"{winners[0]}".encode()


def test_replace_swaps_a_file(place):
    storage, base = place
    storage.write_bytes(f"{base}/alias", b"1")
    storage.write_bytes(f"{base}/new", b"2")
    storage.replace(f"{base}/new", f"{base}/alias")
    assert storage.read_bytes(f"{base}/alias") == b"2" and not storage.exists(f"{base}/new")
    storage.write_bytes(f"{base}/new", b"3")
    storage.replace(f"{base}/new", f"{base}/first")  # nothing there yet
    assert storage.read_bytes(f"{base}/first") == b"3"
    with pytest.raises(PathMissing):
        storage.replace(f"{base}/new", f"{base}/alias")
    storage.mkdirs(f"{base}/d")
    with pytest.raises(StorageError, match="only a file"):
        storage.replace(f"{base}/d", f"{base}/alias")
    with pytest.raises(StorageError):
        storage.replace(f"{base}/alias", f"{base}/d")
    assert storage.read_bytes(f"{base}/alias") == b"2" and storage.list(f"{base}/d") == []


def test_readers_see_the_old_or_the_new_alias(place):
    storage, base = place
    storage.write_atomic(f"{base}/alias", b"0" * 100)
    seen, stop = [], threading.Event()

    def poll():
        while not stop.is_set():
            seen.append(storage.read_bytes(f"{base}/alias"))

    reader = threading.Thread(target=poll)
    reader.start()
    for i in range(1, 20):
        storage.write_atomic(f"{base}/alias", str(i % 10).encode() * 100)
    stop.set()
    reader.join(30)
    assert seen and all(len(content) == 100 and len(set(content)) == 1 for content in seen)
    assert [s.name for s in storage.list(base)] == ["alias"]


def test_a_failed_atomic_write_leaves_nothing(place):
    storage, base = place
    storage.mkdirs(f"{base}/target/child")
    with pytest.raises(StorageError):
        storage.write_atomic(f"{base}/target", b"a file cannot replace a folder")
    assert [s.name for s in storage.list(base)] == ["target"]


def test_delete(place):
    storage, base = place
    storage.write_bytes(f"{base}/d/a", b"-")
    assert storage.delete(f"{base}/none") is False
    with pytest.raises(StorageError, match="empty"):
        storage.delete(f"{base}/d")
    assert storage.delete(f"{base}/d", recursive=True) is True and storage.delete(f"{base}/d") is False
    storage.write_bytes(f"{base}/a", b"-")
    assert storage.delete(f"{base}/a") is True and storage.list(base) == []


def test_folders_and_modes(place):
    storage, base = place
    storage.mkdirs(f"{base}/a/b", mode=0o750)
    assert storage.status(f"{base}/a/b").mode == 0o750
    storage.mkdirs(f"{base}/a/b", mode=0o700)  # stands there: left as it is
    assert storage.status(f"{base}/a/b").mode == 0o750
    storage.set_mode(f"{base}/a/b", 0o755)
    assert storage.status(f"{base}/a/b").mode == 0o755
    storage.write_bytes(f"{base}/file", b"-")
    with pytest.raises(StorageError):
        storage.mkdirs(f"{base}/file/below")
    with pytest.raises(PathMissing):
        storage.set_mode(f"{base}/none", 0o755)


def test_owner_group_and_rights(place):
    storage, base = place
    storage.write_bytes(f"{base}/file", b"-", mode=0o640)
    before = storage.status(f"{base}/file")
    storage.set_owner(f"{base}/file", owner=before.owner, group=before.group)  # what anybody may do
    assert storage.status(f"{base}/file") == before
    assert storage.allows(f"{base}/file", "rw") and storage.allows(base, "rwx")
    missing = f"{base}/none"
    for call in (
        lambda: storage.acl(missing),
        lambda: storage.allows(missing, "r"),
        lambda: storage.set_owner(missing, group=before.group),
    ):
        with pytest.raises(PathMissing, match="none"):
            call()


def test_a_list_of_rights_is_added_to(place):
    storage, base = place
    storage.mkdirs(f"{base}/shared", mode=0o755)
    if storage.acl(f"{base}/shared") is None:
        with pytest.raises(StorageError, match="access control lists"):
            storage.add_acl(f"{base}/shared", ["group:ops:rwx"])
        return
    assert storage.acl(f"{base}/shared") == []
    storage.add_acl(f"{base}/shared", ["group::r-x", "group:ops:rwx", "user:ann:r-x"])
    storage.add_acl(f"{base}/shared", ["user:ann:---"])
    assert sorted(storage.acl(f"{base}/shared")) == ["group::r-x", "group:ops:rwx", "user:ann:---"]
    status, acl = storage.status(f"{base}/shared"), storage.acl(f"{base}/shared")
    assert status.mode == 0o775  # the mask
    assert group_may(status, acl, "ops", "rwx") and not group_may(status, acl, status.group, "w")
    assert writers(status, acl) == {"group:ops"}


def test_a_tree_goes_up_and_comes_down(place, tmp_path):
    storage, base = place
    tree = tmp_path / "tree"
    (tree / "sub/empty").mkdir(parents=True)
    big = os.urandom(3_000_001)
    (tree / "big").write_bytes(big)
    (tree / "sub/zero").write_bytes(b"")
    (tree / "sub/small é").write_bytes(b"s")
    sent = []
    storage.upload(tree, f"{base}/up", progress=sent.append, mode=0o644)
    assert sum(sent) == len(big) + 1
    assert storage.status(f"{base}/up/big").mode == 0o644 and storage.status(f"{base}/up/sub/empty").is_dir
    storage.download(f"{base}/up", tmp_path / "down")
    assert sorted(p.relative_to(tmp_path / "down").as_posix() for p in (tmp_path / "down").rglob("*")) == [
        "big", "sub", "sub/empty", "sub/small é", "sub/zero",
    ]  # fmt: skip
    assert (tmp_path / "down/big").read_bytes() == big and (tmp_path / "down/sub/small é").read_bytes() == b"s"
    with storage.open(f"{base}/up/big") as stream:
        assert stream.read(10) == big[:10] and stream.read() == big[10:] and stream.read(1) == b""
    with pytest.raises(PathExists):
        storage.upload(tree, f"{base}/up")
    with pytest.raises(PathExists):
        storage.upload(tree / "big", f"{base}/up/big")
    with pytest.raises(PathExists):
        storage.upload(tree / "big", f"{base}/up")
    (tree / "big").write_bytes(b"changed")
    storage.upload(tree, f"{base}/up", overwrite=True)
    assert storage.read_bytes(f"{base}/up/big") == b"changed"
    assert not storage.exists(f"{base}/up/tree") and not storage.exists(f"{base}/up/big/big")


def test_missing_sources_are_named(place, tmp_path):
    storage, base = place
    with pytest.raises(PathMissing, match="nothing"):
        storage.upload(tmp_path / "nothing", f"{base}/x")
    with pytest.raises(PathMissing, match="/none"):
        storage.download(f"{base}/none", tmp_path / "x")
    with pytest.raises(PathMissing, match="/none"):
        storage.read_bytes(f"{base}/none")
    with pytest.raises(PathMissing, match="/none"):
        storage.fingerprint(f"{base}/none")
    assert not (tmp_path / "x").exists()


def test_fingerprint_is_of_names_and_bytes_alone(place):
    storage, base = place
    for copy in ("one", "two"):
        storage.write_bytes(f"{base}/{copy}/a", b"same")
        storage.write_bytes(f"{base}/{copy}/sub/zero", b"")
    first = storage.fingerprint(f"{base}/one")
    assert first == storage.fingerprint(f"{base}/two") and len(first) == 64
    storage.write_bytes(f"{base}/two/a", b"sAme", overwrite=True)
    assert storage.fingerprint(f"{base}/two") != first
    storage.rename(f"{base}/one/a", f"{base}/one/b")
    assert storage.fingerprint(f"{base}/one") != first
    assert storage.fingerprint(f"{base}/one/b") != storage.fingerprint(f"{base}/two/a")


@pytest.mark.parametrize("path", ["relative/path", "/a/../b", "s3://bucket/a", "/nul\0"])
def test_paths_that_are_none(place, path):
    storage, _ = place
    with pytest.raises(StorageError):
        storage.status(path)


def in_threads(n, action):
    """Run ``action(i)`` in n threads let go together; return what each raised, None when it did not."""
    outcomes, start = [None] * n, threading.Barrier(n)

    def run(i):
        start.wait(10)
        try:
            action(i)
        except Exception as error:
            outcomes[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes
