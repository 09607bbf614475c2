"""The ResourceManager's REST interface: fail-over among its addresses, a deadline on every call, typed answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from dkeras_core.errors import ClusterError
from dkeras_core.yarn.answers import Application, Attempt, ClusterInfo, Metrics, Node, Scheduler, application, scheduler
from dkeras_core.yarn.hadoop_config import HadoopConfig, user_name

_CLUSTER = "/ws/v1/cluster"
_REFRESH = re.compile(r"url=(\S+)", re.IGNORECASE)


class ResourceManager:
    """Client of the ResourceManagers at ``urls``; the active one is found and remembered.

    Parameters
    ----------
    urls : sequence of str
        Web addresses, such as ``("http://rm1:8088", "http://rm2:8088")``.
    timeout : float
        Seconds that one request may take at one address.
    auth : requests.auth.AuthBase, optional
        Authentication of a secured cluster; without it the user's name is sent.
    """

    def __init__(self, urls: Sequence[str], timeout: float = 5.0, auth: Any = None):
        import requests

        self.urls = tuple(url.rstrip("/") for url in urls)
        self.timeout = timeout
        #: Also good for the NodeManagers' web servers of the same cluster.
        self.session = requests.Session()
        self.session.trust_env = False  # a proxy for the web must not stand between here and the cluster
        self.session.auth = auth
        self.session.headers["Accept"] = "application/json"
        self.session.params = {} if auth else {"user.name": user_name()}
        self._active = self.urls[0]

    @classmethod
    def of(cls, config: HadoopConfig, timeout: float = 5.0) -> ResourceManager:
        """Return the client of the cluster that ``config`` describes."""
        return cls(config.resourcemanager_urls, timeout, spnego() if config.secured else None)

    def info(self) -> ClusterInfo:
        raw = self._get("/info")["clusterInfo"]
        return ClusterInfo(
            raw.get("state", ""),
            raw.get("haState", ""),
            raw.get("resourceManagerVersion", ""),
            raw.get("startedOn", 0) / 1e3,
        )

    def metrics(self) -> Metrics:
        raw = self._get("/metrics")["clusterMetrics"]
        keys = ("activeNodes", "unhealthyNodes", "lostNodes", "totalMB", "availableMB", "totalVirtualCores")
        keys += ("availableVirtualCores", "appsPending", "appsRunning")
        return Metrics(*(int(raw.get(key) or 0) for key in keys))

    def nodes(self) -> list[Node]:
        """All NodeManagers that are up, with what they offer."""
        raw = (self._get("/nodes", states="RUNNING").get("nodes") or {}).get("node") or []
        return [
            Node(
                node["id"],
                node["state"],
                int(node.get("usedMemoryMB", 0)) + int(node.get("availMemoryMB", 0)),
                int(node.get("usedVirtualCores", 0)) + int(node.get("availableVirtualCores", 0)),
                node.get("healthReport") or "",
            )
            for node in raw
        ]

    def scheduler(self) -> Scheduler:
        """Queues and the largest container of the capacity, fair or fifo scheduler."""
        return scheduler(self._get("/scheduler")["scheduler"]["schedulerInfo"])

    def apps(
        self, tags: Iterable[str] = (), states: Iterable[str] = (), user: str | None = None, limit: int | None = None
    ) -> list[Application]:
        """Applications that carry any of ``tags`` and are in one of ``states``, newest first."""
        query = {"applicationTags": ",".join(tags).lower(), "states": ",".join(states), "user": user, "limit": limit}
        raw = (self._get("/apps", **{k: v for k, v in query.items() if v}).get("apps") or {}).get("app") or []
        return sorted((application(app) for app in raw), key=lambda app: app.started, reverse=True)

    def app(self, app_id: str) -> Application | None:
        """The application, or None when the ResourceManager does not know it (any more)."""
        answer = self._request("GET", f"/apps/{app_id}")
        return None if answer.status_code == 404 else application(_json(answer)["app"])

    def attempts(self, app_id: str) -> list[Attempt]:
        """Attempts of the application master, the first one first."""
        answer = self._request("GET", f"/apps/{app_id}/appattempts")
        if answer.status_code == 404:
            return []
        raw = (_json(answer).get("appAttempts") or {}).get("appAttempt") or []
        return [
            Attempt(
                str(one.get("appAttemptId") or one.get("id", "")),
                one.get("containerId") or "",
                one.get("nodeHttpAddress") or "",
                one.get("logsLink") or "",
                one.get("diagnosticsInfo") or one.get("diagnostics") or "",
            )
            for one in sorted(raw, key=lambda one: one.get("id", 0))
        ]

    def kill(self, app_id: str, timeout: float = 30.0) -> Application:
        """Kill the application and return it once it has ended.

        An application that ended by itself meanwhile counts as done; look at ``state`` of the answer.

        Raises
        ------
        ClusterError
            When the kill is refused, the application is unknown, or it has not ended after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            # Asked again each round: the first request can meet an application that is still being saved.
            answer = self._request("PUT", f"/apps/{app_id}/state", json={"state": "KILLED"})
            if answer.status_code == 404:
                raise ClusterError(f"the ResourceManager does not know {app_id}", "look at `dkeras runs` for the id")
            if answer.status_code in (401, 403):
                raise ClusterError(
                    f"{user_name()} may not kill {app_id}: {_reason(answer)}",
                    "ask the owner or an administrator of the queue",
                )
            for _ in range(10):
                app = self.app(app_id)
                if app is None or app.ended:
                    break
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{app_id} is still {app.state} {timeout:.0f} s after it was told to end",
                        f"look at {app.tracking_url or self._active} and run `yarn application -kill {app_id}`",
                    )
                time.sleep(0.2)
            if app is None or app.ended:
                return app or application({"id": app_id, "state": "KILLED"})

    def _get(self, path: str, **query) -> dict:
        return _json(self._request("GET", path, params=query))

    def _request(self, method: str, path: str, **arguments):
        """Ask the active ResourceManager; on failure or from a standby go on to the other addresses, each once."""
        import requests

        waiting = [self._active, *(url for url in self.urls if url != self._active)]
        refusals: dict[str, str] = {}
        while waiting:
            url = waiting.pop(0)
            try:
                answer = self.session.request(
                    method, f"{url}{_CLUSTER}{path}", timeout=self.timeout, allow_redirects=False, **arguments
                )
            except requests.RequestException as error:
                refusals[url] = _cause(error)
                continue
            active = _redirect(answer)
            if active:
                refusals[url] = f"standby, points to {active}"
                if active not in refusals and active not in waiting:
                    waiting.insert(0, active)
            elif answer.status_code >= 500:
                refusals[url] = f"HTTP {answer.status_code}: {_reason(answer)}"
            else:
                self._active = url
                return answer
        listed = "; ".join(f"{url}: {why}" for url, why in refusals.items())
        raise ClusterError(
            f"no ResourceManager answers ({listed})",
            "start the cluster (`dkeras cluster up` for the single node), or correct yarn-site.xml in HADOOP_CONF_DIR",
        )


