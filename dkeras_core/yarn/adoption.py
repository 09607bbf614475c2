"""At most one application works for a tag: of several that are alive, the one that was submitted first.

Submitters may die and be started again, and two of them may be at work at the same time without knowing of each other.
So each looks for a live application before it submits and again afterwards, and the driver looks when it starts. All
three go by the same order, which is that of submission and not that of the ids: an id is given out before the
submission, and the application with the lower id may come minutes after another has begun to work.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.resource_manager import ResourceManager

_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


def checked(tag: str) -> str:
    """Return a tag that the ResourceManager keeps as it is.

    Raises
    ------
    ConfigError
        It has other characters than lower case letters, digits, '.', '_' and '-', or more than 100.
    """
    if not _TAG.fullmatch(tag):
        raise ConfigError(
            f"{tag!r} is not a tag of an application", "use lower case letters, digits, '.', '_' and '-', at most 100"
        )
    return tag


def order(app: Application) -> tuple[float, tuple[int, ...]]:
    """Sort key: the application that was submitted first comes first."""
    return app.started, tuple(int(part) for part in re.findall(r"\d+", app.id))


def live(rm: ResourceManager, tag: str) -> list[Application]:
    """Return the applications with this tag that have not ended, the one that stays first."""
    return sorted(rm.apps(tags=[tag], states=LIVE_STATES), key=order)


def adopt(
    rm: ResourceManager, tag: str, *, timeout: float = 30.0, say: Callable[[str], None] = lambda text: None
) -> Application | None:
    """Return the one application that stays, None when none is alive; the others are killed, and have ended by then.

    Raises
    ------
    ClusterError
        The ResourceManager is silent, or one of the others could not be killed.
    """
    found = live(rm, tag)
    for late in found[1:]:
        say(f"{late.id} is killed: {found[0].id} was submitted before it for the same work")
        rm.kill(late.id, timeout)
    return found[0] if found else None


def end_all(
    rm: ResourceManager, tag: str, *, timeout: float = 30.0, say: Callable[[str], None] = lambda text: None
) -> list[Application]:
    """Kill all that is alive with this tag; return how it ended.

    Raises
    ------
    ClusterError
        For the first one that could not be killed, after the others were.
    """
    ended, refusals = [], []
    for app in live(rm, tag):
        try:
            ended.append(rm.kill(app.id, timeout))
            say(f"{app.id} {ended[-1].state}")
        except ClusterError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return ended


def elder(rm: ResourceManager, tag: str, app_id: str) -> Application | None:
    """Return the live application with this tag that was submitted before ``app_id``, None when there is none."""
    found = live(rm, tag)
    before = found[: next((index for index, app in enumerate(found) if app.id == app_id), 0)]
    return before[0] if before else None
