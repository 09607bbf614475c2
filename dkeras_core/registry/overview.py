"""All that the page shows of a registry, read in few requests; what cannot be read becomes a notice on the page."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.registry import audit
from dkeras_core.registry.catalog import Summary, summaries
from dkeras_core.registry.pointer import Pointer

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

EVENTS = 100
"""Entries of the audit that are read for each model, the newest ones."""

MOVES = 20
"""Entries that are read back from each alias, so that a great cleaning does not push its history off the page."""

_READERS = 8
_MODELS = 4
Result = TypeVar("Result")


@dataclass(frozen=True)
class Alias:
    """An alias, what it names (None: unreadable), and its last entries in the audit, newest first.

    There are none when an older release wrote it, or when the audit cannot be read.
    """

    name: str
    pointer: Pointer | None
    moves: Sequence[audit.Entry] = ()

    @property
    def entry(self) -> audit.Entry | None:
        """The entry that put it where it is."""
        return self.moves[0] if self.moves else None


@dataclass
class Model:
    """A model: versions with the newest first, aliases with production first, events with the newest first.

    ``deleted`` are versions of which tombstones tell; ``more`` says that the audit holds older events; ``notices`` are
    what could not be read, and other things that somebody should look at.
    """

    name: str
    versions: list[Summary] = field(default_factory=list)
    deleted: list[Summary] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    events: list[audit.Event] = field(default_factory=list)
    more: bool = False
    notices: list[str] = field(default_factory=list)

    def version(self, number: int | None) -> Summary | None:
        """Return a version that is or was, by number."""
        return self._by_number.get(number)

    @functools.cached_property
    def _by_number(self) -> dict[int, Summary]:
        return {summary.number: summary for summary in [*self.deleted, *self.versions]}

    @property
    def production(self) -> Alias | None:
        return next((alias for alias in self.aliases if alias.name == "production"), None)

    @property
    def current(self) -> Summary | None:
        """The version that production runs; without one the newest."""
        pointer = self.production.pointer if self.production else None
        found = self.version(pointer.number) if pointer else None
        return found or (self.versions[0] if self.versions else None)

    @property
    def changed(self) -> datetime | None:
        """When a version was last published, or an alias or mark last changed."""
        times = [event.entry.time for event in self.events[:1]]
        times += [summary.created for summary in self.versions if summary.created][:1]
        return max(times, default=None)


@dataclass(frozen=True)
class Overview:
    """The registry below ``root`` at the time of reading."""

    root: str
    time: datetime
    models: list[Model]


def read(registry: Registry) -> Overview:
    """Read all models; StorageError when the file system does not answer."""
    time = datetime.now(UTC)
    with ThreadPoolExecutor(_MODELS) as readers:
        models = list(readers.map(lambda name: read_model(registry, name), registry.models()))
    return Overview(registry.layout.root, time, models)


def read_model(registry: Registry, name: str) -> Model:
    """Read one model: some ten requests, one for each alias and event, and those of the catalog."""
    model = Model(name)
    model.aliases = _aliases(registry, model)
    found = _or_notice(model, lambda: summaries(registry, name, deleted=True), [])
    model.versions = [summary for summary in found if summary.deleted is None]
    model.deleted = [summary for summary in found if summary.deleted is not None]
    model.notices += [f"{name}@{summary.number}: {summary.problem}" for summary in found if summary.problem]
    events = _or_notice(model, lambda: registry.history(name, limit=EVENTS + 1), [])
    model.more = len(events) > EVENTS
    read = {event.entry.id: event for event in events[:EVENTS]}
    read |= {entry.id: audit.Event(entry, True) for alias in model.aliases for entry in alias.moves}
    model.events = [read[id_] for id_ in sorted(read, reverse=True)]
    living = {summary.number for summary in model.versions}
    for alias in model.aliases:
        if alias.pointer and alias.pointer.number not in living:
            model.notices.append(f"{alias.name} names version {alias.pointer.number}, which does not exist")
        elif alias.pointer and alias.pointer.digest and model.version(alias.pointer.number).digest is not None:
            _vouch(model, alias)
    return model


def _vouch(model: Model, alias: Alias) -> None:
    found = model.version(alias.pointer.number).digest
    if found != alias.pointer.digest:
        model.notices.append(
            f"the manifest of version {alias.pointer.number} was changed since it was promoted to {alias.name}: "
            f"its SHA-256 is {found[:12]}…, not {alias.pointer.digest[:12]}…"
        )


def _aliases(registry: Registry, model: Model) -> list[Alias]:
    try:
        there = registry.storage.list(registry.layout.aliases(model.name))
    except PathMissing:
        return []
    found = sorted((status.name for status in there if not status.name.startswith(".")), key=lambda n: (_rank(n), n))
    with ThreadPoolExecutor(_READERS) as readers:
        aliases = list(readers.map(lambda alias: _alias(registry, model, alias), found))
    return [alias for alias in aliases if alias is not None]


def _alias(registry: Registry, model: Model, alias: str) -> Alias | None:
    missing = object()
    pointer = _or_notice(model, lambda: registry.pointer(model.name, alias), missing)
    if pointer is missing:
        return Alias(alias, None)
    if pointer is None:  # removed since it was listed
        return None
    moves: list[audit.Entry] = []
    chain = audit.chain(pointer.entry, lambda id_: audit.read(registry, model.name, id_))
    _or_notice(model, lambda: moves.extend(itertools.islice(chain, MOVES)), None)
    return Alias(alias, pointer, moves)


def _rank(alias: str) -> int:
    order = ("production", "staging", "candidate")
    return order.index(alias) if alias in order else len(order)


def _or_notice(model: Model, read: Callable[[], Result], otherwise: Result) -> Result:
    """Return what ``read`` does; when the registry is damaged there, say so on the page instead of failing."""
    try:
        return read()
    except (RegistryError, PathMissing) as error:
        model.notices.append(error.what)
        return otherwise


def value(summary: Summary | None, metric: str) -> float | None:
    """Return a metric of a version; None where it is missing or no finite number."""
    return _finite((summary.metrics if summary else {}).get(metric))


def interval(summary: Summary | None, metric: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric; of the AUC of older versions the one of its standard error."""
    metrics = summary.metrics if summary else {}
    intervals = metrics.get("intervals")
    pair = intervals.get(metric) if isinstance(intervals, Mapping) else None
    if isinstance(pair, list | tuple) and len(pair) == 2:
        low, high = map(_finite, pair)
        return (low, high) if low is not None and high is not None else None
    middle, error = value(summary, metric), _finite(metrics.get("roc_auc_se"))
    if metric == "roc_auc" and middle is not None and error is not None:
        return middle - 1.96 * error, middle + 1.96 * error
    return None


def _finite(number: Any) -> float | None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    return float(number)
