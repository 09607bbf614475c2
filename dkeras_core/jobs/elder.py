"""The driver's own look for an application that does the same work already."""

from __future__ import annotations

import sys
from pathlib import Path

from dkeras_core.errors import DkerasError

SHIPPED = Path("__spark_conf__/__hadoop_conf__")
"""Where Spark puts the cluster's configuration in the driver's container."""
YIELDED = 11
"""Exit status of a driver that left the work to another application."""


def refuses_to_double(tag: str, app_id: str, conf_dir: Path = SHIPPED) -> bool:
    """Whether a live application with this tag was submitted before this one, which then has to end without a trace.

    A ResourceManager that cannot be asked (on a secured cluster the container holds no ticket for it) is no reason to
    stop: the submitter has looked, too.
    """
    from dkeras_core.yarn.adoption import elder
    from dkeras_core.yarn.hadoop_config import HadoopConfig
    from dkeras_core.yarn.resource_manager import ResourceManager

    try:
        config = HadoopConfig.load(conf_dir if conf_dir.is_dir() else None)
        other = elder(ResourceManager.of(config), tag, app_id)
    except DkerasError as error:
        print(f"dkeras: not known whether another application does this work: {error}", file=sys.stderr, flush=True)
        return False
    if other is not None:
        print(f"dkeras: {other.id} does this work already; this application ends", file=sys.stderr, flush=True)
    return other is not None
