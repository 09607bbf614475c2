"""Set up a registry that two groups share, and find what is wrong with one: docs/permissions.md.

Publishers add versions and cannot promote; operators promote and cannot change a version; everybody reads. HDFS keeps
that by itself, by owners, groups, modes and sticky bits: no service stands between, so nothing here has to run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, PathMissing, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.folders import (
    ORDER,
    Command,
    Roles,
    Rule,
    model_rules,
    registry_rule,
    roles_path,
    shell_lines,
)
from dkeras_core.registry.inspection import Finding, doctor
from dkeras_core.storage.base import Storage

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

__all__ = ["Finding", "Setup", "doctor", "init", "require_promotion"]


@dataclass(frozen=True)
class Setup:
    """What ``init`` did, and what only somebody with more rights can do: lines for a shell, in their order."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


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
    """Raise AccessDenied when this user may not change the aliases, marks and tombstones of a model.

    Cheap: for asking before gates that take a minute. A model without folders passes, since making them tells.
    """
    storage, layout = registry.storage, registry.layout
    for folder in (layout.leases(name), layout.audit(name), layout.aliases(name)):
        with contextlib.suppress(PathMissing):
            if not storage.allows(folder, "wx"):
                roles = Roles.read(storage, layout) or Roles()
                who = f"a member of the group {roles.operators}" if roles.operators else f"the owner of {folder}"
                raise AccessDenied(
                    f"{folder}: you may not write there, which promoting, tagging and deleting versions needs",
                    f"Ask {who}.",
                )
