"""The registry's folders, whose each is, and what keeps a folder from being that (docs/permissions.md).

Two groups share a registry: publishers add versions, operators decide what the aliases name. A folder that a group
writes in is sticky where entries are for ever (versions, audit, models) and not sticky where members replace each
other's files (aliases, leases, marks, tombstones, catalog). The model's own folder is written by nobody but its owner:
whoever may write there could rename all of versions/ away.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.storage.access import group_may, writers
from dkeras_core.storage.base import FileStatus, Storage
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    from dkeras_core.paths import Layout

FORMAT = 1
Level = Literal["error", "warning", "note"]
_PRINCIPAL = re.compile(r"[^\s:,/\\-][^:,/\\\x00-\x1f\x7f]*")


class Roles(BaseModel):
    """Who is who in a registry, the content of ``<root>/models/permissions.json``.

    ``publishers`` and ``operators`` are groups, ``owner`` the user to whom the folders belong; None: not set.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    publishers: str | None = None
    operators: str | None = None
    owner: str | None = None

    def check(self) -> Roles:
        """Return itself; RegistryError when a name cannot stand in an access control list."""
        for role in ("publishers", "operators", "owner"):
            name = getattr(self, role)
            if name is not None and not _PRINCIPAL.fullmatch(name):
                raise RegistryError(f"{role}: {name!r} is no name of a user or group", "Name one as `id` prints it.")
        return self

    def to_bytes(self) -> bytes:
        return f"{self.model_dump_json(indent=1)}\n".encode()

    @classmethod
    def read(cls, storage: Storage, layout: Layout) -> Roles | None:
        """Return what a registry remembers, None before ``init``; RegistryError when that is damaged."""
        path = roles_path(layout)
        try:
            found = cls.model_validate_json(storage.read_bytes(path))
        except PathMissing:
            return None
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise RegistryError(
                f"{path}: is damaged ({said})",
                "Delete it; then dkeras models init --publishers GROUP --operators GROUP.",
            ) from error
        if found.format > FORMAT:
            raise RegistryError(f"{path}: is of format {found.format}, later than {FORMAT}", "Use a newer dkeras.")
        return found.check()


def roles_path(layout: Layout) -> str:
    return f"{layout.models()}/permissions.json"


@dataclass(frozen=True)
class Command:
    """One change of a folder: a call on a file system, and (``shell_lines``) what does the same in a shell."""

    action: Literal["mkdir -p", "chmod", "chgrp", "chown", "setfacl -m", "setfacl -x"]
    argument: str
    path: str

    def carry_out(self, storage: Storage) -> None:
        """Do it; StorageError when the file system refuses."""
        if self.action == "mkdir -p":
            storage.mkdirs(self.path)
        elif self.action == "chmod":
            storage.set_mode(self.path, int(self.argument, 8))
        elif self.action == "setfacl -m":
            storage.add_acl(self.path, self.argument.split(","))
        elif self.action == "chgrp":
            storage.set_owner(self.path, group=self.argument)
        elif self.action == "chown":
            storage.set_owner(self.path, owner=self.argument)
        else:
            raise NotImplementedError(self.action)  # rights that somebody gave on purpose are taken away by hand


ORDER = ("mkdir -p", "setfacl -x", "setfacl -m", "chgrp", "chmod", "chown")
"""In which order commands are given: the group before the mode, which would else let the wrong group write."""


def shell_lines(commands: Iterable[Command], storage: Storage) -> list[str]:
    """Return the lines that do the same, one for all paths that need the same."""
    program = "" if isinstance(storage, LocalStorage) else "hdfs dfs -"
    together: dict[tuple[str, str], list[str]] = {}
    for command in sorted(commands, key=lambda command: ORDER.index(command.action)):
        together.setdefault((command.action, command.argument), []).append(command.path)
    return [
        f"{program}{action} {shlex.join([*([argument] if argument else []), *dict.fromkeys(paths)])}"
        for (action, argument), paths in together.items()
    ]


