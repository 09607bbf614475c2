"""Says how good **{name}** is, and how sure that is: the same pipeline on several random splits (Monte Carlo
cross-validation).

folds → fold (one application each, a limited number at a time) → summary

Each fold draws its own test split by another seed, of one row in *folds*, and trains on the rest. **summary** shows
mean and standard deviation of each metric and writes them to `runs/<run>/cross_validation.json`. Nothing is published.

- A **fold** is red: its application failed; its log says why. The summary is made of the others.
- **summary** is red: fewer than two folds succeeded.
"""

from pathlib import Path

from airflow.sdk import Param, TriggerRule, task

from dkeras_core.airflow import factory, pipelines, sweep


def cross_validate(scheduled):
    pipeline, plan = scheduled.pipeline, scheduled.plan
    params = {
        "folds": Param(10, type="integer", minimum=2, maximum=100, title="Folds"),
        "overrides": factory.OVERRIDES,
        "queue": factory.QUEUE,
    }

    @task
    def folds(run, params):
        return sweep.folds(scheduled.file, run, params["folds"], params["overrides"])

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def summary(folds, run):
        return sweep.summary(pipeline.root, run, folds or [])

    with factory.dag(
        f"cross_validate_{pipeline.name}", __doc__, plan=plan, params=params, pipeline=pipeline.name, schedule=None,
        description=f"How good {pipeline.name} is on other splits",
    ):  # fmt: skip
        run = "{{ run_name(dag_run) }}"
        planned = folds(run=run)
        done = factory.jobs_of(
            scheduled,
            task_id="fold",
            steps=["preprocess", "train", "evaluate"],
            max_active_tis_per_dagrun=plan.trials,
        ).expand_kwargs(planned.map(sweep.as_job))
        done >> summary(planned, run)


for scheduled in pipelines.find(Path(__file__).parent)[0]:
    cross_validate(scheduled)
