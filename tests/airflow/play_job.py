"""Runs in Airflow's Python: calls of the operator and of its trigger, a line of JSON each, answered by a line of JSON.

Airflow itself is not started: the context is a plain object, and what the task would write to XCom or log is collected.
"""

import asyncio
import json
import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import ClassVar

ANSWERS, sys.stdout = sys.stdout, sys.stderr
SAID = []


class Collecting(logging.Handler):
    def emit(self, record):
        SAID.append(record.getMessage())


LOG = logging.getLogger("played")
LOG.addHandler(Collecting())
LOG.setLevel(logging.INFO)


class TaskInstance(SimpleNamespace):
    dag_id, run_id, task_id, map_index = "retrain", "manual", "train", -1

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def get_task_states(self, **_):
        return {"manual": {"train": self.state}}

    def get_dag(self, dag_id):
        return SimpleNamespace(is_paused=self.paused)


class Paused:
    """What a trigger is told about its DAG: one answer after the other, the last for ever."""

    answers: ClassVar[list] = []

    def __init__(self, dag, say):
        assert dag == TaskInstance.dag_id

    async def seen(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def operator(asked):
    from airflow.sdk.exceptions import TaskDeferred

    from dkeras_core.airflow.job import DkerasJobOperator
    from dkeras_core.errors import DkerasError

    timeout = timedelta(seconds=asked["timeout"]) if asked.get("timeout") else None
    overrides = [f"root={asked['root']}", "evaluation.gates={}"]
    steps = asked.get("steps", ["train"])
    settings = {name: asked[name] for name in ("again", "on_pause") if name in asked}
    try:
        job = DkerasJobOperator(
            task_id="train",
            pipeline="dags/pipelines/higgs.yaml",
            steps=steps,
            run="the-run",
            overrides=overrides,
            retries=2,
            execution_timeout=timeout,
            **settings,
        )
    except DkerasError as error:
        return {"raised": [type(error).__name__, str(error)]}
    type(job).log = LOG
    number = asked.get("try", 1)
    ti = TaskInstance(try_number=number, max_tries=asked.get("max_tries", 2), start_date=datetime.now(UTC), pushed={})
    ti.state, ti.paused = asked.get("state", "running"), asked.get("paused", False)
    context = {"ti": ti, "dag_run": SimpleNamespace(logical_date=None, run_after=datetime.now(UTC))}
    answer = {"pushed": ti.pushed}
    try:
        if asked["call"] == "execute":
            answer["returned"] = job.execute(context)
        elif asked["call"] == "resume":
            answer["returned"] = job.resume_execution("__fail__", {"error": asked["error"]}, context)
        elif asked["call"] == "kill":
            job._begin(context)
            job.on_kill()
        else:
            more = {"adopted": asked.get("adopted", False), "since": asked.get("since")}
            answer["returned"] = job.execute_complete(context, asked["event"], **more)
    except TaskDeferred as deferred:
        answer["deferred"] = deferred.trigger.serialize()[1] | deferred.kwargs
        answer["timeout"] = deferred.timeout and deferred.timeout.total_seconds()
    except BaseException as error:  # Airflow's time-out is no Exception
        answer["raised"] = [type(error).__name__, str(error)]
    return answer


def trigger(asked):
    from airflow.sdk.execution_time import task_runner

    from dkeras_core.airflow import handover
    from dkeras_core.airflow import trigger as module

    handover.SETTLED = asked.get("settled", 0.0)
    module._KILL_DEADLINE = asked.get("kill_deadline", 25.0)
    followed = module.ApplicationTrigger(**asked["arguments"])
    kind, arguments = followed.serialize()
    assert kind == "dkeras_core.airflow.trigger.ApplicationTrigger"
    again = module.ApplicationTrigger(**arguments)
    again._log = LOG
    if asked.get("paused"):
        module.Pause, Paused.answers = Paused, asked["paused"]
        again._task_instance = TaskInstance()
    if asked["call"] == "follow":
        return {"event": asyncio.run(anext(again.run())).payload}
    states = {"manual": {"train": asked["state"]}}
    task_runner.RuntimeTaskInstance.get_task_states = staticmethod(lambda **_: time.sleep(0.2) or states)
    again._task_instance = TaskInstance()
    asyncio.run(cancelled_again_and_again(again))
    return {}


async def cancelled_again_and_again(followed):
    """As the triggerer does it: every second another cancellation, which interrupts ``on_kill``."""
    killing = asyncio.create_task(asyncio.wait_for(followed.on_kill(), 30))
    for _ in range(3):
        await asyncio.sleep(0.05)
        killing.cancel("user-action")
    await asyncio.wait([killing])
    await asyncio.sleep(1)


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.update(asked["environment"])
        SAID.clear()
        answer = (operator if asked["what"] == "operator" else trigger)(asked)
        print(json.dumps(answer | {"said": "\n".join(SAID)}), file=ANSWERS, flush=True)
