"""From what the user types to what the registry has: the root, ``higgs@production``, ``higgs@7``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry import Registry, Version


def open_registry(root: str) -> Registry:
    """Return the registry below ``root``: on this machine for file://, else on the cluster (cli/place.py)."""
    from dkeras_core.registry import Registry
    from dkeras_core.storage.paths import split_uri

    if split_uri(root)[0] == "file":
        from dkeras_core.storage import open_storage

        return Registry(open_storage(root), root)
    from dkeras_core.cli import place

    return Registry(place.find(root).storage, root)


def split(text: str) -> tuple[str, str | None]:
    """``higgs@7`` -> (higgs, 7); ``higgs`` -> (higgs, None)."""
    name, at, which = text.partition("@")
    return name, which if at else None


def find(registry: Registry, text: str) -> Version:
    """Return the version of NAME@NUMBER, NAME@ALIAS, or the newest one of NAME; RegistryError when there is none."""
    name, which = split(text)
    if which is not None:
        return registry.version(name, which)
    newest = registry.latest(name)
    if newest is None:
        raise no_model(registry, name)
    return newest


def find_one(registry: Registry, text: str) -> Version:
    """As ``find``, for commands that change something: the newest version must not be meant by accident."""
    name, which = split(text)
    if which is None:
        newest = registry.latest(name)
        if newest is None:
            raise no_model(registry, name)
        raise ConfigError(
            f"{name}: say which version this is about", f"Write {name}@NUMBER or {name}@ALIAS; the newest is {newest}."
        )
    return registry.version(name, which)


def find_alias(text: str, example: str) -> tuple[str, str]:
    """``higgs@production`` -> (higgs, production); ConfigError when no alias is named."""
    from dkeras_core.registry import names

    name, alias = split(text)
    if alias is None or names.version_number(alias) is not None:
        raise ConfigError(f"{text}: names no alias", f"Write NAME@ALIAS, such as {example}.")
    return names.model_name(name), names.alias_name(alias)


def known(registry: Registry, name: str) -> str:
    """Return ``name`` when it is a model of the registry (its last version may be deleted); RegistryError."""
    from dkeras_core.registry import names

    if not registry.storage.exists(registry.layout.model(names.model_name(name))):
        raise no_model(registry, name)
    return name


def no_model(registry: Registry, name: str) -> RegistryError:
    """Return the error that says which models there are."""
    there = registry.models()
    near = _meant(name, there)
    said = f"Did you mean {near}?" if near else f"Models there: {', '.join(there[:12]) or 'none'}."
    return RegistryError(f"{name} has no version below {registry.layout.models()}", said)


def _meant(name: str, there: list[str]) -> str | None:
    import difflib

    near = difflib.get_close_matches(name, there, n=1, cutoff=0.75)
    return near[0] if near else None


def pointers(registry: Registry, name: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return {alias: number} of a model, and {alias: what is wrong} of those that cannot be read.

    One unreadable file must not hide the others from whoever has to mend it.
    """
    from concurrent.futures import ThreadPoolExecutor

    from dkeras_core.errors import PathMissing

    try:
        files = [status.name for status in registry.storage.list(registry.layout.aliases(name))]
    except PathMissing:
        return {}, {}
    found: dict[str, int] = {}
    damaged: dict[str, str] = {}

    def read(alias: str) -> None:
        try:
            number = registry.alias(name, alias)
            if number is not None:
                found[alias] = number
        except RegistryError as error:
            damaged[alias] = error.what

    with ThreadPoolExecutor(8) as readers:
        list(readers.map(read, [alias for alias in files if not alias.startswith(".")]))
    return {alias: found[alias] for alias in sorted(found, key=lambda one: (one != "production", one))}, damaged


def promised(registry: Registry, version: Version, text: str) -> str | None:
    """Return the SHA-256 that the alias in ``text`` says the version's manifest has; None when it says none."""
    name, which = split(text)
    if which is None or which.isdigit():
        return None
    pointer = registry.pointer(name, which)
    return pointer.digest if pointer and pointer.number == version.number else None


def exchanged(registry: Registry, version: Version, text: str) -> list[str]:
    """Return what is wrong when the manifest is not the one that was promoted to the alias in ``text``."""
    digest = promised(registry, version, text)
    found = version.digest() if digest else None
    if found == digest:
        return []
    return [f"manifest.json: is not the one that was promoted (SHA-256 {found[:12]}…, not {digest[:12]}…)"]
