"""Find what is wrong with the permissions of a registry: see permissions.py, and docs/permissions.md."""

from __future__ import annotations

import contextlib
import json
import posixpath
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, PathMissing, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.folders import (
    Command,
    Difference,
    Level,
    Roles,
    Rule,
    model_rules,
    registry_rule,
    shell_lines,
)
from dkeras_core.storage.base import FileStatus, Storage
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

_READERS = 16


@dataclass(frozen=True)
class Finding:
    """Something about one path that is not as it should be.

    ``level``: "error" (somebody may do what they must not, or cannot do what they must), "warning", "note". ``mend``:
    shell lines for its owner or an administrator.
    """

    level: Level
    path: str
    what: str
    mend: tuple[str, ...] = ()


def doctor(registry: Registry, name: str | None = None) -> list[Finding]:
    """Look at the permissions of a registry, and of one model or all; return what is wrong, the worst first.

    Reads a listing of every folder, those of all versions included. Says what *this* user may do in a note.

    Raises
    ------
    RegistryError
        There is no such model, or permissions.json is damaged.
    """
    storage, layout = registry.storage, registry.layout
    models = registry.models() if name is None else [names.model_name(name)]
    if name is not None and not storage.exists(layout.model(name)):
        raise RegistryError(f"there is no model {name} below {layout.models()}", f"Run dkeras models init {name}.")
    roles = Roles.read(storage, layout)
    found = list(_of_registry(storage, layout.models(), roles))
    roles = roles or Roles()
    found += _of_rules(storage, [registry_rule(layout, roles)], roles)
    for model in models:
        found += _of_rules(storage, model_rules(layout, roles, model), roles)
        found += _of_model(registry, roles, model)
    levels = ["error", "warning", "note"]
    return sorted(found, key=lambda finding: levels.index(finding.level))


def _of_registry(storage: Storage, models: str, roles: Roles | None) -> Iterator[Finding]:
    if roles is None or not (roles.publishers and roles.operators):
        line = "dkeras models init --publishers GROUP --operators GROUP"
        yield Finding("warning", models, "no groups are set: a folder's owner publishes and promotes alone", (line,))
    elif roles.publishers == roles.operators:
        line = "dkeras models init --operators GROUP"
        yield Finding("warning", models, f"who may publish may promote: both are group {roles.operators}", (line,))
    above = posixpath.dirname(models)
    while roles is not None and above != "/":
        with contextlib.suppress(AccessDenied):
            status = storage.status(above)
            if status and not status.mode & 0o1:
                mend = shell_lines([Command("chmod", "o+x", above)], storage)
                yield Finding("error", above, "not everybody may pass it on the way to the models", tuple(mend))
        above = posixpath.dirname(above)


def _of_rules(storage: Storage, rules: list[Rule], roles: Roles) -> Iterator[Finding]:
    """Compare folders, parents first, with their rules; what is wrong with several in one way is one finding."""
    together: dict[tuple, list[tuple[Rule, Difference]]] = {}
    for rule in rules:
        status = storage.status(rule.path)
        acl = storage.acl(rule.path) if status else None
        for each in rule.differences(status, acl, roles.owner):
            alike = each.level, each.what, tuple((command.action, command.argument) for command in each.commands)
            together.setdefault(alike, []).append((rule, each))
    for (level, what, _), found in together.items():
        path, mend = found[0][0].path, shell_lines([c for _, each in found for c in each.commands], storage)
        if len(found) > 1:
            path, below = rules[0].path, [posixpath.relpath(rule.path, rules[0].path) for rule, _ in found]
            what = f"{', '.join('itself' if name == '.' else name for name in below)}: {what}"
        yield Finding(level, path, what, tuple(mend))


def _of_model(registry: Registry, roles: Roles, name: str) -> Iterator[Finding]:
    storage, layout = registry.storage, registry.layout
    versions = [s for s in _children(storage, layout.versions(name)) if names.version_number(s.name) and s.is_dir]
    with ThreadPoolExecutor(_READERS) as readers:
        for version, tree in zip(versions, readers.map(lambda v: list(_tree(storage, v)), versions), strict=True):
            what = f"version {version.name} can be changed"
            yield from _loose(storage, version.path, tree, 0o222, what)
    for folder, writable, what in (
        (layout.audit(name), 0o222, "entries of the audit can be changed"),
        (layout.aliases(name), 0o002, "everybody may write aliases"),
        (layout.marks(name), 0o002, "everybody may write marks"),
        (layout.tombstones(name), 0o002, "everybody may write tombstones"),
    ):
        files = [status for status in _children(storage, folder) if not status.is_dir]
        yield from _loose(storage, f"{folder}/*", files, writable, what)
    yield from _of_authors(registry, name)
    yield from _of_aliases(registry, name)
    if roles.operators and roles.operators != roles.publishers:
        publishing, theirs = {version.owner for version in versions}, {}
        for rule in model_rules(layout, roles, name):
            status = storage.status(rule.path)
            if status and rule.group != roles.publishers and status.owner in publishing:
                theirs.setdefault(status.owner, []).append(Command("chown", roles.owner or "ADMINISTRATOR", rule.path))
        for owner, commands in sorted(theirs.items()):
            which = ", ".join(posixpath.basename(command.path) for command in commands)
            what = f"{owner} has published and owns {which}, and so may promote by changing a mode"
            yield Finding("warning", layout.model(name), what, tuple(shell_lines(commands, storage)))
    yield from _own_rights(registry, name)


