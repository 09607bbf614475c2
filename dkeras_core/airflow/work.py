"""The work of one task instance on the cluster: what there is of it, and how its end is to be understood."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dkeras_core.cli import place
from dkeras_core.cli.place import Place
from dkeras_core.errors import ConfigError, DkerasError, PathMissing, StorageError
from dkeras_core.paths import Layout
from dkeras_core.yarn import adoption
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.explain import explain
from dkeras_core.yarn.follow import View, Watch, conclude
from dkeras_core.yarn.submission import run_tag

Say = Callable[[str], None]
STEPS = ("preprocess", "train", "evaluate", "publish")


def steps_of(asked: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the steps that are asked for, in the order of the pipeline; all of them for nothing, commas for a text.

    Raises
    ------
    ConfigError
        There is no such step.
    """
    given = asked.replace(",", " ").split() if isinstance(asked, str) else list(asked or STEPS)
    unknown = sorted(set(given) - set(STEPS))
    if unknown:
        raise ConfigError(f"unknown step {', '.join(unknown)}", f"steps are {', '.join(STEPS)}")
    return tuple(step for step in STEPS if step in given)


@dataclass(frozen=True)
class Work:
    """Steps of a run that carry one tag, whichever application does them.

    Parameters
    ----------
    root, run, tag : str
        The bundle's root folder, the run id and the task's YARN tag.
    steps : tuple of str
        In the order of the pipeline.
    """

    root: str
    run: str
    tag: str
    steps: tuple[str, ...]

    @cached_property
    def place(self) -> Place:
        return place.find(self.root)

    @property
    def folder(self) -> str:
        return Layout(self.root).run(self.run)

    def adopt(self, say: Say) -> Application | None:
        """Return the live application that does this work, others being ended."""
        return adoption.adopt(self.place.rm, self.tag, say=say)

    def end(self, say: Say, *, timeout: float = 30.0) -> None:
        """Kill what does this work, and see that it has ended."""
        adoption.end_all(self.place.rm, self.tag, timeout=timeout, say=say)

    def finished(self) -> dict | None:
        """Return the result of an application that has done this work, None when there is none."""
        result = self._read("result.json")
        done = result is not None and result.get("tag") == self.tag and result.get("status") == "succeeded"
        return result if done else None

    def published(self) -> dict | None:
        """Return the result of a run that is published, and whose steps are therefore done for good."""
        made = self._read("publish.json")
        if made is None:
            return None
        result = {"run": self.run, "application": None, "status": "succeeded"}
        return result | {"published": made.get("path"), "version": made.get("version"), "metrics": {}}

    def forget(self) -> None:
        """Remove the result of an earlier time, so that it is not taken for one of this time."""
        if self.finished() is not None:
            self.place.storage.delete(f"{self.folder}/result.json")

    def own(self, owner: dict) -> None:
        """Write down whose work this is, for the reaper."""
        path = f"{self.folder}/tasks/{self.tag}.json"
        self.place.storage.write_atomic(path, json.dumps(owner).encode())

    def look(self, application: str) -> View:
        return Watch(self.place.rm, application, self.place.storage, self.folder).look()

    def conclude(self, view: View, application: str, say: Say) -> dict:
        """Return the result, or raise what made it fail after its last lines have been said.

        Raises
        ------
        DkerasError
            The cause, as its own class.
        """
        try:
            return conclude(view, application)
        except DkerasError as error:
            if view.app is None or view.app.state == "KILLED" or view.app.final_status == "SUCCEEDED":
                raise
            found = explain(view.app, self.place.logs(view.app))
            if found.lines:
                say(f"last lines of the {found.role} ({found.container}):")
                for line in found.lines:
                    say(f"    {line}")
            say(f"whole log: {found.where}")
            if view.result and not found.killed:
                raise
            # What the driver saw of a container that YARN killed is only a lost connection.
            cause = type(error)(found.what, found.next_step or f"read {found.where}")
            cause.exit_code = error.exit_code
            raise cause from error

    def tidy(self) -> None:
        """Remove what Spark uploaded: an application that was killed cannot. Not while another one may need it."""
        with contextlib.suppress(DkerasError):
            if not self.place.rm.apps(tags=[run_tag(self.run)], states=LIVE_STATES):
                self.place.storage.delete(Layout(self.root).staging(self.run), recursive=True)

    def has_report(self) -> bool:
        with contextlib.suppress(StorageError):
            return self.place.storage.exists(f"{self.folder}/report.html")
        return False

    def _read(self, name: str) -> dict | None:
        try:
            return json.loads(self.place.storage.read_bytes(f"{self.folder}/{name}"))
        except (PathMissing, ValueError):
            return None
