"""Which registry a model stands in, for DAGs that are told its name alone."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from dkeras_core.airflow.hdfs import storage_of
from dkeras_core.registry import Registry


def field(roots: Sequence[str]) -> Param:
    """Return the field of a form that chooses one of ``roots``, or leaves it to :func:`holding`."""
    return Param(
        None,
        type=["null", "string"],
        enum=[None, *roots],
        title="Root folder",
        description="Empty: the one that has the model. More of them: `roots` in schedules.yaml.",
    )


def holding(roots: Sequence[str], model: str, given: str | None = None) -> str:
    """Return the root folder of a model: ``given``, else the only one of ``roots`` that has it.

    Parameters
    ----------
    roots : sequence of str
        Those that may be worked on (``pipelines.roots``).

    Raises
    ------
    AirflowFailException
        No root has the model, or several have.
    StorageError
        A file system does not answer.
    """
    asked = [given] if given else list(roots)
    found = [root for root in asked if model in Registry(storage_of(root), root).models()]
    if len(found) == 1:
        return found[0]
    if found:
        raise AirflowFailException(f"there is a {model} in {', '.join(found)}: choose the root folder in the form")
    raise AirflowFailException(
        f"there is no {model} in {', '.join(asked) or 'any root'}: correct the name, or add the root folder to "
        "`roots` in schedules.yaml"
    )