def _of_authors(registry: Registry, name: str) -> Iterator[Finding]:
    """Compare whom the entries of the audit name with whom the file system has seen."""
    storage = registry.storage

    def author(status: FileStatus) -> str | None:
        with contextlib.suppress(StorageError, ValueError):
            entry = json.loads(storage.read_bytes(status.path))
            return entry.get("user") if isinstance(entry, dict) else None
        return None

    files = [status for status in _children(storage, registry.layout.audit(name)) if not status.is_dir]
    with ThreadPoolExecutor(_READERS) as readers:
        for status, user in zip(files, readers.map(author, files), strict=True):
            if user is not None and user != status.owner:
                yield Finding("warning", status.path, f"says that {user} did it, but {status.owner} wrote it")


def _of_aliases(registry: Registry, name: str) -> Iterator[Finding]:
    """Look whether the aliases were set by the book, and name versions that are still what was promoted."""
    layout = registry.layout
    for status in _children(registry.storage, layout.aliases(name)):
        if not names.NAME.fullmatch(status.name) or status.is_dir:
            continue
        try:
            pointer = registry.pointer(name, status.name)
            if pointer is None:
                continue
            if pointer.entry is None:
                yield Finding("warning", status.path, "says not which entry of the audit is its own; promote again")
            elif not registry.storage.exists(f"{layout.audit(name)}/{pointer.entry}.json"):
                yield Finding("error", status.path, f"names the entry {pointer.entry}, which is not in the audit")
            if pointer.digest and pointer.digest != registry.digest(name, pointer.number):
                what = f"version {pointer.number} is not what was promoted: its manifest is another"
                yield Finding("error", status.path, what, (f"dkeras models verify {name}@{pointer.number}",))
        except RegistryError as error:
            yield Finding("error", status.path, error.what)


def _loose(storage: Storage, path: str, below: list[FileStatus], writable: int, what: str) -> Iterator[Finding]:
    """Report what stands at ``path`` with rights too wide or too narrow, all of it in one or two findings."""
    change = [status for status in below if status.mode & writable]
    if change:
        others = any(status.mode & writable & 0o022 for status in change)
        who = "by others than its owner" if others else "by its owner"
        mend = _chmod_line(storage, "a-w" if writable & 0o200 else "o-w", path)
        yield Finding("error" if others else "warning", path, f"{what} {who}: {_named(change)}", (mend,))
    closed = [status for status in below if (wanted := 0o5 if status.is_dir else 0o4) & status.mode != wanted]
    if closed:
        mend = _chmod_line(storage, "a+rX", path)
        yield Finding("error", path, f"not everybody may read {_named(closed)}", (mend,))


def _chmod_line(storage: Storage, change: str, path: str) -> str:
    if isinstance(storage, LocalStorage):
        folder, star = (path[:-1], "*") if path.endswith("/*") else (path, "")
        return f"chmod -R {change} {shlex.quote(folder)}{star}"
    return f"hdfs dfs -chmod -R {change} {shlex.quote(path)}"  # HDFS's shell expands a quoted star


def _named(found: list[FileStatus]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(status.name for status in found[:3]) + more


def _own_rights(registry: Registry, name: str) -> Iterator[Finding]:
    storage, layout = registry.storage, registry.layout
    may = {}
    for verb, folder in (("publish", layout.versions(name)), ("promote", layout.aliases(name))):
        with contextlib.suppress(PathMissing):
            may[verb] = storage.allows(folder, "wx")
    said = ", ".join(f"you {'may' if allowed else 'may not'} {verb}" for verb, allowed in may.items())
    if said:
        yield Finding("note", layout.model(name), said)


def _children(storage: Storage, folder: str) -> list[FileStatus]:
    try:
        return storage.list(folder)
    except (PathMissing, AccessDenied):  # the folder itself is reported by its rule
        return []


def _tree(storage: Storage, status: FileStatus) -> Iterator[FileStatus]:
    """Yield a folder and everything below it."""
    yield status
    for child in _children(storage, status.path) if status.is_dir else ():
        yield from _tree(storage, child)
