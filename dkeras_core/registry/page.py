"""The page of all models: one HTML file without scripts that asks for nothing else, at ``<root>/models/index.html``.

It is a copy of the registry's state at one moment and never the truth. ``overview`` reads, ``page_rows`` puts into
words, ``page_figures`` draws, ``templates/`` lays out; layout and look are the report's, whose style sheet comes first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, StorageError
from dkeras_core.evaluation import pages
from dkeras_core.registry import overview, page_rows

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

STALE = 24 * 3600.0
"""Seconds after which a temporary file of the page belongs to a process that died."""

_ATTEMPTS = 3
_LOGGER = logging.getLogger(__name__)


def render(registry: Registry) -> str:
    """Return the page as HTML; StorageError when the file system does not answer.

    What is damaged in the registry is named on the page.
    """
    environment = pages.environment("dkeras_core.registry")
    environment.filters.update(moment=page_rows.moment, minute=page_rows.minute, day=page_rows.day)
    css = pages.template("report.css") + pages.template("page.css", "dkeras_core.registry")
    return environment.get_template("page.html").render(css=css, **page_rows.context(overview.read(registry)))


def write(registry: Registry) -> str:
    """Write the page to ``<root>/models/index.html`` in one step; return its path.

    When the registry has changed in between, it is written again, so that of two writers at once the later state stays.
    StorageError when the file system refuses.
    """
    path = registry.layout.index()
    for _ in range(_ATTEMPTS):
        before = _state(registry)
        registry.storage.write_atomic(path, render(registry).encode(), mode=0o644)
        if _state(registry) == before:
            break
    _clear_stale(registry)
    return path


def refresh(registry: Registry) -> None:
    """Write the page if that is possible; what was done before has succeeded, whatever happens here.

    Who may publish or promote need not be allowed to write the page, and that is no error: it is logged.
    """
    try:
        write(registry)
    except AccessDenied as error:
        _LOGGER.info("the page of the models was not written: %s", error.what)
    except Exception as error:
        _LOGGER.warning("the page of the models was not written: %s", getattr(error, "what", repr(error)))


def _state(registry: Registry) -> dict[str, list[tuple[str, float]]]:
    """Return when the folders of each model were changed last: a listing a model."""
    return {
        name: [
            (status.name, status.modified)
            for status in registry.storage.list(registry.layout.model(name))
            if status.name not in ("catalog", "leases")
        ]
        for name in registry.models()
    }


def _clear_stale(registry: Registry) -> None:
    """Remove the temporary files of writers that died more than a day ago, by the file system's own clock."""
    try:
        there = registry.storage.list(registry.layout.models())
        now = next((status.modified for status in there if status.name == "index.html"), 0.0)
        for status in there:
            if status.name.startswith(".index.html.") and now - status.modified > STALE:
                registry.storage.delete(status.path)
    except StorageError:
        pass  # the page is written; sweeping is for those who may
