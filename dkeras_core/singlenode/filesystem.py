"""An empty HDFS, made before the first start."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.daemons import NAMENODE
from dkeras_core.singlenode.home import Home


def make(home: Home, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Format an empty file system beside its place and rename it, so that no NameNode starts on half of one.

    Parameters
    ----------
    home : Home
        The folder of the cluster.
    run : callable
        Runs a Java class of Hadoop with arguments.

    Raises
    ------
    ClusterError
        With the last lines of what the formatting has printed.
    """
    fresh = home.namenode.with_suffix(".formatting")
    shutil.rmtree(fresh, ignore_errors=True)
    result = run(NAMENODE.main_class, "-D", f"dfs.namenode.name.dir={fresh.as_uri()}", "-format", "-nonInteractive")
    if result.returncode != 0 or not (fresh / "current" / "VERSION").is_file():
        lines = (result.stdout + result.stderr).splitlines()[-15:]
        raise ClusterError("HDFS could not be formatted:\n" + "\n".join(lines), "see whether the disk is full")
    shutil.rmtree(home.datanode, ignore_errors=True)  # blocks of a file system that is no more
    fresh.rename(home.namenode)
