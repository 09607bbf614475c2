"""A single-node Hadoop of real daemons on loopback, for machines without a cluster and for tests.

``SingleNode(home).up()`` starts NameNode, DataNode, ResourceManager and NodeManagers from jars that Maven downloads
once; everything they write stands below ``home``.
"""

from dkeras_core.singlenode.node import DEFAULT_HOME, SingleNode
from dkeras_core.singlenode.status import DaemonStatus, Status

__all__ = ["DEFAULT_HOME", "DaemonStatus", "SingleNode", "Status"]
