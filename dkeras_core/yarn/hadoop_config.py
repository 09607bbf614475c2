"""What a Hadoop client configuration folder (HADOOP_CONF_DIR) says, as typed values: addresses, security."""

from __future__ import annotations

import getpass
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dkeras_core.errors import ConfigError

FILES = ("core-site.xml", "hdfs-site.xml", "yarn-site.xml")
_VARIABLE = re.compile(r"\$\{([^${}\s]+)\}")
_MAX_SUBSTITUTIONS = 20  # Hadoop's own limit against circular definitions


@dataclass(frozen=True)
class HadoopConfig:
    """The client side of a Hadoop cluster.

    Parameters
    ----------
    conf_dir : Path
        Folder holding core-site.xml, hdfs-site.xml and yarn-site.xml.
    properties : mapping of str to str
        Properties of the three files, later files winning except over ``<final>`` ones; not yet substituted.
    """

    conf_dir: Path
    properties: Mapping[str, str] = field(repr=False)

    @classmethod
    def load(cls, conf_dir: str | Path | None = None) -> HadoopConfig:
        """Read the folder ``conf_dir``, by default $HADOOP_CONF_DIR or $YARN_CONF_DIR.

        Raises
        ------
        ConfigError
            When no folder is named, when it or one of the three files is missing, or when a file is not XML.
        """
        if conf_dir is None:
            conf_dir = os.environ.get("HADOOP_CONF_DIR") or os.environ.get("YARN_CONF_DIR")
        if not conf_dir:
            raise ConfigError(
                "no Hadoop configuration: neither HADOOP_CONF_DIR nor YARN_CONF_DIR is set",
                "set HADOOP_CONF_DIR to the folder with core-site.xml, hdfs-site.xml and yarn-site.xml of the cluster",
            )
        folder = Path(conf_dir).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"the Hadoop configuration folder {folder} does not exist", "correct HADOOP_CONF_DIR")
        properties: dict[str, str] = {}
        final: set[str] = set()
        for name in FILES:
            _read(folder / name, properties, final)
        return cls(folder, properties)

    def get(self, key: str, default: str | None = None) -> str | None:
        """Return the property with ``${...}`` substituted, or ``default`` when it is not set or empty."""
        value = self.properties.get(key)
        return self._substitute(value) if value else default

    def _substitute(self, value: str) -> str:
        for _ in range(_MAX_SUBSTITUTIONS):
            unresolved = True
            for match in _VARIABLE.finditer(value):
                replacement = self._variable(match[1])
                if replacement is not None:
                    value = value[: match.start()] + replacement + value[match.end() :]
                    unresolved = False
                    break
            if unresolved:
                break
        return value

    def _variable(self, name: str) -> str | None:
        if name.startswith("env."):
            variable, _, default = name[4:].partition(":-" if ":-" in name else "-")
            return os.environ.get(variable) or default
        if name == "user.name":
            return user_name()
        if name == "user.home":
            return str(Path.home())
        return self.properties.get(name)

    @property
    def secured(self) -> bool:
        """Whether the cluster asks for Kerberos."""
        return self.get("hadoop.security.authentication", "simple") == "kerberos"

    @property
    def default_fs(self) -> str:
        """``fs.defaultFS``, such as ``hdfs://nameservice1`` or ``hdfs://host:8020``."""
        value = self.get("fs.defaultFS") or self.get("fs.default.name")
        if not value:
            raise ConfigError(
                f"{self.conf_dir}/core-site.xml does not set fs.defaultFS", "name the cluster's file system"
            )
        if urlsplit(value).scheme != "hdfs":
            raise ConfigError(
                f"fs.defaultFS in {self.conf_dir}/core-site.xml is {value}, not an HDFS file system",
                "point HADOOP_CONF_DIR at a configuration whose fs.defaultFS starts with hdfs://",
            )
        return value.rstrip("/")

    @property
    def namenode_urls(self) -> tuple[str, ...]:
        """Web addresses of the NameNodes behind ``fs.defaultFS``, several when it is highly available."""
        authority = urlsplit(self.default_fs)
        scheme, key, port = (
            ("https", "dfs.namenode.https-address", 9871)
            if self.get("dfs.http.policy", "HTTP_ONLY") == "HTTPS_ONLY"
            else ("http", "dfs.namenode.http-address", 9870)
        )
        service = authority.netloc
        ids = _words(self.get(f"dfs.ha.namenodes.{service}"))
        if not ids:
            # Without high availability the host of fs.defaultFS is the NameNode; a nameservice may still be declared.
            address = self.get(f"{key}.{service}") or self.get(key)
            return (f"{scheme}://{_connectable(address, authority.hostname, port)}",)
        urls = []
        for node in ids:
            rpc = self.get(f"dfs.namenode.rpc-address.{service}.{node}", "")
            address = self.get(f"{key}.{service}.{node}")
            host = urlsplit(f"//{rpc}").hostname
            if not address and not host:
                raise ConfigError(
                    f"{self.conf_dir}/hdfs-site.xml names the NameNode {node} of {service} but gives it no address",
                    f"set dfs.namenode.rpc-address.{service}.{node} or {key}.{service}.{node}",
                )
            urls.append(f"{scheme}://{_connectable(address, host, port)}")
        return tuple(urls)

    @property
    def resourcemanager_urls(self) -> tuple[str, ...]:
        """Web addresses of the ResourceManagers, several when YARN is highly available."""
        scheme, key, port = (
            ("https", "yarn.resourcemanager.webapp.https.address", 8090)
            if self.get("yarn.http.policy", "HTTP_ONLY") == "HTTPS_ONLY"
            else ("http", "yarn.resourcemanager.webapp.address", 8088)
        )
        highly_available = self.get("yarn.resourcemanager.ha.enabled", "false").lower() == "true"
        ids = _words(self.get("yarn.resourcemanager.ha.rm-ids")) if highly_available else []
        urls = []
        for suffix in [f".{node}" for node in ids] or [""]:
            address = self.get(key + suffix)
            host = self.get("yarn.resourcemanager.hostname" + suffix)
            if not address and not host:
                raise ConfigError(
                    f"{self.conf_dir}/yarn-site.xml does not say where the ResourceManager is",
                    f"set yarn.resourcemanager.hostname{suffix} or {key}{suffix}",
                )
            urls.append(f"{scheme}://{_connectable(address, host, port)}")
        return tuple(urls)


def user_name() -> str:
    """The user that HDFS and YARN see on a cluster without Kerberos."""
    return os.environ.get("HADOOP_USER_NAME") or getpass.getuser()


def _read(path: Path, properties: dict[str, str], final: set[str]) -> None:
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist",
            "point HADOOP_CONF_DIR at a folder with core-site.xml, hdfs-site.xml and yarn-site.xml",
        ) from None
    except (OSError, ET.ParseError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "mend the file") from error
    for node in root.iter("property"):
        name = (node.findtext("name") or "").strip()
        if not name or name in final:
            continue
        properties[name] = (node.findtext("value") or "").strip()
        if (node.findtext("final") or "").strip().lower() == "true":
            final.add(name)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _connectable(address: str | None, host: str | None, port: int) -> str:
    """``host:port`` a client can connect to; a daemon's wildcard address stands for ``host``."""
    parts = urlsplit(f"//{address or host}")
    name = parts.hostname
    if name in (None, "0.0.0.0"):
        name = host if host not in (None, "0.0.0.0") else "localhost"
    return f"{name}:{parts.port or port}"
