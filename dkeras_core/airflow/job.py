"""The operator that runs steps of a pipeline as one YARN application (docs/airflow.md: How a task behaves)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
)

from dkeras_core.airflow import handover, links, pause, reaper, tags, trigger
from dkeras_core.airflow.call import Call
from dkeras_core.airflow.trigger import ApplicationTrigger
from dkeras_core.airflow.work import Work, steps_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, DataError, DkerasError, GateFailed
from dkeras_core.yarn import ticket

APPLICATION = "application"
"""XCom that holds the application's id, from its submission on."""
_CHECKOUT = Path(__file__).resolve().parents[2]
_HOPELESS = (ConfigError, DataError, GateFailed)  # trying again would end the same way
_GRACE = timedelta(minutes=5)  # the trigger keeps the deadline; Airflow's own counts only when that one is gone
_SIGTERM_DEADLINE = 4.0  # Airflow kills the process 5 s after SIGTERM


class DkerasJobOperator(BaseOperator):
    """Runs steps of a pipeline as one application, which is followed without a worker slot.

    Returns ``{"run", "application", "steps", "published", "version", "metrics"}``.

    Parameters
    ----------
    pipeline : str
        Pipeline file; a relative path is looked for in the checkout, too.
    steps : sequence of str, or str, optional
        Which of preprocess, train, evaluate, publish, in text with commas; all by default.
    run : str, optional
        Run id; by default that of the DAG run, which all its tasks share.
    overrides : sequence of str
        ``key=value`` pairs over the pipeline file.
    queue_name : str, optional
        YARN queue instead of the pipeline's (``queue`` is Airflow's own word for the workers').
    data : str, optional
        Local file that is uploaded and read as input.
    again : bool
        Work again in a run that is published already.
    poll : float
        Seconds between two looks at the application.
    on_pause : {"kill", "leave"}
        What pausing the DAG does to the application. When the DAG goes on, the same try submits anew.

    ``execution_timeout`` counts from the start of a try, waiting included; anew after a pause.
    """

    template_fields: Sequence[str] = ("pipeline", "steps", "run", "overrides", "queue_name", "data", "again")
    operator_extra_links = links.LINKS
    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        pipeline: str,
        steps: Sequence[str] | str | None = None,
        run: str | None = None,
        overrides: Sequence[str] | str = (),
        queue_name: str | None = None,
        data: str | None = None,
        again: bool | str = False,
        poll: float = trigger.POLL,
        on_pause: str = pause.KILL,
        **settings: Any,
    ):
        super().__init__(**settings)
        pause.check(on_pause)
        self.pipeline, self.steps, self.run, self.overrides = pipeline, steps, run, overrides
        self.queue_name, self.data, self.again, self.poll, self.on_pause = queue_name, data, again, poll, on_pause
        self._work: Work | None = None
        self._conf: Mapping[str, object] = {}
        self._call: Call | None = None
        self._killed = False
        self._since: float | None = None  # Unix time at which execution_timeout begins, when not at the try's start

    def execute(self, context) -> dict:
        """Find what earlier tries have left, submit where nothing is, and wait in the triggerer."""
        try:
            self._begin(context)
            return self._execute(context)
        except DkerasError as error:
            raise self._failure(context, error) from None

    def execute_complete(self, context, event: dict, adopted: bool = False, since: float | None = None) -> dict:
        """Go on when the trigger has fired: the truth is in HDFS."""
        try:
            self._begin(context)
            self._since = since
            return self._complete(context, event, adopted)
        except DkerasError as error:
            raise self._failure(context, error) from None

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context):
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralTimeout, TaskDeferralError) as error:
            # Nobody follows the application any more. Another try takes it over; after the last one it must not go on.
            try:
                self._begin(context)
                if isinstance(error, TaskDeferralTimeout) or self._last(context):
                    self._work.end(self.log.warning)
            except DkerasError as refused:
                self.log.error("the application may still run: %s", refused)
            raise

    def on_kill(self) -> None:
        """End what this task has on the cluster; Airflow calls it in the task's process, and leaves 5 s for it."""
        self._killed = True
        until = time.monotonic() + _SIGTERM_DEADLINE
        if self._work is None:
            return
        work = replace(self._work)  # with connections of its own: those of the interrupted call may be locked
        for _ in range(2):  # a submission under way may have an application by the time that it has ended
            try:
                work.end(self.log.warning, timeout=max(0.5, until - time.monotonic()))
            except DkerasError as error:
                self.log.error("the application may still run: %s", error)
            if self._call is None or self._call.stop(max(0.0, until - 1.0 - time.monotonic())):
                break

    def _execute(self, context) -> dict:
        ti, work = context["ti"], self._work
        # The first try of all and the first after a clear begin anew; the others go on with what there is.
        fresh = ti.try_number == ti.max_tries - self.retries + 1
        if fresh:
            work.end(self.log.warning)
            work.forget()
        elif there := work.adopt(self.log.warning):
            self.log.info("taking over %s, which an earlier try has submitted", there.id)
            self._check_ticket()
            self._wait(context, there.id, adopted=True)
        elif result := work.finished():
            self.log.info("%s has done this work for an earlier try", result["application"])
            return self._summary(context, result)
        return self._work_on(context)

    def _work_on(self, context) -> dict:
        if not self._again() and (result := self._work.published()):
            self.log.info("run %s is published: its steps are done for good (again=True works on it)", self._work.run)
            return self._summary(context, result)
        self._submit(context)

    def _submit(self, context) -> NoReturn:
        self._check_ticket()
        work, ti = self._work, context["ti"]
        owner = {"dag": ti.dag_id, "run": ti.run_id, "task": ti.task_id, "index": ti.map_index}
        work.own({"airflow": reaper.this_airflow(), **owner})
        with Call(self._arguments()) as self._call:
            answer = self._call.result(self.log.info, unwanted=lambda: self._paused(ti))
        self._call = None
        if self._killed:
            raise AirflowException("ended while submitting")
        if answer is None:
            self.log.info("the DAG is paused: the submission is taken back, and begins anew when the DAG goes on")
            work.end(self.log.warning)
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=handover.SETTLED))
        self._wait(context, answer["application"], adopted=answer["adopted"])

    def _wait(self, context, application: str, *, adopted: bool) -> NoReturn:
        ti, work = context["ti"], self._work
        ti.xcom_push(key=APPLICATION, value=application)
        shown = links.addresses(work.place, application, work.folder, report=work.has_report())
        links.push(ti, shown)
        self.log.info("run %s, %s: %s %s", work.run, ", ".join(work.steps), application, shown[links.YarnLink.name])
        self._end_unless_wanted(ti)
        limit, since = self.execution_timeout, self._since or ti.start_date.timestamp()
        deadline = since + limit.total_seconds() if limit else None
        self.defer(
            trigger=ApplicationTrigger(application, work.run, work.root, deadline, self.poll, self.on_pause),
            method_name="execute_complete",
            kwargs={"adopted": adopted, "since": since},
            timeout=max(limit, timedelta(0)) + _GRACE if limit else None,
        )

    def _paused(self, ti) -> bool:
        try:
            return self.on_pause == pause.KILL and ti.get_dag(ti.dag_id).is_paused
        except Exception as error:  # whatever it is, the submission goes on
            self.log.warning("whether the DAG is paused is not known: %s", error)
            return False

    def _end_unless_wanted(self, ti) -> None:
        """Look whether somebody has acted on the task meanwhile: Airflow then refuses to defer it and calls nothing."""
        try:
            index = ti.map_index if ti.map_index >= 0 else None
            found = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=index)
            states = list((found.get(ti.run_id) or {}).values())
        except Exception as error:  # whatever it is, the application is followed
            self.log.warning("whether the task is still wanted is not known: %s", error)
            return
        if states != ["running"]:
            self._work.end(self.log.warning)
            raise AirflowException(f"the task is {', '.join(map(str, states)) or 'gone'} now, not running")

    def _complete(self, context, event: dict[str, str], adopted: bool) -> dict:
        work, application = self._work, event["application"]
        if event["end"] == trigger.TIMEOUT:
            work.end(self.log.warning)
            work.tidy()
            raise AirflowTaskTimeout(f"not done after {self.execution_timeout}: {event['message']}")
        if event["end"] == trigger.SILENT:
            raise DkerasError(event["message"])
        view = work.look(application)
        if view.result is None:
            # It was ended as one of two, or by the end of an earlier try: others may do the work, or have done it.
            if there := work.adopt(self.log.warning):
                self.log.info("%s has ended, and %s does its work", application, there.id)
                self._wait(context, there.id, adopted=True)
            if result := work.finished():
                return self._summary(context, result)
            if event["end"] == trigger.PAUSED:
                self.log.info("%s was ended because the DAG was paused; submitting anew", application)
                self._since = time.time()
                return self._work_on(context)
            if adopted and view.app is not None and view.app.state == "KILLED":
                self.log.info("%s was killed for an earlier try; submitting anew", application)
                return self._work_on(context)
        result = work.conclude(view, application, self.log.error)
        work.tidy()
        return self._summary(context, result)

    def _summary(self, context, result: dict) -> dict:
        work, ti = self._work, context["ti"]
        if result.get("application"):
            ti.xcom_push(key=APPLICATION, value=result["application"])
            report = work.has_report()
            links.push(ti, links.addresses(work.place, result["application"], work.folder, report=report))
        made = {key: result.get(key) for key in ("application", "published", "version", "metrics")}
        if made["published"]:
            self.log.info("published %s", made["published"])
        return {"run": work.run, "steps": list(work.steps), **made}

    def _failure(self, context, error: DkerasError) -> AirflowException:
        """What the task ends with; after the last try nothing of it is left alive."""
        self.log.error("%s: %s", type(error).__name__, error)
        hopeless = isinstance(error, _HOPELESS)
        if self._work is not None and (hopeless or self._last(context)):
            try:
                self._work.end(self.log.warning)
                self._work.tidy()
            except DkerasError as refused:
                self.log.error("an application may still run: %s", refused)
        return (AirflowFailException if hopeless else AirflowException)(f"{type(error).__name__}: {error}")

    def _last(self, context) -> bool:
        return context["ti"].try_number > context["ti"].max_tries

    def _begin(self, context) -> None:
        """Read the settings, now that their templates are filled in."""
        if self._work is not None:
            return
        ti, dag_run = context["ti"], context["dag_run"]
        pipeline = Pipeline.load(self._path(), self._overrides())
        moment = dag_run.logical_date or dag_run.run_after
        run = self.run or tags.run_id(pipeline.name, ti.dag_id, ti.run_id, moment)
        tag = tags.task_tag(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        self._work, self._conf = Work(pipeline.root, run, tag, steps_of(self.steps)), pipeline.resources.conf

    def _check_ticket(self) -> None:
        ticket.must_outlive(self._work.place.config, self._conf, self.execution_timeout, self.log.info)

    def _arguments(self) -> list[str]:
        work = self._work
        given = ["submit", str(self._path()), "--run", work.run, "--tag", work.tag, "--detach", "--json"]
        given += [part for step in work.steps for part in ("--step", step)]
        given += [part for one in self._overrides() for part in ("--set", one)]
        given += ["--data", self.data] if self.data else []
        return [*given, "--name", f"dkeras {work.run} {','.join(work.steps)}"]

    def _path(self) -> Path:
        path = Path(self.pipeline)
        return path if path.is_absolute() or path.exists() else _CHECKOUT / path

    def _overrides(self) -> list[str]:
        given = [self.overrides] if isinstance(self.overrides, str) else list(self.overrides or ())
        return [one for one in given if one] + ([f"resources.queue={self.queue_name}"] if self.queue_name else [])

    def _again(self) -> bool:
        """Templates give text."""
        return str(self.again).strip().lower() in ("true", "1", "yes")