@dataclass(frozen=True)
class Difference:
    """What is wrong with a folder, and what mends it."""

    level: Level
    what: str
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Rule:
    """How one folder shall be.

    ``group`` writes in it (None: its owner alone); ``verb`` is what that group does by it. ``private``: nobody has
    said which group that is, so the group that it has is left alone.
    """

    path: str
    group: str | None = None
    sticky: bool = False
    verb: str = "write here"
    private: bool = False

    @property
    def mode(self) -> int:
        return (0o1775 if self.sticky else 0o775) if self.group else 0o755

    def by_list(self) -> Command:
        """Let the group write although the folder belongs to another one."""
        return Command("setfacl -m", f"group::r-x,group:{self.group}:rwx", self.path)

    def differences(self, status: FileStatus | None, acl: Sequence[str] | None, owner: str | None) -> list[Difference]:
        """Compare with what stands there; ``acl`` as Storage.acl gives it, ``owner`` as in Roles."""
        if status is None:
            commands = [Command("mkdir -p", "", self.path)]
            if self.group:
                commands += [Command("chgrp", self.group, self.path)]
            commands += [Command("chmod", f"{self.mode:o}", self.path)]
            if owner:
                commands += [Command("chown", owner, self.path)]
            return [Difference("error", "does not exist", tuple(commands))]
        if not status.is_dir:
            return [Difference("error", "is a file where a folder belongs")]
        return list(self._found(status, acl, owner))

    def _found(self, status: FileStatus, acl: Sequence[str] | None, owner: str | None) -> Iterator[Difference]:
        chmod = Command("chmod", f"{self.mode:o}", self.path)
        chgrp = [Command("chgrp", self.group, self.path)] if self.group and status.group != self.group else []
        if self.group and not group_may(status, acl, self.group, "rwx"):
            yield Difference("error", f"group {self.group} cannot {self.verb}: it may not write here", (*chgrp, chmod))
        for who in sorted(writers(status, acl)):
            kind, _, name = who.partition(":")
            if who == f"group:{self.group}" or (self.private and who == f"group:{status.group}"):
                continue
            if who == "others":
                yield Difference("error", f"everybody may {self.verb}", (chmod,))
            elif who == f"group:{status.group}" and any(e.startswith("group::") for e in acl or ()):
                mend = Command("setfacl -m", "group::r-x", self.path)
                yield Difference("error", f"group {name} may {self.verb} too", (mend,))
            elif who == f"group:{status.group}":
                yield Difference("error", f"group {name} may {self.verb} too", (*chgrp, chmod))
            else:
                mend = Command("setfacl -x", who, self.path)
                yield Difference("error", f"{kind} {name} may {self.verb} too", (mend,))
        if status.mode & 0o5 != 0o5:
            yield Difference("error", "not everybody may read it", (chmod,))
        if self.group and self.sticky and not status.mode & 0o1000:
            yield Difference("error", f"is not sticky: who may {self.verb} may delete what others made", (chmod,))
        if self.group and not self.sticky and status.mode & 0o1000:
            yield Difference("error", "is sticky: members of its group cannot replace each other's files", (chmod,))
        if owner and status.owner != owner:
            change = Command("chown", owner, self.path)
            yield Difference("warning", f"belongs to {status.owner}, who may delete anything in it", (change,))


def registry_rule(layout: Layout, roles: Roles) -> Rule:
    """The folder of all models. Operators make new ones there; the page is replaced there, which sticky permits."""
    return Rule(layout.models(), roles.operators, True, "make models", roles.operators is None)


def model_rules(layout: Layout, roles: Roles, name: str) -> list[Rule]:
    """The folders of one model, parents first."""
    publishers, operators = roles.publishers, roles.operators

    def published(path: str, sticky: bool, verb: str) -> Rule:
        return Rule(path, publishers, sticky, verb, publishers is None)

    def operated(path: str, sticky: bool, verb: str) -> Rule:
        return Rule(path, operators, sticky, verb, operators is None)

    return [
        Rule(layout.model(name), private=operators is None),
        published(layout.versions(name), True, "publish"),
        published(layout.catalog(name).rpartition("/")[0], False, "keep the catalog"),
        operated(layout.aliases(name), False, "promote"),
        operated(layout.audit(name), True, "promote"),
        operated(layout.leases(name), False, "promote"),
        operated(layout.marks(name), False, "tag and archive"),
        operated(layout.tombstones(name), False, "collect versions"),
    ]
