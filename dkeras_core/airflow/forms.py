"""What forms and scripts hand to a run, beyond what the JSON schemas of its params check."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

log = logging.getLogger(__name__)


def refuse_unknown(context: Mapping[str, Any]) -> None:
    """Hook of every task, before it works: refuse a param that the DAG does not have.

    Airflow checks the values of params and passes over names that it does not know, so that a run with a misspelt
    ``override`` would train for hours with the settings of the file.

    Raises
    ------
    AirflowFailException
        The name, and which was meant.
    """
    known = list(context["dag"].params)
    # A name with a slash is a setting of Airflow's own.
    strangers = [name for name in context["dag_run"].conf or {} if name not in known and "/" not in name]
    if strangers:
        log.info("::endgroup::")  # what is said before a task begins is folded away in the log
        near = [match for name in strangers for match in difflib.get_close_matches(name, known, 1)]
        meant = f"did you mean {', '.join(near)}? " if near else ""
        raise AirflowFailException(
            f"no param is named {', '.join(strangers)}: {meant}there are {', '.join(known) or 'none'}.\n"
            "  next: start a new run"
        )
