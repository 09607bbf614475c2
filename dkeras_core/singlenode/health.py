"""What the daemons say about themselves over HTTP: which of them are ready to work, and why the others are not."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request

from dkeras_core.singlenode.daemons import DATANODE, NAMENODE, RESOURCEMANAGER
from dkeras_core.singlenode.home import Started
from dkeras_core.singlenode.ports import HOST

#: Loopback is never reached through the proxy of the user's environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TIMEOUT = 5.0
#: How far the clock of a daemon's own start report and ours may be apart, in seconds.
SLACK = 2.0


def call(port: int, path: str, *, method: str = "GET") -> dict:
    """Return the JSON reply of the daemon at ``port``; raises OSError or ValueError when there is none."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method)
    with _direct.open(request, timeout=TIMEOUT) as reply:
        return json.loads(reply.read() or b"{}")


def waiting_for(ports: dict[str, int], started: dict[str, Started]) -> dict[str, str]:
    """Return what is not ready yet: by daemon, the reason. Empty means that files and applications are welcome.

    Parameters
    ----------
    ports : dict
        Port by "<daemon>.<name>".
    started : dict
        The daemons that should work. A node that NameNode or ResourceManager still lists from before its restart
        does not count.
    """
    reasons = {}
    if NAMENODE.name in started and (reason := _namenode(ports)):
        reasons[NAMENODE.name] = reason
    if DATANODE.name in started and (reason := _datanode(ports)):
        reasons[DATANODE.name] = reason
    if RESOURCEMANAGER.name in started:
        try:
            nodes = _nodes(ports)
        except (OSError, ValueError, KeyError) as error:
            reasons[RESOURCEMANAGER.name] = f"does not answer ({error})"
            nodes = {}
        for name, start in started.items():
            if name.startswith("nodemanager-") and (reason := _nodemanager(nodes.get(ports.get(f"{name}.rpc")), start)):
                reasons[name] = reason
    return reasons


def _bean(port: int, name: str) -> dict:
    (bean,) = call(port, f"/jmx?qry={urllib.parse.quote(name)}")["beans"]
    return bean


def _namenode(ports: dict[str, int]) -> str | None:
    try:
        state = _bean(ports["namenode.http"], "Hadoop:service=NameNode,name=FSNamesystemState")
        safe_mode = _bean(ports["namenode.http"], "Hadoop:service=NameNode,name=NameNodeInfo")["Safemode"]
        live = state["NumLiveDataNodes"]
    except (OSError, ValueError, KeyError) as error:
        return f"does not answer ({error})"
    if live < 1:
        return "no DataNode has reported yet"
    return f"in safe mode: {safe_mode}" if safe_mode else None


def _datanode(ports: dict[str, int]) -> str | None:
    """Ask the DataNode itself: for half a minute the NameNode takes a crashed one for alive."""
    try:
        bean = _bean(ports["datanode.http"], "Hadoop:service=DataNode,name=DataNodeInfo")
        states = [actor["ActorState"] for actor in json.loads(bean["BPServiceActorInfo"])]
    except (OSError, ValueError, KeyError) as error:
        return f"does not answer ({error})"
    return None if "RUNNING" in states else "not registered with the NameNode"


def _nodes(ports: dict[str, int]) -> dict[int, dict]:
    """Return what the ResourceManager knows of its nodes, by the port of the NodeManager."""
    reply = call(ports["resourcemanager.http"], "/ws/v1/cluster/nodes")
    nodes = (reply.get("nodes") or {}).get("node") or []
    return {int(node["id"].rpartition(":")[2]): node for node in nodes}


def _nodemanager(node: dict | None, start: Started) -> str | None:
    if node is None:
        return "not registered with the ResourceManager"
    if node["state"] != "RUNNING":
        return f"{node['state'].lower()} {node.get('healthReport') or ''}".strip()
    if node["lastHealthUpdate"] / 1000 < start.time - SLACK:
        return "not registered again since its restart"
    return None


def make_folder(ports: dict[str, int], path: str, *, user: str, mode: str) -> None:
    """Make the HDFS folder ``path`` with permissions ``mode`` (octal), unless it is there; parents are made."""
    port, query = ports["namenode.http"], f"user.name={urllib.parse.quote(user)}"
    address = f"/webhdfs/v1{urllib.parse.quote(path)}"
    try:
        call(port, f"{address}?op=GETFILESTATUS&{query}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        call(port, f"{address}?op=MKDIRS&{query}", method="PUT")
        call(port, f"{address}?op=SETPERMISSION&permission={mode}&{query}", method="PUT")
