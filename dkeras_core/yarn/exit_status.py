"""Exit statuses of YARN containers in words, each with the setting to change."""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    what: str
    next_step: str | None


_MORE_MEMORY = "raise {overhead} in the pipeline file (memory beside the JVM heap: Python, TensorFlow, the model)"
_READ_LOG = "read the container's log"

# YARN's own statuses are negative (ContainerExitStatus); above 128 it is 128 + signal; 10 to 16 are those of Spark's
# application master and 50 to 56 those of its executors.
_MEANINGS = {
    -100: ("its node was lost or the container was released", "look at the node's NodeManager; then submit again"),
    -101: ("the local disks of its node have failed or are full", "free disk space on the node"),
    -102: ("it was preempted: another queue took its guaranteed share back", "submit to a queue with more capacity"),
    -103: (
        "it was killed because it used more virtual memory than allowed",
        "set yarn.nodemanager.vmem-check-enabled to false on the cluster, or raise {overhead} in the pipeline file",
    ),
    -104: ("it was killed because it used more physical memory than it asked for", _MORE_MEMORY),
    -105: ("the application master ended it", None),
    -106: ("the ResourceManager ended it", None),
    -107: ("it still ran after the application had ended", None),
    -108: ("the node's scheduler ended it", "submit again"),
    -109: ("it wrote more log than allowed", "lower the log level"),
    -1000: ("it could not be started", "look at the diagnostics: usually a file that cannot be localised"),
    10: ("Spark's application master failed with an uncaught exception", _READ_LOG),
    11: ("too many executors failed", "read the log of the executors; spark.executor.maxNumFailures is the limit"),
    12: ("the application master lost the ResourceManager", "look whether the ResourceManager restarted; submit again"),
    13: (
        "the driver ended before it had a Spark context, or waited too long for one",
        "read the driver's log for the Python error",
    ),
    14: ("the security settings were refused", "look at spark.authenticate and the Kerberos ticket"),
    15: ("the driver's program threw an exception", _READ_LOG),
    16: ("the driver ended before the application did", _READ_LOG),
    50: ("the executor failed with an uncaught exception", _READ_LOG),
    52: ("its JVM ran out of heap", "raise {memory} in the pipeline file"),
    53: ("its temporary folder could not be made", "free disk space on the node"),
    56: ("it could not send heartbeats to the driver", "look at the network between executors and driver"),
    126: ("its command could not be executed", "the packed environment is damaged, or made for another platform"),
    127: ("a command was not found in it", "look whether Java is installed on the node and JAVA_HOME is right"),
    134: ("it aborted (SIGABRT)", _READ_LOG),
    137: (
        "it was killed by force (SIGKILL), mostly by the node's kernel for lack of memory",
        "raise {overhead} in the pipeline file, or ask for fewer executors on a node",
    ),
    139: ("it crashed (SIGSEGV) in native code", "read the container's log for the Python stack at the crash"),
    143: (
        "it was told to end (SIGTERM): the application was ending, or the node ran short of memory",
        "if nothing else explains it, raise {overhead} in the pipeline file",
    ),
}


def meaning(status: int, driver: bool = False) -> Meaning:
    """Return what an exit status says about the driver's container or an executor's, and the setting to change."""
    what, next_step = _MEANINGS.get(status, (f"it ended with exit status {status}", _READ_LOG))
    prefix = "resources.driver_" if driver else "resources."
    names = {"overhead": f"{prefix}memory_overhead", "memory": f"{prefix}memory"}
    return Meaning(f"{what} (exit status {status})", next_step.format(**names) if next_step else None)
