"""Set up a registry that two groups share, and find what is wrong with one: docs/permissions.md.

Publishers add versions and cannot promote; operators promote and cannot change a version; everybody reads. HDFS keeps
that by itself, by owners, groups, modes and sticky bits: no service stands between, so nothing here has to run.
"""

from __future__ import annotations

import contextlib
import posixpath
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, PathMissing, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.folders import (
    ORDER,
    Command,
    Level,
    Roles,
    Rule,
    model_rules,
    registry_rule,
    roles_path,
    shell_lines,
)
from dkeras_core.storage.base import FileStatus, Storage
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

_READERS = 16


@dataclass(frozen=True)
class Setup:
    """What ``init`` did, and what only somebody with more rights can do: lines for a shell, in their order."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """Something about one path that is not as it should be.

    ``level``: "error" (somebody may do what he must not, or cannot do what he must), "warning", "note". ``mend``:
    shell lines for its owner or an administrator.
    """

    level: Level
    path: str
    what: str
    mend: tuple[str, ...] = ()


def init(
    registry: Registry,
    name: str | None = None,
    *,
    publishers: str | None = None,
    operators: str | None = None,
    owner: str | None = None,
) -> Setup:
    """Make and mend the folders of a registry, and of one model or all that are there; doing it again changes nothing.

    Parameters
    ----------
    name : str, optional
        A model, which need not exist. Without it: the registry and every model in it.
    publishers, operators : str, optional
        The two groups. Remembered, so that they need not be given again.
    owner : str, optional
        The user to whom the folders shall belong: one who neither publishes nor promotes, since an owner may do
        anything. Only a superuser can give folders away.

    Raises
    ------
    RegistryError
        A name against the rules, or permissions.json is damaged.
    StorageError
        The file system fails. What it refuses is no failure: it is returned in ``Setup.left``.
    """
    storage, layout = registry.storage, registry.layout
    before = Roles.read(storage, layout) or Roles()
    given = {"publishers": publishers, "operators": operators, "owner": owner}
    roles = before.model_copy(update={key: value for key, value in given.items() if value is not None}).check()
    models = registry.models() if name is None else [names.model_name(name)]
    work = _Work(storage, roles)
    work.settle(registry_rule(layout, roles))
    remembered = roles == before or work.remember(roles_path(layout))
    for model in models:
        for rule in model_rules(layout, roles, model):
            work.settle(rule)
    setup = Setup(shell_lines(work.done, storage), shell_lines(work.left, storage))
    if roles != before:
        given = " ".join(f"--{key} {value}" for key, value in roles.model_dump(exclude={"format"}).items() if value)
        path = roles_path(layout)
        if remembered:
            setup.done.append(f"wrote {path}")
        else:
            setup.left.append(f"dkeras models init {given}  # as a user who may write {path}")
    return setup


class _Work:
    """Makes and mends folders as far as the file system lets this user; ``left`` is what it did not."""

    def __init__(self, storage: Storage, roles: Roles):
        self._storage, self._roles = storage, roles
        self.done: list[Command] = []
        self.left: list[Command] = []

    def settle(self, rule: Rule) -> None:
        commands = self._commands(rule)
        if commands and commands[0].action == "mkdir -p":
            if not self._attempt(commands[0]):
                self.left += commands
                return
            commands = self._commands(rule)
        stopped = False
        for command in commands:
            # Rights that somebody gave on purpose are taken away by hand.
            if stopped or command.action == "setfacl -x":
                self.left.append(command)
            elif not self._attempt(command):
                self.left.append(command)
                if command.action == "chgrp":
                    # Only a member of the group or a superuser may give a folder to it; but its owner may list it.
                    # Where that fails too, the mode must not be set: it would let the wrong group write.
                    stopped = not self._attempt(rule.by_list())
                    if not stopped:
                        self.left.pop()

    def _commands(self, rule: Rule) -> list[Command]:
        status = self._storage.status(rule.path)
        acl = self._storage.acl(rule.path) if status else None
        found = [command for each in rule.differences(status, acl, self._roles.owner) for command in each.commands]
        return sorted(dict.fromkeys(found), key=lambda command: ORDER.index(command.action))

    def _attempt(self, command: Command) -> bool:
        try:
            command.carry_out(self._storage)
        except AccessDenied:
            return False
        except StorageError:
            if command.action == "setfacl -m":  # this file system keeps no lists
                return False
            raise
        self.done.append(command)
        return True

    def remember(self, path: str) -> bool:
        try:
            self._storage.write_atomic(path, self._roles.to_bytes(), mode=0o644)
        except AccessDenied:
            return False
        return True


def require_promotion(registry: Registry, name: str) -> None:
    """Raise AccessDenied when this user may not change the aliases of a model.

    Cheap: for asking before gates that take a minute. A model without folders passes, since making them tells.
    """
    storage, layout = registry.storage, registry.layout
    for folder in (layout.leases(name), layout.audit(name), layout.aliases(name)):
        with contextlib.suppress(PathMissing):
            if not storage.allows(folder, "wx"):
                roles = Roles.read(storage, layout) or Roles()
                who = f"a member of the group {roles.operators}" if roles.operators else f"the owner of {folder}"
                raise AccessDenied(f"{folder}: you may not write there, so you cannot promote {name}", f"Ask {who}.")


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
    found += _of_rule(storage, registry_rule(layout, roles), roles)
    for model in models:
        for rule in model_rules(layout, roles, model):
            found += _of_rule(storage, rule, roles)
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


def _of_rule(storage: Storage, rule: Rule, roles: Roles) -> Iterator[Finding]:
    status = storage.status(rule.path)
    acl = storage.acl(rule.path) if status else None
    for each in rule.differences(status, acl, roles.owner):
        yield Finding(each.level, rule.path, each.what, tuple(shell_lines(each.commands, storage)))


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
    if roles.operators and roles.operators != roles.publishers:
        publishing = {version.owner for version in versions}
        for rule in model_rules(layout, roles, name):
            status = storage.status(rule.path)
            if status and rule.group != roles.publishers and status.owner in publishing:
                what = f"belongs to {status.owner}, who has published: he may promote by changing its mode"
                mend = shell_lines([Command("chown", roles.owner or "ADMINISTRATOR", rule.path)], storage)
                yield Finding("warning", rule.path, what, tuple(mend))
    yield from _own_rights(registry, name)


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
