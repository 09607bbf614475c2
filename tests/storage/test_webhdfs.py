"""WebHDFS when the network or the NameNode misbehaves: a proxy before the real one that loses answers, and standbys."""

import json
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from dkeras_core.errors import PathExists, PathMissing, StorageError
from dkeras_core.storage.webhdfs import WebHdfsStorage


class Proxy(ThreadingHTTPServer):
    """Hands requests on to ``target``, or to nobody; ``fault(operation)`` says what goes wrong with an answer."""

    daemon_threads = True

    def __init__(self, target, fault):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.fault, self.seen = target, fault, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def handle_one(self):
        operation = parse_qs(urlsplit(self.path).query)["op"][0]
        self.server.seen.append(operation)
        fault = self.server.fault(operation)
        if fault == "lost request":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(fault, tuple):
            status, exception, message = fault
            body = json.dumps({"RemoteException": {"exception": exception, "message": message}}).encode()
            headers = {"Content-Type": "application/json"}
        else:
            url = self.server.target + self.path
            answer = requests.request(self.command, url, allow_redirects=operation == "OPEN", timeout=30)
            status, body = answer.status_code, answer.content
            headers = {name: answer.headers[name] for name in ("Content-Type", "Location") if name in answer.headers}
        if fault == "lost answer":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "half an answer" else body)
        if fault == "half an answer":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_DELETE = do_POST = handle_one

    def log_message(self, *_):
        pass


@pytest.fixture
def base(webhdfs):
    path = f"/tmp/webhdfs-{secrets.token_hex(4)}"
    webhdfs.mkdirs(path)
    yield path
    webhdfs.delete(path, recursive=True)


def once(operation, fault):
    """Return a fault that strikes the first time an operation is seen."""
    struck = []

    def strike(found):
        if found == operation and not struck:
            struck.append(found)
            return fault
        return None

    return strike


STANDBY = (403, "StandbyException", "Operation category READ is not supported in state standby")


@pytest.mark.cluster
@pytest.mark.parametrize("method", ["rename", "replace"])
def test_a_rename_whose_answer_is_lost_has_happened(webhdfs, base, method):
    webhdfs.write_bytes(f"{base}/src", b"1")
    if method == "replace":
        webhdfs.write_bytes(f"{base}/dst", b"0")
    with Proxy(webhdfs.url, once("RENAME", "lost answer")) as proxy:
        getattr(WebHdfsStorage(proxy.url), method)(f"{base}/src", f"{base}/dst")
        assert proxy.seen.count("RENAME") == 1
    assert webhdfs.read_bytes(f"{base}/dst") == b"1" and not webhdfs.exists(f"{base}/src")


@pytest.mark.cluster
def test_a_rename_asked_again_of_the_other_namenode_is_recognised(webhdfs, base):
    """The client asks the second of a pair when the first gives no answer, although the first has done it."""
    webhdfs.write_bytes(f"{base}/src/content", b"1")
    with Proxy(webhdfs.url, once("RENAME", "lost answer")) as first, Proxy(webhdfs.url, lambda _: None) as second:
        WebHdfsStorage(f"{first.url};{second.url}").rename(f"{base}/src", f"{base}/dst")
        assert second.seen.count("RENAME") == 1
    assert [status.name for status in webhdfs.list(base)] == ["dst"]


@pytest.mark.cluster
def test_a_rename_that_was_not_done_is_not_taken_for_done(webhdfs, base):
    webhdfs.write_bytes(f"{base}/src", b"1")
    with Proxy(webhdfs.url, once("RENAME", "lost request")) as proxy, pytest.raises(StorageError) as error:
        WebHdfsStorage(proxy.url).rename(f"{base}/src", f"{base}/dst")
    assert not isinstance(error.value, PathExists | PathMissing) and webhdfs.exists(f"{base}/src")
    webhdfs.write_bytes(f"{base}/dst", b"another")
    with Proxy(webhdfs.url, once("RENAME", "lost request")) as proxy, pytest.raises(StorageError):
        WebHdfsStorage(proxy.url).rename(f"{base}/src", f"{base}/dst")
    assert webhdfs.read_bytes(f"{base}/dst") == b"another"


@pytest.mark.cluster
def test_a_standby_is_passed_over(webhdfs, base):
    with Proxy(None, lambda _: STANDBY) as standby:
        storage = WebHdfsStorage(f"{standby.url};{webhdfs.url}")
        storage.write_bytes(f"{base}/a", b"1")
        assert storage.read_bytes(f"{base}/a") == b"1" and len(standby.seen) == 1  # then the active one is kept


