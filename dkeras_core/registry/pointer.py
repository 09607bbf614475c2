"""What an alias holds: a version's number, the audit entry that put it there, and the hash that says which bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from dkeras_core.errors import RegistryError
from dkeras_core.registry import names

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pointer:
    """The content of an alias file: one line each, the number first, so that ``head -n 1`` is enough for a script.

    ``entry`` and ``digest`` (SHA-256 of the version's manifest.json) are None in files of one line, which older
    releases wrote.
    """

    number: int
    entry: str | None = None
    digest: str | None = None

    def to_bytes(self) -> bytes:
        return "".join(f"{line}\n" for line in (self.number, self.entry, self.digest) if line is not None).encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Self:
        """Read a pointer; RegistryError, naming ``path``, when it is none."""
        number, *rest = data.decode("ascii", "replace").split("\n")
        entry, digest = (*(line for line in rest if line), None, None)[:2]
        found = names.version_number(number.strip())
        if found is None or (digest is not None and not _DIGEST.fullmatch(digest)):
            raise RegistryError(
                f"{path}: holds {data[:40]!r} instead of a version's number", "Delete that file, then promote again."
            )
        return cls(found, entry, digest)
