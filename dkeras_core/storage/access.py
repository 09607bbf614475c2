"""HDFS's rules on who may do what with a file or folder, worked out from its mode and access control list.

The NameNode answers for the user who asks (``Storage.allows``); these functions answer for a group whose members are
not at hand, so that the set-up of a shared folder can be checked by anybody who may read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dkeras_core.storage.base import FileStatus

_BITS = {"r": 4, "w": 2, "x": 1}


def bits(rights: str) -> int:
    """Return "rw" or "rw-" as a number: 6."""
    return sum(_BITS[right] for right in rights if right != "-")


def symbolic(rights: str) -> str:
    """Return "wr" as HDFS writes it: "rw-"."""
    return "".join(right if right in rights else "-" for right in _BITS)


@dataclass(frozen=True)
class AclEntry:
    """One entry of an access control list; ``name`` is empty for the folder's own user and group."""

    kind: str
    name: str
    rights: int

    @classmethod
    def parse(cls, text: str) -> AclEntry:
        """Read ``group:operators:rwx``."""
        kind, name, rights = text.split(":")
        return cls(kind, name, bits(rights))


def entries(acl: Iterable[str] | None) -> list[AclEntry]:
    """Return the entries that decide about access; ``default:`` ones, which only new children take over, do not."""
    return [AclEntry.parse(text) for text in acl or () if not text.startswith("default:")]


def group_may(status: FileStatus, acl: Sequence[str] | None, group: str, rights: str) -> bool:
    """Tell whether members of ``group``, who neither own it nor are in another group that counts, have ``rights``.

    As the NameNode does it: of all entries for the group, the folder's own included, one must grant all of them
    within the mask; "others" count only where there is none.
    """
    wanted, mask = bits(rights), (status.mode >> 3) & 7
    found = [entry for entry in entries(acl) if entry.kind == "group"]
    if not any(entry.name == "" for entry in found):  # no list, or one of default entries alone: the mode is meant
        found.append(AclEntry("group", "", mask))
    granted = [entry.rights & mask for entry in found if (entry.name or status.group) == group]
    if not granted:
        granted = [status.mode & 7]
    return any(rights & wanted == wanted for rights in granted)


def writers(status: FileStatus, acl: Sequence[str] | None) -> set[str]:
    """Return who beside the owner may write: ``group:<name>``, ``user:<name>``, ``others``."""
    mask, found = (status.mode >> 3) & 7, entries(acl)
    if not any(entry.kind == "group" and entry.name == "" for entry in found):
        found.append(AclEntry("group", "", mask))
    may = {
        f"{entry.kind}:{entry.name or status.group}"
        for entry in found
        if (entry.kind == "group" or (entry.kind == "user" and entry.name)) and entry.rights & mask & 2
    }
    return may | ({"others"} if status.mode & 2 else set())