@pytest.mark.cluster
def test_a_failover_is_waited_for(webhdfs, base):
    began = time.monotonic()
    with Proxy(webhdfs.url, lambda _: STANDBY if time.monotonic() - began < 1 else None) as proxy:
        WebHdfsStorage(proxy.url).mkdirs(f"{base}/a")
    assert webhdfs.exists(f"{base}/a") and time.monotonic() - began > 1


@pytest.mark.parametrize("first", ["the dead one", "the other"])
def test_the_active_one_of_a_pair_dies_and_the_other_takes_a_second(first):
    """Neither the refused connection nor the standby's answer ends the wait, whichever comes last."""
    began = time.monotonic()
    active = (200, "", "")

    def fault(operation):
        return STANDBY if time.monotonic() - began < 1 else active

    with socket.socket() as free, Proxy(None, fault) as other:
        free.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{free.getsockname()[1]}", other.url]
        WebHdfsStorage(";".join(urls if first == "the dead one" else urls[::-1])).set_mode("/a", 0o644)
    assert time.monotonic() - began > 1 and other.seen.count("SETPERMISSION") > 2


def test_a_failover_that_does_not_end_is_reported():
    began = time.monotonic()
    with Proxy(None, lambda _: STANDBY) as standby, pytest.raises(StorageError, match="no NameNode is active"):
        WebHdfsStorage(standby.url, failover=0.5).status("/a")
    assert 0.1 < time.monotonic() - began < 3


@pytest.mark.cluster
@pytest.mark.parametrize("urllib3", ["that counts", "that does not"])
def test_a_read_that_breaks_off_is_an_error(webhdfs, base, tmp_path, monkeypatch, urllib3):
    webhdfs.write_bytes(f"{base}/a", b"x" * 100_000)
    call = WebHdfsStorage._call

    def old(storage, operation, path, **parameters):
        answer = call(storage, operation, path, **parameters)
        answer.raw.enforce_content_length = urllib3 == "that counts"
        return answer

    monkeypatch.setattr(WebHdfsStorage, "_call", old)
    with Proxy(webhdfs.url, once("OPEN", "half an answer")) as proxy:
        storage = WebHdfsStorage(proxy.url)
        with pytest.raises(StorageError):
            storage.download(f"{base}/a", tmp_path / "a")
        assert not list(tmp_path.iterdir())
        storage.download(f"{base}/a", tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == 100_000


@pytest.mark.cluster
def test_a_proxy_of_the_environment_is_ignored(webhdfs, base, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert WebHdfsStorage(webhdfs.url).exists(base)


@pytest.mark.cluster
def test_the_user_is_the_one_of_hadoop(webhdfs, base, monkeypatch):
    webhdfs.set_mode(base, 0o777)
    monkeypatch.setenv("HADOOP_USER_NAME", "alice")
    WebHdfsStorage(webhdfs.url).write_bytes(f"{base}/a", b"")
    WebHdfsStorage(webhdfs.url, user="bob").write_bytes(f"{base}/b", b"")
    assert [status.owner for status in webhdfs.list(base)] == ["alice", "bob"]


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(StorageError, match=f"connection was refused.*{address}") as error:
        WebHdfsStorage(f"http://{address}").list("/a")
    assert "dkeras cluster up" in error.value.next_step and time.monotonic() - began < 3


def test_an_answer_that_does_not_come():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        storage = WebHdfsStorage(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=(0.5, 0.3))
        with pytest.raises(StorageError, match="no answer came in time"):
            storage.mkdirs("/a")


def test_kerberos_that_is_not_installed_is_asked_for(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "requests_kerberos", None)
    monkeypatch.delitem(sys.modules, "hdfs.ext.kerberos", raising=False)
    with pytest.raises(StorageError, match="Kerberos") as error:
        WebHdfsStorage("https://localhost:9871", kerberos=True)
    assert "hdfs[kerberos]" in error.value.next_step


def test_a_site_that_asks_for_kerberos():
    with (
        Proxy(None, lambda _: (401, "AuthenticationException", "needed")) as proxy,
        pytest.raises(StorageError) as error,
    ):
        WebHdfsStorage(proxy.url).status("/a")
    assert "401" in error.value.what and "kinit" in error.value.next_step
