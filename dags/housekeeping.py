"""Keeps cluster and registry in order, every night.

- **reap** ends applications whose task is over (a net below what the operators do themselves).
- **old_runs** removes the folders of runs in which nothing has changed for *run_days*.
- **uploads** removes what killed uploads of data and environments have left in HDFS, a day later.
- **collect** deletes old versions: those that no alias names or would be rolled back to, not among the newest *keep*,
  and older than *version_age*. Tombstones stay.

A task is red: something could not be deleted, mostly for lack of rights; the log names it. Nothing else depends on it.
With *dry_run* the logs show what would go.
"""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, task

from dkeras_core.airflow import factory, pipelines
from dkeras_core.airflow.command import dkeras
from dkeras_core.airflow.hdfs import storage_of
from dkeras_core.airflow.old_runs import remove_old_runs
from dkeras_core.airflow.pipelines import Plan
from dkeras_core.airflow.uploads import remove_dead_uploads
from dkeras_core.cli import place

roots = pipelines.roots(Path(__file__).parent)
params = {
    "dry_run": Param(False, type="boolean", title="Only show what would go"),
    "run_days": Param(30, type="integer", minimum=1, title="Days that runs are kept"),
    "keep": Param(5, type="integer", minimum=1, title="Newest versions that stay"),
    "version_age": Param("30d", type="string", pattern="^[0-9]+[hdw]$", title="Younger versions stay"),
}


@task
def reap(params):
    from dkeras_core.airflow.reaper import reap

    return [] if params["dry_run"] else [killed for root in roots for killed in reap(root)]


@task
def old_runs(params):
    older = timedelta(days=params["run_days"])
    return [run for root in roots for run in remove_old_runs(place.find(root), root, older, dry_run=params["dry_run"])]


@task
def uploads(params):
    return [one for root in roots for one in remove_dead_uploads(storage_of(root), root, dry_run=params["dry_run"])]


@task
def collect(params):
    carry_out = [] if params["dry_run"] else ["--yes"]
    for root in roots:
        keep, age = str(params["keep"]), params["version_age"]
        dkeras("models", "gc", "--keep", keep, "--older-than", age, "--json", "--root", root, *carry_out)


with factory.dag(
    "housekeeping", __doc__, plan=Plan(), params=params, schedule="30 4 * * *", description="Old versions and runs"
):
    reap(), old_runs(), uploads(), collect()
