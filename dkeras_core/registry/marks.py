"""Marks of a version that may change, though the version may not: tags, and whether it is archived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.errors import RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry


def refuse_unpromotable(registry: Registry, name: str, number: int) -> None:
    """Raise RegistryError when no alias may name this version."""
    if registry.storage.exists(registry.layout.tombstone(name, number)):
        raise RegistryError(f"{name}@{number} was deleted", f"`dkeras models history {name}` tells when and by whom.")
