"""Trains **{name}** on new data and promotes the version once a person has approved it.

wait_for_data → preprocess → changed → train → evaluate → gate → publish → candidate → approve → promote

A task is red: its log ends with the cause and the next step; the links to YARN, Spark and the report are in its tab
*Details*. Clearing it is safe: one application works at a time. Until **promote** is green, production is untouched.

- **wait_for_data** is red: the data did not come in time. Ask who delivers them, then clear the task.
- **preprocess** is red: damaged rows, or a column is missing; the log says which. Mend the data, clear the task.
- **changed** is green and all after it pink: a version of the same data and settings is there already. To train all the
  same, start a run with *Train anyway*.
- **train**, **evaluate** are red: the application failed; the log ends with its Python error and the container's last
  lines. When it had too little memory, start a run with the override `resources.memory_overhead=3g`; else clear.
- **gate** is red: the model is worse than `evaluation.gates` allow. Nothing was published. Look at the report, a link
  in the tab *Details* of evaluate.
- **publish** is red: the version could not be written; no half of it is left. Clear the task.
- **candidate**, **promote** are red: a check failed, or somebody else moved the alias meanwhile. The version stays
  published; promote it later by `promote_model`.
- **approve** waits (yellow): a person is awaited, under *Required Actions*. No answer in time counts as no; the version
  stays, and `promote_model` can promote it later.

Marking a task failed ends its application. To take production back: `rollback_model`.
"""

from pathlib import Path

from airflow.sdk import Metadata, Param, task
from airflow.sdk.exceptions import AirflowFailException

from dkeras_core.airflow import factory, pipelines, promotion, retraining
from dkeras_core.airflow.sensor import HdfsPathSensor


def retrain(scheduled):
    pipeline, plan = scheduled.pipeline, scheduled.plan
    root, asset, job = pipeline.root, factory.assets(scheduled), factory.job_of(scheduled)
    params = {
        "again": Param(False, type="boolean", title="Train anyway", description="Although nothing has changed."),
        "approval": Param(plan.approval, enum=["person", "checks"], title="Who approves"),
        "alias": Param(plan.alias, type="string", pattern="^[a-z0-9][a-z0-9_.-]{0,63}$", title="Promote to"),
        "newer": Param(plan.newer, type="boolean", title="Only new data", description="Newer than the last success."),
        "overrides": factory.OVERRIDES,
        "queue": factory.QUEUE,
    }

    @task.short_circuit
    def changed(run, again):
        reason = "it was asked for" if again else retraining.reason_to_train(root, run)
        print(f"training: {reason}" if reason else "a version of the same data and settings is there")
        return bool(reason)

    @task
    def gate(run):
        if failed := retraining.failed_gates(root, run):
            raise AirflowFailException(
                f"not good enough to be published: {'; '.join(failed)}\n"
                "  next: look at the report (task evaluate, tab Details); nothing was changed"
            )

    @task(outlets=[asset["versions"]])
    def candidate(run, alias):
        found = retraining.published(root, run)
        yield Metadata(asset["versions"], {"version": found["version"], "path": found["path"], "run": run})
        return promotion.candidate(root, found["model"], found["version"], alias, note=f"Run: `{run}`.")

    @task(outlets=[asset["alias"]])
    def promote(shown, answer, **context):
        done = promotion.promote(shown, promotion.why(answer, context))
        if done["alias"] == plan.alias:
            yield Metadata(asset["alias"], {"version": done["version"], "was": done["was"]})
        return done

    with factory.dag(
        f"retrain_{pipeline.name}",
        __doc__,
        plan=plan,
        params=params,
        pipeline=pipeline.name,
        schedule=factory.schedule(scheduled, asset),
        description=pipeline.description,
    ):
        run = "{{ run_name(dag_run) }}"
        wait = HdfsPathSensor(
            task_id="wait_for_data",
            path=pipeline.input_path,
            flag=plan.flag,
            newer_than="{{ (prev_start_date_success or '') | string if params.newer else '' }}",
            timeout=plan.wait_hours * 3600,
            inlets=[asset["raw"]],  # no outlet: it would start the pipelines that new data start
        )
        preprocess = job(task_id="preprocess", steps=["preprocess"], inlets=[asset["raw"]], outlets=[asset["data"]])
        train = job(task_id="train", steps=["train"], inlets=[asset["data"]])
        evaluate = job(task_id="evaluate", steps=["evaluate"], inlets=[asset["data"]])
        publish = job(task_id="publish", steps=["publish"])
        shown = candidate(run, "{{ params.alias }}")
        approve = promotion.Approval(
            task_id="approve",
            subject=f"Promote {pipeline.registry.model}"
            + "@{{ ti.xcom_pull('candidate')['version'] }} to {{ params.alias }}?",
            body="{{ ti.xcom_pull('candidate')['text'] }}",
            asked="{{ params.approval == 'person' }}",
            hours=plan.approval_hours,
            notifiers=factory.alert("waits for an approval", f"retrain_{pipeline.name}", plan),
        )
        wait >> preprocess >> changed(run, "{{ params.again }}") >> train >> evaluate >> gate(run) >> publish
        publish >> shown >> approve >> promote(shown, approve.output)


for scheduled in pipelines.find(Path(__file__).parent)[0]:
    retrain(scheduled)
