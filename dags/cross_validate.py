"""Says how good **{name}** is, and how sure that is: k-fold cross-validation.

folds → each fold: fold → clean (a limited number at a time) → summary

All rows are cut into *folds* parts. Each **fold** is one application, which preprocesses, trains on the others and
tests on its own part; so every row is tested on once. **summary** shows mean, standard deviation and the 95 % interval
of the mean for each metric, and writes them to `runs/<run>/cross_validation.json`. Nothing is published.

- **folds** is red: the settings are wrong; the log says which. Start a new run.
- A **fold** is red: its application failed; its log says why. The summary is made of the others; clear the fold to
  have it tried again, and the summary with it.
- **clean** is red: the preprocessed data of that fold, about as large as the input, are left in `data/{name}`.
- **summary** is red: fewer than two folds succeeded.
"""

from pathlib import Path

from airflow.sdk import Param, TriggerRule, task, task_group

from dkeras_core.airflow import factory, pipelines
from dkeras_core.airflow import folds as work


def cross_validate(scheduled):
    pipeline, plan = scheduled.pipeline, scheduled.plan
    params = {
        "folds": Param(10, type="integer", minimum=2, maximum=100, title="Folds"),
        "repeats": Param(
            1, type="integer", minimum=1, maximum=20, title="Repeats",
            description="So many times all rows are cut into folds, each time by another seed.",
        ),
        "keep": Param(
            False, type="boolean", title="Keep the data of the folds",
            description="They are as large as the input each. The next cross-validation with these splits is faster.",
        ),
        "overrides": factory.OVERRIDES,
        "queue": factory.QUEUE,
    }  # fmt: skip

    @task
    def folds(run, params):
        return work.folds(scheduled.file, run, params["folds"], params["repeats"], params["overrides"])

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def clean(run, params):
        return None if params["keep"] else work.clean(pipeline.root, run)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def summary(folds, run):
        return work.summary(pipeline.root, run, folds or [])

    with factory.dag(
        f"cross_validate_{pipeline.name}", __doc__, plan=plan, params=params, pipeline=pipeline.name, schedule=None,
        description=f"How good {pipeline.name} is, by k-fold cross-validation",
    ):  # fmt: skip
        run = "{{ run_name(dag_run) }}"
        planned = folds(run=run)

        @task_group(prefix_group_id=False)
        def each_fold(run, overrides):
            fold = factory.job_of(
                scheduled, task_id="fold", run=run, overrides=overrides, steps=["preprocess", "train", "evaluate"],
                max_active_tis_per_dagrun=plan.trials,
            )  # fmt: skip
            fold() >> clean(run)

        each_fold.expand_kwargs(planned) >> summary(planned, run)


for scheduled in pipelines.find(Path(__file__).parent)[0]:
    cross_validate(scheduled)
