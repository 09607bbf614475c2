"""Runs a short command of ``dkeras`` from a task: what it says in the task's log, its JSON as a value."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dkeras_core.airflow.call import Call
from dkeras_core.errors import DkerasError

WORTH_ANOTHER_TRY = frozenset({1, 4, 5, 70})
"""Exit codes (docs/operating.md) of what may pass: HDFS or YARN unreachable, a local disk, a defect."""

log = logging.getLogger(__name__)


def dkeras(*arguments: str, accept: Collection[int] = ()) -> tuple[int, Any]:
    """Run ``dkeras ARGUMENTS``; return the exit code, 0 or one of ``accept``, and the JSON that it printed.

    Raises
    ------
    AirflowFailException
        Another exit code, which a second try would meet again.
    AirflowException
        One where a second try may help.
    """
    log.info("dkeras %s", " ".join(arguments))
    with Call(arguments) as call:
        try:
            return 0, call.result(log.info)
        except DkerasError as error:
            if error.exit_code in accept:
                return error.exit_code, call.printed()
            failure = AirflowException if error.exit_code in WORTH_ANOTHER_TRY else AirflowFailException
            raise failure(f"dkeras {' '.join(arguments[:2])}: {error}") from None  # its frames explain nothing
