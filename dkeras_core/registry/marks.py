"""What may be said of a version after it was published: tags, and that it is archived.

A version is immutable, so this stands in a file beside it, ``marks/<n>.json``, which changes as an alias does: by one
rename, under the lease, with an entry in the audit (change.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dkeras_core.errors import Conflict, PathMissing, RegistryError
from dkeras_core.registry import audit, names
from dkeras_core.registry.change import commit

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

FORMAT = 1
LONGEST = 256
"""Characters of a tag's value at most."""

_LOST = "Delete that file, and tag or archive the version again (dkeras models history has it), or restore the file."
_ATTEMPTS = 5  # two people who tag one version at the same time do not contradict each other


class Archived(BaseModel):
    """Who took a version out of use, when (UTC) and why."""

    model_config = ConfigDict(frozen=True)

    reason: audit.Words
    user: str
    time: AwareDatetime


class Mark(BaseModel):
    """The content of marks/<n>.json; without arguments what holds while there is no such file.

    ``entry`` is the id of the audit entry that made it so. Keys that a later release may add are kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: int = FORMAT
    entry: str | None = None
    tags: dict[str, str] = {}
    archived: Archived | None = None

    def to_bytes(self) -> bytes:
        value = self.model_dump(mode="json")
        return f"{json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Self:
        """Read a mark; RegistryError, naming ``path``, when it is damaged or of a format to come."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(data)["format"]
            if found > FORMAT:
                said = f"is of format {found}, this dkeras reads {FORMAT}"
                raise RegistryError(f"{path}: {said}", "Use a newer dkeras.")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise RegistryError(f"{path}: {place}: {first['msg']}", _LOST) from error


def read(registry: Registry, name: str, number: int) -> Mark:
    """Return what is said of a version; an empty mark when nothing is. RegistryError when the file is damaged."""
    path = registry.layout.mark(names.model_name(name), number)
    try:
        return Mark.from_bytes(registry.storage.read_bytes(path), path)
    except PathMissing:
        return Mark()


def tag(registry: Registry, name: str, number: int, changes: Mapping[str, str | None], **timing: float) -> Mark:
    """Set and remove tags of a version.

    Parameters
    ----------
    changes : mapping
        Key (the rule of names) -> value (printable text, 256 characters at most), or None to remove the tag. Tags
        that are not named stay.
    timing : float
        ``duration`` and ``wait`` of the lease, in seconds.

    Returns
    -------
    Mark
        What holds now. When it held before, nothing is written.

    Raises
    ------
    RegistryError
        A key or value against the rule, no such version, or others held the lease for too long.
    """
    for key, value in changes.items():
        names.tag_key(key)
        if value is not None and (len(value) > LONGEST or not value.isprintable()):
            raise RegistryError(
                f"the value of the tag {key!r} is not printable text of {LONGEST} characters at most",
                "Shorten it, and leave out line feeds and control characters.",
            )

    def update(mark: Mark, entry: audit.Entry) -> Mark:
        tags = mark.tags | {key: value for key, value in changes.items() if value is not None}
        return mark.model_copy(update={"tags": {k: v for k, v in tags.items() if changes.get(k, v) is not None}})

    return _change(registry, name, number, "tag", update, timing)


def archive(registry: Registry, name: str, number: int, reason: str, **timing: float) -> Mark:
    """Take a version out of use: no alias may name it any more. Its files stay.

    RegistryError when an alias names it, there is no reason or no such version; otherwise as ``tag``.
    """
    if not reason.strip():
        raise RegistryError("a version is archived for a reason", "Say why.")

    def update(mark: Mark, entry: audit.Entry) -> Mark:
        archived = mark.archived or Archived(reason=reason, user=entry.user, time=entry.time)
        return mark.model_copy(update={"archived": archived})

    return _change(registry, name, number, "archive", update, timing, reason)


def restore(registry: Registry, name: str, number: int, reason: str | None = None, **timing: float) -> Mark:
    """Undo ``archive``. Returns and raises as ``tag``."""

    def update(mark: Mark, entry: audit.Entry) -> Mark:
        return mark.model_copy(update={"archived": None})

    return _change(registry, name, number, "restore", update, timing, reason)


def refuse_unpromotable(registry: Registry, name: str, number: int) -> None:
    """Raise RegistryError when no alias may name the version: it is archived, or deleted."""
    _refuse_deleted(registry, name, number)
    archived = read(registry, name, number).archived
    if archived is not None:
        raise RegistryError(
            f"{name}@{number} is archived, by {archived.user} at {archived.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} "
            f"UTC: {archived.reason}",
            f"Promote another version, or first run `dkeras models restore {name}@{number}`.",
        )


def _refuse_deleted(registry: Registry, name: str, number: int) -> None:
    # gc writes the tombstone before it moves the version away.
    if registry.storage.exists(registry.layout.tombstone(name, number)):
        raise RegistryError(f"{name}@{number} was deleted", f"`dkeras models history {name}` tells when and by whom.")


def _change(
    registry: Registry,
    name: str,
    number: int,
    action: str,
    update: Callable[[Mark, audit.Entry], Mark],
    timing: Mapping[str, float],
    reason: str | None = None,
) -> Mark:
    """Write what ``update`` makes of the mark; again when somebody else has changed it in between."""
    version = registry.version(name, number)

    def verify() -> None:
        _refuse_deleted(registry, name, number)
        named = [alias for alias, target in registry.aliases(name).items() if target == number]
        if action == "archive" and named:
            raise RegistryError(
                f"{version} is in use: {', '.join(named)} {'names' if len(named) == 1 else 'name'} it",
                "Promote another version to that alias first.",
            )

    attempts = 0
    while True:
        before = read(registry, name, number)
        entry = audit.Entry(
            id=audit.new_id(before.entry),
            action=action,
            name=name,
            version=number,
            digest=_digest(registry, name, number),
            before=audit.Before(entry=before.entry),
            reason=reason,
        )
        after = update(before, entry)
        if after == before:
            return before
        entry = entry.model_copy(update={"detail": _difference(before, after)})
        after = after.model_copy(update={"entry": entry.id})
        try:
            commit(registry, entry, after.to_bytes(), verify=verify, **timing)
            return after
        except Conflict:
            attempts += 1
            if attempts == _ATTEMPTS:
                raise


def _digest(registry: Registry, name: str, number: int) -> str | None:
    """Return a version's digest; None for a damaged one, which may be archived for just that."""
    try:
        return registry.digest(name, number)
    except RegistryError:
        return None


def _difference(before: Mark, after: Mark) -> dict[str, dict[str, str]]:
    changed = {key: value for key, value in after.tags.items() if before.tags.get(key) != value}
    removed = {key: value for key, value in before.tags.items() if key not in after.tags}
    return {name: tags for name, tags in (("set", changed), ("removed", removed)) if tags}
