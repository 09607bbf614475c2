"""Runs in Airflow's environment: reads a folder of DAGs and prints what is in it as JSON, for test_dags.py."""

import json
import os
import sys
import tempfile

folder = sys.argv[1]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = folder
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

from airflow.dag_processing.dagbag import DagBag  # noqa: E402
from airflow.sdk.definitions.param import ParamsDict  # noqa: E402
from airflow.serialization.serialized_objects import DagSerialization  # noqa: E402


def task(one):
    return {
        "type": one.task_type,
        "doc": one.doc_md or "",
        "module": getattr(one, "operator_class", type(one)).__module__,
        "upstream": sorted(one.upstream_task_ids),
        "retries": one.retries,
        "pool": one.pool,
        "timeout": one.execution_timeout.total_seconds() if one.execution_timeout else None,
        "steps": getattr(one, "steps", None),
        "response": one.response_timeout.total_seconds() if getattr(one, "response_timeout", None) else None,
        "asked": sorted(getattr(one, "serialized_params", None) or {}),
        "inlets": sorted(asset.name for asset in one.inlets),
        "outlets": sorted(asset.name for asset in one.outlets),
        "mapped": one.is_mapped,
        "limit": getattr(one, "max_active_tis_per_dagrun", None),
    }


def dag(one):
    DagSerialization.to_dict(one)  # what Airflow stores; raises for what it cannot
    params = ParamsDict(one.params)
    return {
        "doc": one.doc_md or "",
        "catchup": one.catchup,
        "max_active_runs": one.max_active_runs,
        "tags": sorted(one.tags),
        "owner": one.owner,
        "owners": one.owner_links,
        "schedule": one.schedule,
        "started_by": sorted(asset.name for asset in one.schedule) if isinstance(one.schedule, list) else [],
        "assets": [(asset.name, asset.uri) for found in one.tasks for asset in (*found.inlets, *found.outlets)],
        "deadline": one.deadline is not None,
        "told": one.on_failure_callback is not None,
        "params": {name: params.get_param(name).serialize() for name in params},
        "tasks": {found.task_id: task(found) for found in one.tasks},
    }


bag = DagBag(folder, bundle_path=folder, bundle_name="test")
found = {"errors": bag.import_errors, "dags": {name: dag(one) for name, one in bag.dags.items()}}
found["modules"] = [name for name in ("pyspark", "tensorflow", "keras") if name in sys.modules]
print(json.dumps(found, default=str))
