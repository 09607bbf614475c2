"""Shows what is wrong with a pipeline file on Airflow's first page, as an import error; its DAGs are not there then."""

from pathlib import Path

import airflow.sdk  # noqa: F401  Airflow reads only files that name it and a dag

from dkeras_core.airflow import pipelines

_, wrong = pipelines.find(Path(__file__).parent)
if wrong:
    raise ImportError("\n".join(str(error) for error in wrong))
