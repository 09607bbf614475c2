"""The audit: one immutable entry for each change of an alias, a mark or a tombstone, and the chain that links them.

An entry is written before the change it tells of, and the file that changes names its entry. So the chain that begins
at the file and goes from entry to the one before explains its state exactly; an entry that stands on no chain is an
attempt that ended before its commit point.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import posixpath
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.registry.pointer import Pointer

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry
    from dkeras_core.storage.base import Storage

FORMAT = 1
ALIASED = ("promote", "rollback")
MARKED = ("archive", "restore", "tag")
ID = r"^\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}$"
_TIME = "%Y%m%dT%H%M%S.%fZ"
_READERS, _AT_ONCE = 16, 64


Words = Annotated[str, AfterValidator(lambda text: text.encode("utf-8", "replace").decode())]
"""What people type: bytes of an argument that are no UTF-8 must not fail a change, least of all after its gates."""


def new_id(after: str | None = None) -> str:
    """Return the id of a new entry; ids sort by time, and later than ``after``, however wrong a clock is."""
    now = datetime.now(UTC)
    if after is not None:
        with contextlib.suppress(ValueError, OverflowError):
            before = datetime.strptime(after.partition("-")[0], _TIME).replace(tzinfo=UTC)
            now = max(now, before + timedelta(microseconds=1))
    return f"{now:{_TIME}}-{secrets.token_hex(4)}"


def current_user() -> str:
    """Return whose name goes into what this process writes."""
    # In a container the process may run as YARN's user; Hadoop and Spark say for whom.
    return os.environ.get("HADOOP_USER_NAME") or os.environ.get("SPARK_USER") or getpass.getuser()


class Before(BaseModel):
    """What the changed file said before: a version where it is an alias, and the id of its entry."""

    model_config = ConfigDict(frozen=True)

    version: int | None = None
    entry: str | None = None


class Entry(BaseModel):
    """The content of audit/<id>.json.

    ``version`` is the one that an alias names afterwards, or that is marked or deleted; ``digest`` the SHA-256 of its
    manifest.json. ``restores`` is, of a rollback, the entry whose state came back. ``checks`` are the outcomes of the
    gates, ``forced`` whether one of them failed and was overruled, for the ``reason``.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    format: int = FORMAT
    id: str = Field(default_factory=new_id, pattern=ID)
    action: Literal["promote", "rollback", "archive", "restore", "tag", "delete"]
    name: str
    alias: str | None = None
    version: int
    digest: str | None = None
    before: Before = Before()
    restores: str | None = None
    user: str = Field(default_factory=current_user)
    host: str = Field(default_factory=socket.gethostname)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    reason: Words | None = None
    forced: bool = False
    checks: list[dict[str, Any]] = []
    detail: dict[str, Any] = {}

    @property
    def target(self) -> str:
        """The file that this entry changes, below the model's folder."""
        if self.action in ALIASED:
            return f"aliases/{self.alias}"
        return f"{'marks' if self.action in MARKED else 'tombstones'}/{self.version}.json"

    def to_bytes(self) -> bytes:
        value = self.model_dump(mode="json", exclude_none=True)
        return f"{json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Entry:
        """Read an entry; RegistryError, naming ``path``, when it is damaged or of a format to come."""
        try:
            entry = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise RegistryError(f"{path}: {place}: {first['msg']}", "Somebody changed the audit; see who.") from error
        if entry.format > FORMAT:
            raise RegistryError(
                f"{path}: is of format {entry.format}, this dkeras reads {FORMAT}", "Use a newer dkeras."
            )
        return entry


@dataclass(frozen=True)
class Event:
    """An entry, and whether it took effect."""

    entry: Entry
    applied: bool


def read(registry: Registry, name: str, entry: str) -> Entry:
    """Return one entry; PathMissing, RegistryError."""
    path = f"{registry.layout.audit(name)}/{entry}.json"
    return Entry.from_bytes(registry.storage.read_bytes(path), path)


def head(storage: Storage, path: str) -> str | None:
    """Return the id of the entry that a file of aliases/, marks/ or tombstones/ names; None when it names none."""
    try:
        data = storage.read_bytes(path)
    except PathMissing:
        return None
    if posixpath.basename(posixpath.dirname(path)) == "aliases":  # whose names may end in anything
        return Pointer.from_bytes(data, path).entry
    try:
        return json.loads(data)["entry"]
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{path}: does not name its audit entry ({error!r})", "Restore it from a backup."
        ) from error


def _head_if_sound(storage: Storage, path: str) -> str | None:
    try:
        return head(storage, path)
    except RegistryError:
        return None


def chain(start: str | None, load: Callable[[str], Entry]) -> Iterator[Entry]:
    """Yield the entries from ``start`` back to the first one; ``load`` reads one by its id."""
    seen = set()
    while start is not None and start not in seen:  # a circle can only be forged
        seen.add(start)
        entry = load(start)
        yield entry
        start = entry.before.entry


def in_effect(registry: Registry, entry: Entry) -> bool:
    """Tell whether an entry has taken effect, also when others have followed it."""
    first = head(registry.storage, f"{registry.layout.model(entry.name)}/{entry.target}")
    for found in chain(first, lambda id_: read(registry, entry.name, id_)):
        # The one before it follows it on the chain: when that comes first, ten thousand others need not be read.
        if found.id in (entry.id, entry.before.entry):
            return found.id == entry.id
    return False


def history(registry: Registry, name: str, alias: str | None = None, limit: int | None = None) -> list[Event]:
    """Return what happened to a model, newest first; ``alias`` and ``limit`` leave entries out.

    RegistryError when an entry is damaged or one of a chain is missing. What led to the state of a file that is itself
    damaged cannot be told: its entries are shown as not applied.
    """
    try:
        there = registry.storage.list(registry.layout.audit(name))
    except PathMissing:
        return []
    ids = sorted((status.name.removesuffix(".json") for status in there if status.name.endswith(".json")), reverse=True)
    load = cache(lambda id_: read(registry, name, id_))
    # An alias's entries stand among those of others, so they are read some at a time until there are enough.
    step = max(len(ids) if limit is None else limit, _AT_ONCE if alias else 1)
    entries: list[Entry] = []
    with ThreadPoolExecutor(_READERS) as readers:
        for at in range(0, len(ids), step):
            read_now = readers.map(load, ids[at : at + step])
            entries += [entry for entry in read_now if alias is None or entry.alias == alias]
            if limit is not None and len(entries) >= limit:
                break
        entries = entries[:limit]
        files = sorted({entry.target for entry in entries})
        folder = registry.layout.model(name)
        heads = list(readers.map(lambda file: _head_if_sound(registry.storage, f"{folder}/{file}"), files))
    oldest = entries[-1].id if entries else ""
    applied = set()
    for start in heads:
        for entry in chain(start, load):
            applied.add(entry.id)
            if entry.id < oldest:
                break
    return [Event(entry, entry.id in applied) for entry in entries]
