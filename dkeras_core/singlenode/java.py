"""Java and Maven on this host: found, checked, and called without the caller's Hadoop and Spark settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.errors import ClusterError

MINIMUM_JAVA = 17
INSTALL_JAVA = "install it (Debian and Ubuntu: apt-get install openjdk-17-jre-headless) or point JAVA_HOME at it"
INSTALL_MAVEN = "install it (Debian and Ubuntu: apt-get install maven)"

#: What a daemon or a tool may see of the caller's environment. HADOOP_*, SPARK_*, YARN_*, CLASSPATH, JAVA_TOOL_OPTIONS
#: and the like would change its behaviour behind the configuration's back.
PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Java:
    """A Java runtime: ``home`` is its JAVA_HOME, ``version`` the feature number (17)."""

    home: Path
    version: int

    @property
    def binary(self) -> Path:
        return self.home / "bin" / "java"


def find_java() -> Java:
    """Return the Java of ``JAVA_HOME`` or, without that, of the search path.

    Raises
    ------
    ClusterError
        There is none, it does not run, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        binary = str(Path(home, "bin", "java"))
        if not os.access(binary, os.X_OK):
            raise ClusterError(f"JAVA_HOME is {home}, but there is no {binary}", "correct JAVA_HOME or unset it")
    else:
        binary = shutil.which("java") or ""
        if not binary:
            raise ClusterError(f"java is missing: Hadoop needs Java {MINIMUM_JAVA} or newer", INSTALL_JAVA)
    try:
        # `java` may be a link or a wrapper script, so Java itself is asked where it lives.
        reply = subprocess.run(
            [binary, "-XshowSettings:properties", "-version"],
            capture_output=True, text=True, timeout=30, env=clean_environment(),
        )  # fmt: skip
        settings = dict(re.findall(r"^\s+([\w.]+) = (.*)$", reply.stderr, re.MULTILINE))
        specification = settings["java.specification.version"]
        version = int(specification.removeprefix("1."))
        found = Java(Path(settings["java.home"]), version)
    except (OSError, subprocess.TimeoutExpired, KeyError, ValueError) as error:
        raise ClusterError(f"{binary} does not run as a Java runtime ({error!r})", INSTALL_JAVA) from error
    if version < MINIMUM_JAVA:
        raise ClusterError(f"{binary} is Java {version}, but Hadoop needs Java {MINIMUM_JAVA} or newer", INSTALL_JAVA)
    return found


def find_maven() -> str:
    """Return the path of ``mvn``.

    Raises
    ------
    ClusterError
        It is not on the search path.
    """
    binary = shutil.which("mvn")
    if not binary:
        raise ClusterError("mvn is missing: Maven downloads the jars of Hadoop (once)", INSTALL_MAVEN)
    return binary


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the few harmless variables of the caller's environment, and ``extra``."""
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    kept.setdefault("PATH", os.defpath)
    return kept | extra
