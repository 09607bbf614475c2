"""Searches good settings for **{name}**: tries combinations, trains the best anew and publishes it as a candidate.

trials → preprocess → trial (one application each, a limited number at a time) → best → train_best → publish_best

The form says what is combined: algorithms, numbers of executors, communication periods (tau), moving rates (alpha),
learning rates. Combinations that an algorithm does not know are left out.

- A **trial** is red: that combination failed; the others count. Its log says why (settings that contradict each
  other, a loss that is not finite).
- **trials** is red: no combination is possible, or too many are; the log says which.
- **preprocess** is red: the data that all trials share cannot be made; its log says why.
- **best** is red: no trial succeeded; its log has a table of them with the causes, as `runs/<run>/trials.json`.
- **train_best** is red: its log says why. Clear it; the trials are kept.
- **publish_best** is red: a gate of the pipeline failed; nothing was published.

Trials are judged on the validation split (`split.validation`, 0.1 unless the pipeline says otherwise), never on the
test split, which the candidate meets for the first time. Nothing is promoted: see `promote_model`.
"""

from pathlib import Path

from airflow.sdk import Param, TriggerRule, task

from dkeras_core import rules
from dkeras_core.airflow import factory, pipelines, sweep

EMPTY = "Empty: that of the pipeline file."


def numbers(title, default, low=None, kind="number"):
    item = {"type": kind} | ({"exclusiveMinimum": low} if low is not None else {})
    return Param(default, type="array", items=item, title=title, description=EMPTY)


def tune(scheduled):
    pipeline, plan, job = scheduled.pipeline, scheduled.plan, factory.job_of(scheduled)
    algorithm = {"type": "string", "enum": rules.names()}
    params = {
        "algorithms": Param([], type="array", items=algorithm, title="Algorithms", description=EMPTY),
        "executors": numbers("Executors (p)", [], 0, "integer"),
        "communication_period": numbers("Communication period (tau)", [], 0, "integer"),
        "moving_rate": numbers("Moving rate (alpha)", [], 0),
        "learning_rate": numbers("Learning rate", [0.0003, 0.001, 0.003], 0),
        "epochs": Param(1, type="integer", minimum=1, title="Epochs of a trial"),
        "most": Param(12, type="integer", minimum=1, maximum=200, title="Trials at most"),
        "overrides": factory.OVERRIDES,
        "queue": factory.QUEUE,
    }

    @task
    def trials(run, params):
        return sweep.trials(scheduled.file, run, params)

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def best(trials, run):
        return sweep.best(pipeline.root, run, trials or [])

    with factory.dag(
        f"tune_{pipeline.name}", __doc__, plan=plan, params=params, pipeline=pipeline.name, schedule=None,
        description=f"Search settings for {pipeline.name}",
    ):  # fmt: skip
        run = "{{ run_name(dag_run) }}"
        planned = trials(run=run)
        shared = "{{ ti.xcom_pull('trials')[0]['data']['%s'] }}"
        data = job(
            task_id="preprocess", steps=["preprocess"], run=shared % "run", overrides=shared % "overrides",
        )  # fmt: skip
        # The step preprocess of a trial only finds these data, and leaves a note of which they were.
        done = factory.jobs_of(
            scheduled, task_id="trial", steps=["preprocess", "train"], max_active_tis_per_dagrun=plan.trials
        ).expand_kwargs(planned.map(sweep.as_job))
        chosen, overrides = best(planned, run), "{{ ti.xcom_pull('best')['overrides'] }}"
        train_best = job(task_id="train_best", steps=["preprocess", "train", "evaluate"], overrides=overrides)
        publish_best = job(
            task_id="publish_best", steps=["publish"], overrides=overrides,
            outlets=[factory.assets(scheduled)["versions"]],
        )  # fmt: skip
        planned >> data >> done >> chosen >> train_best >> publish_best


for scheduled in pipelines.find(Path(__file__).parent)[0]:
    tune(scheduled)
