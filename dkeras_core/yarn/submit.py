"""Run spark-submit, find the application it made, and turn its failures into one sentence with the next step."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.submission import SparkSubmission

_SUBMITTED = re.compile(r"Submitted application (application_\d+_\d+)")
_UNREACHABLE_PATIENCE = 15.0
"""Seconds that the ResourceManager may be silent while spark-submit runs; a fail-over takes less."""


@dataclass(frozen=True)
class _Symptom:
    pattern: str
    what: str
    next_step: str


# In the order of precedence: a log often holds several, and the first is nearest to the cause.
_SYMPTOMS = (
    _Symptom(
        r"submitted by user \S+ to unknown queue: ?(\S+)", "queue {0} does not exist", "choose another with --queue"
    ),
    _Symptom(
        r"Queue (\S+) is STOPPED|(\S+) is STOPPED. Cannot accept",
        "queue {0} is stopped",
        "choose another with --queue, or have an administrator start it",
    ),
    _Symptom(
        r"User (\S+) (?:does not have permission to|cannot) submit .*? to queue (\S+)",
        "user {0} may not submit to queue {1}",
        "choose another with --queue, or ask its administrator",
    ),
    _Symptom(
        r"Queue (\S+) already has (\d+) applications",
        "queue {0} is full: it already has {1} applications",
        "wait, or choose another with --queue",
    ),
    _Symptom(
        r"Required (?:executor|AM) memory \((.*?)\).*?above the max threshold \((\d+) MB\)",
        "a container of {0} is asked for and the largest this cluster gives has {1} MB",
        "lower resources.memory, driver_memory or the overheads, or raise yarn.scheduler.maximum-allocation-mb",
    ),
    _Symptom(
        r"InvalidResourceRequestException: (.*)",
        "YARN cannot give what is asked: {0}",
        "lower resources.memory or resources.cores",
    ),
    _Symptom(
        r"(?:Client cannot authenticate via|GSS initiate failed)",
        "the cluster asks for Kerberos and there is no valid ticket",
        "run `kinit`",
    ),
    _Symptom(
        r"Permission denied: (user=[^\n]*?)(?::\w+:\S+)?\n",
        "HDFS refuses access: {0}",
        "choose another root in the pipeline file, or have the folder's owner let you write there",
    ),
    _Symptom(
        r"Name node is in safe mode", "the NameNode is in safe mode", "wait, or look at `hdfs dfsadmin -safemode get`"
    ),
    _Symptom(
        r"((?:DS|NS)QuotaExceededException: [^\n]*)",
        "HDFS is out of quota: {0}",
        "delete old runs or have the quota raised",
    ),
    _Symptom(
        r"File (?:does not exist: |file:)(\S+)(?: does not exist)?", "{0} does not exist", "look whether it was removed"
    ),
    _Symptom(
        r"Call From \S+ to (\S+) failed on connection exception",
        "{0} cannot be reached",
        "start the cluster, or correct the addresses in HADOOP_CONF_DIR",
    ),
    _Symptom(
        r"JAVA_HOME is not set|java: (?:command )?not found|Unable to locate a Java Runtime|/java: No such file",
        "spark-submit finds no Java",
        "install Java 17 and set JAVA_HOME",
    ),
    _Symptom(
        r"UnsupportedClassVersionError", "the Java found is too old for this Spark", "set JAVA_HOME to Java 17 or newer"
    ),
)


def submit(
    submission: SparkSubmission,
    rm: ResourceManager,
    log: Path,
    deadline: float = 180.0,
    progress: Callable[[str], None] = lambda text: None,
) -> Application:
    """Submit the application and return it as the ResourceManager sees it; spark-submit has ended by then.

    Parameters
    ----------
    submission : SparkSubmission
        What to run; a tag that is unique to this call is added to it.
    rm : ResourceManager
        The cluster's ResourceManager.
    log : Path
        File that receives the output of spark-submit.
    deadline : float
        Seconds until the application must be accepted.
    progress : callable
        Receives short texts about what goes on.

    Raises
    ------
    ClusterError
        With cause and next step. An application that was made nevertheless is killed first; the same holds
        when the call is interrupted.
    """
    tag = f"dkeras-submission-{secrets.token_hex(8)}"
    submission = replace(submission, tags=(*submission.tags, tag))
    rm.info()  # a ResourceManager that is down is said in a moment; spark-submit would try for half a minute
    log.parent.mkdir(parents=True, exist_ok=True)
    process = _start(submission, log)
    try:
        app = _await(process, rm, tag, log, time.monotonic() + deadline, progress)
    except BaseException:
        stop_process_group(process)
        _withdraw(rm, tag)
        raise
    if process.returncode == 0 and app is not None:
        return app
    raise explain_submission(log.read_text(errors="replace"), app, process.returncode, log)


def _start(submission: SparkSubmission, log: Path) -> subprocess.Popen:
    with log.open("wb") as output:
        try:
            # An own process group: Ctrl-C in the terminal reaches only this process, which decides what becomes of it.
            return subprocess.Popen(
                submission.argv(),
                env=submission.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            raise ConfigError(
                f"{submission.spark}/bin/spark-submit cannot be run: {error}", "set SPARK_HOME"
            ) from error


def _await(process, rm: ResourceManager, tag: str, log: Path, deadline: float, progress) -> Application | None:
    """Wait for spark-submit to end; the application by its tag, None when there is none."""
    heard = time.monotonic()
    app = None
    while process.poll() is None:
        if time.monotonic() > deadline:
            last = _last_line(log.read_text(errors="replace"))
            raise ClusterError(f"spark-submit has not finished in time; its last words: {last}", f"read {log}")
        try:
            app = _find(rm, tag, log)
            heard = time.monotonic()
        except ClusterError:
            if time.monotonic() - heard > _UNREACHABLE_PATIENCE:
                raise
        progress(f"{app.id} {app.state}" if app else "uploading and submitting")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    app = _find(rm, tag, log)
    if app:
        progress(f"{app.id} {app.state}")
    return app


def _find(rm: ResourceManager, tag: str, log: Path) -> Application | None:
    apps = rm.apps(tags=[tag])
    if apps:
        return apps[0]
    # An application that was refused at once carries no tag in the answers of some versions.
    named = _SUBMITTED.search(log.read_text(errors="replace"))
    return rm.app(named[1]) if named else None


def _withdraw(rm: ResourceManager, tag: str) -> None:
    """End what the stopped spark-submit may have left in the ResourceManager."""
    with contextlib.suppress(ClusterError):
        for app in rm.apps(tags=[tag], states=LIVE_STATES):
            rm.kill(app.id)


def stop_process_group(process: subprocess.Popen, grace: float = 5.0) -> None:
    """Terminate the process and its children, by force after ``grace`` seconds."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        try:
            process.wait(grace)
            break
        except subprocess.TimeoutExpired:
            continue


def explain_submission(text: str, app: Application | None, returncode: int, log: Path) -> ClusterError:
    """Return the error that the output of spark-submit and the diagnostics of the application amount to."""
    both = f"{app.diagnostics}\n{text}" if app else text
    for symptom in _SYMPTOMS:
        match = re.search(symptom.pattern, both, re.DOTALL if "above the max" in symptom.pattern else 0)
        if match:
            groups = [group.rstrip(".,:") for group in match.groups() if group]
            return ClusterError(f"the application was not accepted: {symptom.what.format(*groups)}", symptom.next_step)
    last = (app.diagnostics.strip() if app else "") or _last_line(text)
    return ClusterError(f"spark-submit failed (exit status {returncode}): {last}", f"read {log}")


def _last_line(text: str) -> str:
    """The line that says most: the first exception, else the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    thrown = [line for line in lines if re.match(r"(Exception in thread|Caused by:|[\w.]+(Exception|Error): )", line)]
    errors = [line for line in lines if " ERROR " in line]
    return (thrown or errors[-1:] or lines[-1:] or ["nothing was printed"])[0][:500]
