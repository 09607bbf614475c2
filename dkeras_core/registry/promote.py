"""Point an alias at a version, and back at the one before."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dkeras_core.errors import Conflict, DkerasError, RegistryError
from dkeras_core.registry import audit, names
from dkeras_core.registry.change import commit
from dkeras_core.registry.pointer import Pointer

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry


class AnyVersion:
    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyVersion()
"""As ``expected``: whatever the alias names when the promotion begins."""

Expected = int | str | Pointer | AnyVersion | None
"""What a caller believes that an alias holds: a version, the id of an entry of the audit, a pointer, or nothing."""


def promote(
    registry: Registry,
    name: str,
    number: int,
    alias: str,
    *,
    expected: Expected = ANY,
    digest: str | None = None,
    reason: str | None = None,
    forced: bool = False,
    checks: Sequence[Mapping[str, Any]] = (),
    **timing: float,
) -> audit.Entry:
    """See Registry.promote."""
    before = _current(registry, name, alias)
    if before is not None and before.number == number and before.entry is not None:
        return audit.read(registry, name, before.entry)
    expect(registry, name, alias, before, expected)
    entry = audit.Entry(
        id=audit.new_id(before.entry if before else None),
        action="promote",
        name=name,
        alias=alias,
        version=number,
        digest=_digest(registry, name, number, digest, "while it was checked"),
        before=_before(before),
        reason=reason,
        forced=forced,
        checks=list(map(dict, checks)),
    )
    return _point(registry, entry, timing)


def rollback(
    registry: Registry,
    name: str,
    alias: str,
    *,
    to: int | None = None,
    expected: Expected = ANY,
    reason: str | None = None,
    **timing: float,
) -> audit.Entry:
    """See Registry.rollback."""
    before = _current(registry, name, alias)
    if to is not None and before is not None and before.number == to and before.entry is not None:
        return audit.read(registry, name, before.entry)
    expect(registry, name, alias, before, expected)
    target = _earlier(registry, name, alias, before, to)
    entry = audit.Entry(
        id=audit.new_id(before.entry if before else None),
        action="rollback",
        name=name,
        alias=alias,
        version=target.version,
        digest=_digest(registry, name, target.version, target.digest, "since it was promoted"),
        before=_before(before),
        restores=target.id,
        reason=reason,
    )
    return _point(registry, entry, timing)


def rollback_target(registry: Registry, name: str, alias: str, to: int | None = None) -> audit.Entry:
    """Return the entry that a roll-back would restore; RegistryError when there is none."""
    return _earlier(registry, name, alias, _current(registry, name, alias), to)


def _current(registry: Registry, name: str, alias: str) -> Pointer | None:
    return registry.pointer(name, names.alias_name(alias))


def holds(there: Pointer | None, expected: Expected) -> bool:
    """Tell whether an alias holds what the caller believes.

    An entry, and a pointer with its entry, is that very state: an alias that was moved and moved back has another one.
    """
    if expected is ANY:
        return True
    if isinstance(expected, Pointer):
        return there == expected
    if isinstance(expected, str):
        return there is not None and there.entry == expected
    return (there.number if there else None) == expected


def expect(registry: Registry, name: str, alias: str, there: Pointer | None, expected: Expected) -> None:
    """Raise Conflict when an alias does not hold what the caller believes."""
    if holds(there, expected):
        return
    number = there.number if there else None
    believed = _number(registry, name, expected)
    says = f"names version {number}" if there else "names no version"
    if number == believed:
        said = f"was moved meanwhile, and {says} again"
    else:
        said = f"{says}, not {'none' if believed is None else believed} as expected"
    raise Conflict(
        f"{alias} of {name} {said}; nothing was done", "Look at it (dkeras models history), and decide anew."
    )


def _number(registry: Registry, name: str, expected: Expected) -> int | str | None:
    """Return the version that is meant, an entry's id where there is no such entry."""
    if isinstance(expected, Pointer):
        return expected.number
    if isinstance(expected, str):
        with contextlib.suppress(DkerasError):
            return audit.read(registry, name, expected).version
    return expected


def _digest(registry: Registry, name: str, number: int, wanted: str | None, since: str) -> str:
    """Return a version's digest; RegistryError when it is not the one that is ``wanted``."""
    found = registry.digest(name, number)
    if wanted not in (None, found):
        version = registry.at(name, number)
        raise RegistryError(
            f"{version} was changed {since}: its manifest's SHA-256 is {found[:12]}…, not {wanted[:12]}…",
            f"Take another version, and see who can write to {version.path}.",
        )
    return found


def _before(pointer: Pointer | None) -> audit.Before:
    return audit.Before(version=pointer.number, entry=pointer.entry) if pointer else audit.Before()


def _earlier(registry: Registry, name: str, alias: str, current: Pointer | None, to: int | None) -> audit.Entry:
    """Return the entry whose state a roll-back restores.

    A roll-back undoes a promotion, and a second one the promotion before that: from a state that was restored it goes
    on where the restored one came from, not back to what the first roll-back has left.
    """

    if current is None or current.entry is None:
        raise RegistryError(f"{alias} of {name} has no earlier version in its audit", "Promote the version instead.")

    def load(entry: str) -> audit.Entry:
        return audit.read(registry, name, entry)

    if to is not None:
        for entry in audit.chain(current.entry, load):
            if entry.version == to and entry.id != current.entry:
                return entry
        raise RegistryError(f"{alias} of {name} never named version {to}", "See dkeras models history, or promote it.")
    entry = load(current.entry)
    while entry.restores is not None:
        entry = load(entry.restores)
    if entry.before.entry is None:
        said = f"promotion of version {entry.version} was its first"
        if entry.before.version is not None:
            said = f"version {entry.before.version} before it was promoted by an older release, without an entry"
        raise RegistryError(f"{alias} of {name} has nothing to go back to: {said}", "Promote the version instead.")
    return load(entry.before.entry)


def _point(registry: Registry, entry: audit.Entry, timing: Mapping[str, float]) -> audit.Entry:
    from dkeras_core.registry import marks

    def verify() -> None:
        version = registry.at(entry.name, entry.version)
        status = registry.storage.status(version.path)
        if status is None or not status.is_dir:
            raise RegistryError(f"{version} does not exist any more [{version.path}]", "See dkeras models list.")
        marks.refuse_unpromotable(registry, entry.name, entry.version)
        # An alias of an older release names no entry, so its number has to be compared as well.
        there = registry.pointer(entry.name, entry.alias)
        if (there.number if there else None) != entry.before.version:
            raise Conflict(
                f"{entry.alias} of {entry.name} was changed meanwhile; nothing was done",
                "Look at it (dkeras models history), and decide anew.",
            )

    verify()
    pointer = Pointer(entry.version, entry.id, entry.digest)
    return commit(registry, entry, pointer.to_bytes(), verify=verify, **timing)