def spnego():
    """Kerberos authentication for requests, from whichever library is installed."""
    for module, name in (("requests_gssapi", "HTTPSPNEGOAuth"), ("requests_kerberos", "HTTPKerberosAuth")):
        try:
            return getattr(__import__(module), name)()
        except ImportError:
            continue
    raise ClusterError(
        "the cluster asks for Kerberos and no client library for it is installed", "pip install hdfs[kerberos]"
    )


def _redirect(answer) -> str | None:
    """The base URL a standby points to; the header is Location or Refresh, depending on the version."""
    target = answer.headers.get("Location") if 300 <= answer.status_code < 400 else None
    if not target and "Refresh" in answer.headers:
        match = _REFRESH.search(answer.headers["Refresh"])
        target = match[1] if match else None
    if not target:
        return None
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.netloc}"


def _json(answer) -> dict:
    if answer.status_code >= 400:
        next_step = "run `kinit`" if answer.status_code == 401 else None
        raise ClusterError(f"{answer.url} answers HTTP {answer.status_code}: {_reason(answer)}", next_step)
    try:
        return answer.json()
    except ValueError:
        raise ClusterError(
            f"{answer.url} answers with something that is not a ResourceManager's JSON",
            "correct the ResourceManager's web address in yarn-site.xml",
        ) from None


def _reason(answer) -> str:
    try:
        return answer.json()["RemoteException"]["message"]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:200] or answer.reason


def _cause(error: Exception) -> str:
    text = str(error)
    for pattern, words in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "unknown host"),
        ("nodename nor servname", "unknown host"),
        ("No route to host", "no route to the host"),
        ("timed out", "no answer in time"),
        ("CERTIFICATE", "its TLS certificate is not trusted"),
    ):
        if pattern.lower() in text.lower():
            return words
    return text
