"""Follow an application to its end, and say why it failed if it did."""

from __future__ import annotations

import contextlib

from dkeras_core.cli.console import stderr
from dkeras_core.cli.display import STEPS, display
from dkeras_core.cli.interruption import interrupted, terminable
from dkeras_core.cli.place import Place
from dkeras_core.errors import (
    ClusterError,
    ConfigError,
    DataError,
    DkerasError,
    EnvironmentBuildError,
    RegistryError,
    StorageError,
)
from dkeras_core.paths import Layout
from dkeras_core.scoring.output import tidy_run
from dkeras_core.yarn.explain import Explanation, explain
from dkeras_core.yarn.follow import View, Watch, conclude

# Errors whose message is the whole story: the log of a container would only bury it.
_TOLD = (ConfigError, DataError, StorageError, RegistryError, EnvironmentBuildError)


def watch(found: Place, app_id: str, run_id: str, root: str, steps: tuple[str, ...] = STEPS) -> dict:
    """Show the run until it ends and return its result.json.

    Raises
    ------
    DkerasError
        What made the run fail, with the exit code of that error.
    Interrupted
        After Ctrl-C or SIGTERM; it says what became of the application.
    """
    folder = Layout(root).run(run_id)
    view = View(None, None, None)
    try:
        with terminable(), display(run_id, app_id, steps) as picture:
            for view in Watch(found.rm, app_id, found.storage, folder).views():
                picture.show(view)
    except KeyboardInterrupt:
        with terminable():
            end = interrupted(found.rm, app_id, run_id)
        with contextlib.suppress(ClusterError):
            if found.rm.app(app_id).ended:
                clean(found, root, run_id)
        raise end from None
    clean(found, root, run_id)
    try:
        return conclude(view, app_id)
    except DkerasError as error:
        raise explained(error, view, found) from error


def explained(error: DkerasError, view: View, found: Place) -> DkerasError:
    """Print what the failed container wrote last, and return the error that names the root cause."""
    if view.app is None or view.app.state == "KILLED" or (view.result and isinstance(error, _TOLD)):
        return error
    explanation = explain(view.app, found.logs(view.app))
    print_lines(explanation)
    if view.result and not explanation.killed:
        return error
    # What the driver saw of a container that YARN killed is only a lost connection.
    cause = ClusterError(explanation.what, explanation.next_step or f"read {explanation.where}")
    cause.exit_code = error.exit_code
    return cause


def print_lines(explanation: Explanation) -> None:
    """Print the last lines of the failed container and where the whole log is."""
    console = stderr()
    if explanation.lines:
        console.print(f"last lines of the {explanation.role} ({explanation.container}):", style="bold", soft_wrap=True)
        for line in explanation.lines:
            console.print(f"  {line}", style="dim", soft_wrap=True, markup=False)
    console.print(f"whole log: {explanation.where}", soft_wrap=True, markup=False)


def clean(found: Place, root: str, run_id: str) -> None:
    """Remove what Spark uploaded for the application, and what a scoring was building: one that was killed cannot."""
    with contextlib.suppress(StorageError):
        found.storage.delete(Layout(root).staging(run_id), recursive=True)
    tidy_run(found.storage, Layout(root).run(run_id))
