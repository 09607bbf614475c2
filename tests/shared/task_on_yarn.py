"""One task of a real Airflow on a real YARN: what there is of it, and ways to kill what works on it."""

import json
import os
import signal
import time
from typing import ClassVar

import psutil

from dkeras_core.airflow.tags import task_tag
from dkeras_core.errors import PathMissing
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.submission import run_tag

ROOT = "/tests-job"
KILL_DEADLINE = 15.0


class Run:
    """One DAG run of one task, and what YARN has of it."""

    all: ClassVar[list["Run"]] = []

    def __init__(self, there, dag="job", **params):
        self.there, self.rest, self.dag = there, there.rest, dag
        self.id = there.rest.trigger(dag, params)
        self.tag = task_tag(dag, self.id, "work")
        self.all.append(self)

    def apps(self, *states):
        return self.there.rm.apps(tags=[self.tag], states=states)

    def live(self):
        return self.apps(*LIVE_STATES)

    def task(self):
        return self.rest.tasks(self.dag, self.id)["work"]

    def log(self):
        return "\n".join(
            self.rest.log(self.dag, self.id, "work", attempt) for attempt in range(1, self.task()["try_number"] + 1)
        )

    def submitting(self):
        """The process of the command that submits, None before and after."""
        for process in psutil.process_iter(["cmdline"]):
            if self.tag in (process.info["cmdline"] or ()) and "submit" in process.info["cmdline"]:
                return process
        return None

    def spark_submit(self):
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if self.tag in words and "SparkSubmit" in words:
                return process
        return None

    def driver(self):
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or ()
            if self.tag in words and "python" in words[0] and any(word.endswith("main.py") for word in words):
                return process
        return None

    def master(self):
        (app,) = self.live()
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            if words[0].endswith("java") and "ApplicationMaster" in " ".join(words) and app.id in " ".join(words):
                return process
        raise AssertionError(f"no application master of {app.id}")

    def phase(self):
        """What the driver does now, None before it has said so."""
        (name,) = (tag.removeprefix(run_tag("")) for tag in self.apps()[0].tags if tag.startswith(run_tag("")))
        try:
            return json.loads(self.there.storage.read_bytes(f"{ROOT}/runs/{name}/progress.json"))["phase"]
        except (ValueError, PathMissing):
            return None

    def until(self, question, seconds=400):
        """The first answer that is something; the run must not have ended before."""
        deadline = time.monotonic() + seconds
        while not (found := question()):
            state = self.rest.run(self.dag, self.id)["state"]
            assert state not in ("success", "failed"), f"{state}\n{self.log()}"
            assert time.monotonic() < deadline, self.rest.states(self.dag, self.id)
            time.sleep(0.2)
        return found

    def deferred(self):
        return self.task()["state"] == "deferred"

    def followed(self):
        """How many triggers have seen the application run."""
        return self.log().count("is RUNNING")

    def green(self, seconds=600):
        """The run succeeds, and one application has done its work."""
        state = self.rest.wait(self.dag, self.id, seconds=seconds)
        assert state == "success", self.log()
        done = [app for app in self.apps() if app.final_status == "SUCCEEDED"]
        assert len(done) == 1, self.apps()
        assert self.live() == []
        self.no_process()
        answer = self.rest.xcom(self.dag, self.id, "work")
        assert answer["application"] == done[0].id == self.rest.xcom(self.dag, self.id, "work", "application")
        result = json.loads(self.there.storage.read_bytes(f"{ROOT}/runs/{answer['run']}/result.json"))
        assert (result["application"], result["status"], result["tag"]) == (done[0].id, "succeeded", self.tag)
        return answer

    def no_process(self):
        """Nor does a process of an application work on without it."""
        deadline = time.monotonic() + KILL_DEADLINE
        while self.driver() is not None:
            assert time.monotonic() < deadline, self.driver().cmdline()
            time.sleep(0.2)

    def nothing_lives(self, app_id):
        """Wait until the application has ended."""
        begun = time.monotonic()
        while not self.there.rm.app(app_id).ended:
            assert time.monotonic() - begun < KILL_DEADLINE, f"{app_id} is alive\n{self.log()}"
            time.sleep(0.1)
        assert self.there.rm.app(app_id).state == "KILLED"


def kill_task_process(run):
    """The process that waits for the submission is the task's."""
    command = run.submitting()
    assert command is not None
    os.kill(command.ppid(), signal.SIGKILL)


def before_submission(run):
    run.until(run.submitting)
    kill_task_process(run)


def during_submission(run):
    run.until(run.spark_submit)
    kill_task_process(run)


def after_submission(run):
    """Killed between the submission and the first word about it: nobody knows of the application."""
    task = run.until(run.submitting).parent()
    task.suspend()
    run.until(lambda: run.live() and run.submitting() is None)
    task.kill()


def triggerer(run):
    run.until(run.deferred)
    run.there.local.kill("triggerer")
    run.there.local.up()


def scheduler(run):
    run.until(run.deferred)
    run.there.local.kill("scheduler")
    run.there.local.up()


def resource_manager(run):
    """Killed while the application works, and started again."""
    run.until(run.deferred)
    run.until(run.driver)
    os.kill(run.there.hadoop.status().daemon("resourcemanager").pid, signal.SIGKILL)
    run.there.hadoop.up()


def application_master(run):
    """The JVM in the application's first container."""
    run.until(run.deferred)
    run.until(run.driver)
    run.master().kill()


def driver(run):
    """The Python process that the application master has started."""
    run.until(run.deferred)
    run.until(run.driver).kill()


def driver_while_it_publishes(run):
    run.until(lambda: run.live() and run.phase() == "publish")
    run.driver().kill()
