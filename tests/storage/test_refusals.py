"""What HDFS refuses, and what the reader is told: real refusals by both ways in."""

import secrets

import pytest

from dkeras_core.errors import AccessDenied, PathExists, PathMissing, StorageError
from dkeras_core.storage.refusals import refusal
from dkeras_core.storage.webhdfs import WebHdfsStorage

WAYS = ["webhdfs", "jvm"]


@pytest.fixture
def base(webhdfs):
    path = f"/tmp/refusals-{secrets.token_hex(4)}"
    webhdfs.mkdirs(path)
    yield path
    webhdfs.delete(path, recursive=True)


def set_quota(webhdfs, path, **quota):
    session = webhdfs._client._session
    answer = session.put(f"{webhdfs.url}/webhdfs/v1{path}", params={"op": "SETQUOTA", **quota}, timeout=30)
    answer.raise_for_status()


@pytest.mark.cluster
@pytest.mark.parametrize("way", WAYS)
def test_name_quota(request, webhdfs, base, way, tmp_path):
    storage = request.getfixturevalue(way)
    set_quota(webhdfs, base, namespacequota=3)
    storage.write_bytes(f"{base}/a", b"1")
    storage.write_bytes(f"{base}/b", b"2")
    (tmp_path / "c").write_bytes(b"3")
    for action in (
        lambda: storage.write_bytes(f"{base}/c", b"3"),
        lambda: storage.mkdirs(f"{base}/c"),
        lambda: storage.upload(tmp_path / "c", f"{base}/c"),
        lambda: storage.write_atomic(f"{base}/a", b"3"),
    ):
        with pytest.raises(StorageError, match=f"{base}.*quota of names") as error:
            action()
        assert "-setQuota" in error.value.next_step
    assert [status.name for status in storage.list(base)] == ["a", "b"] and storage.read_bytes(f"{base}/a") == b"1"


@pytest.mark.cluster
@pytest.mark.parametrize("way", WAYS)
def test_space_quota(request, webhdfs, base, way, tmp_path):
    storage = request.getfixturevalue(way)
    set_quota(webhdfs, base, storagespacequota=1 << 20)  # less than one block
    (tmp_path / "c").write_bytes(b"3" * 1000)
    for action in (
        lambda: storage.write_bytes(f"{base}/c", b"3" * 1000),
        lambda: storage.upload(tmp_path / "c", f"{base}/c"),
    ):
        with pytest.raises(StorageError, match="space quota") as error:
            action()
        assert "-setSpaceQuota" in error.value.next_step
        assert storage.list(base) == []


@pytest.mark.cluster
def test_not_writable_by_webhdfs(hadoop, webhdfs, base):
    webhdfs.write_bytes(f"{base}/a", b"1")
    stranger = WebHdfsStorage(hadoop.namenode_http, user="stranger")
    not_writable(stranger, base)


@pytest.mark.cluster
def test_not_writable_by_the_jvm(jvm, webhdfs, base, monkeypatch):
    webhdfs.write_bytes(f"{base}/a", b"1")
    java = jvm._jvm.java.net.URI.create(jvm.url)
    monkeypatch.setattr(jvm, "_fs", jvm._hadoop.FileSystem.newInstance(java, jvm._conf, "stranger"))
    not_writable(jvm, base, rename=False)


def not_writable(storage, base, rename=True):
    actions = [
        lambda: storage.write_bytes(f"{base}/b", b"2"),
        lambda: storage.write_bytes(f"{base}/a", b"2", overwrite=True),
        lambda: storage.mkdirs(f"{base}/b"),
        lambda: storage.delete(f"{base}/a"),
        lambda: storage.set_mode(f"{base}/a", 0o777),
    ]
    if rename:
        actions += [
            lambda: storage.rename(f"{base}/a", f"{base}/b"),
            lambda: storage.replace(f"{base}/a", f"{base}/b"),
        ]
    for action in actions:
        with pytest.raises(AccessDenied, match=r"permission denied.*stranger") as error:
            action()
        assert "chmod" in error.value.next_step and not isinstance(error.value, PathExists | PathMissing)
    assert storage.read_bytes(f"{base}/a") == b"1"


@pytest.mark.cluster
def test_an_unreadable_path_is_not_a_missing_one(hadoop, webhdfs, base):
    webhdfs.mkdirs(f"{base}/secret", mode=0o700)
    webhdfs.write_bytes(f"{base}/secret/a", b"1")
    stranger = WebHdfsStorage(hadoop.namenode_http, user="stranger")
    for action in (stranger.status, stranger.exists, stranger.read_bytes, stranger.fingerprint):
        with pytest.raises(StorageError, match="permission denied"):
            action(f"{base}/secret/a")


@pytest.mark.cluster
@pytest.mark.parametrize("way", WAYS)
def test_safe_mode(request, jvm, base, way):
    storage = request.getfixturevalue(way)
    action = jvm._hadoop.SafeModeAction
    jvm._fs.setSafeMode(action.ENTER)
    try:
        with pytest.raises(StorageError, match="safe mode") as error:
            storage.mkdirs(f"{base}/a")
        assert "-safemode get" in error.value.next_step
    finally:
        jvm._fs.setSafeMode(action.LEAVE)
    storage.mkdirs(f"{base}/a")


@pytest.mark.cluster
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["a" * 300, "colon:name"])
def test_names_that_hdfs_refuses(request, base, way, name):
    storage = request.getfixturevalue(way)
    with pytest.raises(StorageError, match="HDFS does not allow"):
        storage.mkdirs(f"{base}/{name}")


@pytest.mark.parametrize(
    ("exception", "message", "kind", "said"),
    [
        ("java.io.FileNotFoundException", "File does not exist: /a", PathMissing, "/p: does not exist [nn]"),
        ("org.apache.hadoop.fs.FileAlreadyExistsException", "rename", PathExists, "/p: stands there already [nn]"),
        ("IOException", "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException: x", StorageError, "space quota"),
        ("org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException", "x", StorageError, "long"),
        ("RetriableException", "SafeModeException: Name node is in safe mode.", StorageError, "safe mode"),
        ("RetriableException", "Server too busy", StorageError, "not ready yet"),
        ("StandbyException", "Operation category READ is not supported", StorageError, "no NameNode is active"),
        ("IOException", "Source /a and destination /b must both be directories", PathExists, "stands there"),
        (None, "<html>502 Bad Gateway</html>\nmore", StorageError, "failed [nn]: <html>502 Bad Gateway</html>"),
        ("StrangeException", "", StorageError, "failed [nn]: StrangeException: no message"),
    ],
)
def test_every_refusal_names_path_cause_and_next_step(exception, message, kind, said):
    error = refusal("/p", exception, message, "nn")
    assert type(error) is kind and said in error.what and error.what.startswith("/p: ") and error.next_step
