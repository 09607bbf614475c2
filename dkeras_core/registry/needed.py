"""Which versions the aliases of a model need, so that nothing deletes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dkeras_core.registry import audit
from dkeras_core.registry.leftovers import children
from dkeras_core.registry.pointer import Pointer

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry


def pointers(registry: Registry, name: str) -> dict[str, Pointer]:
    """Return what each alias holds; RegistryError when one is damaged."""
    aliases = [status.name for status in children(registry, registry.layout.aliases(name))]
    found = {alias: registry.pointer(name, alias) for alias in aliases if not alias.startswith(".")}
    return {alias: pointer for alias, pointer in found.items() if pointer is not None}


def needed(registry: Registry, name: str, pointers: Mapping[str, Pointer]) -> dict[int, str]:
    """Return the versions that aliases need, with the reason: named now, named before, or next after a roll-back."""
    now: dict[int, list[str]] = {}
    before: dict[int, list[str]] = {}
    for alias, pointer in sorted(pointers.items()):
        now.setdefault(pointer.number, []).append(alias)
        if pointer.entry is None:  # of an older release: no audit, no roll-back
            continue
        entry = audit.read(registry, name, pointer.entry)
        earlier = {entry.before.version}
        while entry.restores is not None:  # where promote.rollback goes back to
            entry = audit.read(registry, name, entry.restores)
        for number in sorted({*earlier, entry.before.version} - {None, pointer.number}):
            before.setdefault(number, []).append(alias)
    reasons = {number: f"{', '.join(aliases)} could be rolled back to it" for number, aliases in before.items()}
    return reasons | {number: f"named by {', '.join(aliases)}" for number, aliases in now.items()}
