"""Shell completion from the registry: names of models, ``@alias`` and ``@number``; quick, and silent on failure.

The shell waits while a completion is computed, so everything has one deadline, after which there are no suggestions.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, MutableMapping

import typer

DEADLINE = 2.0
"""Seconds that a completion may take."""

USUAL_ALIASES = ("candidate", "staging", "production")
_BREAKS = ("@", "=", ":")
_NEWEST = 10  # numbers that are suggested before a digit is typed
_replaced: str | None = None  # what the shell replaces of the word, None: all of it


def rejoin(environment: MutableMapping[str, str]) -> None:
    """Undo what bash does to the words of the command line: it breaks them at ``@``, ``=`` and ``:``.

    ``higgs@pr`` arrives as ``higgs``, ``@``, ``pr`` (unless ``shopt -u hostcomplete``), and readline replaces
    only the ``@pr``; behind ``=`` and ``:`` it replaces what follows them.
    """
    global _replaced
    _replaced = None
    if environment.get("_DKERAS_COMPLETE") != "complete_bash":
        return
    words = environment.get("COMP_WORDS", "").split("\n")[: int(environment.get("COMP_CWORD", 0)) + 1]
    joined: list[list[str]] = []
    for word in words:
        glued = joined and joined[-1][-1] in _BREAKS
        if len(joined) > 1 and word and (word in _BREAKS or glued):
            joined[-1].append(word)
        else:
            joined.append([word])
    for position, part in enumerate(joined[-1] if joined else []):
        if position and part in _BREAKS:
            _replaced = "".join(joined[-1][position + (part != "@") :])
    environment["COMP_WORDS"] = "\n".join(map("".join, joined))
    environment["COMP_CWORD"] = str(len(joined) - 1)


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suggest NAME, NAME@ALIAS and NAME@NUMBER."""
    with _quietly() as found:
        registry = _registry(ctx)
        name, at, which = incomplete.partition("@")
        if at:
            found += _of(registry, name, which)
        else:
            names = [one for one in registry.models() if one.startswith(incomplete)]
            found += names
            if len(names) == 1:
                found += _of(registry, names[0], "")
    return _shown(found, incomplete)


def aliased(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suggest NAME@ALIAS."""
    with _quietly() as found:
        registry = _registry(ctx)
        name, at, _ = incomplete.partition("@")
        for one in [name] if at else registry.models():
            if one.startswith(name):
                found += [f"{one}@{alias}" for alias in registry.aliases(one)]
    return _shown(found, incomplete)


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suggest NAME."""
    with _quietly() as found:
        found += _registry(ctx).models()
    return _shown(found, incomplete)


def aliases(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suggest the aliases of the model that is named before, and the usual ones."""
    with _quietly() as found:
        found += USUAL_ALIASES
        name = str(ctx.params.get("model") or "").partition("@")[0]
        if name:
            found += _registry(ctx).aliases(name)
    return _shown(found, incomplete)


def _of(registry, name: str, which: str) -> list[str]:
    numbers = [str(number) for number in reversed(registry.versions(name))]
    if not which:
        numbers = numbers[:_NEWEST]
    return [f"{name}@{one}" for one in [*sorted(registry.aliases(name)), *numbers]]


def _shown(found: Iterable[str], incomplete: str) -> list[str]:
    """Return those that go on from what was typed, as far as the shell wants them."""
    cut = 0 if _replaced is None else len(incomplete) - len(_replaced)
    return [one[cut:] for one in dict.fromkeys(found) if one.startswith(incomplete)]


def _registry(ctx: typer.Context):
    from dkeras_core.cli.models.arguments import DEFAULT_ROOT
    from dkeras_core.cli.models.reference import open_registry

    return open_registry(ctx.params.get("root") or os.environ.get("DKERAS_ROOT") or DEFAULT_ROOT)


@contextlib.contextmanager
def _quietly() -> Iterator[list[str]]:
    """Give a list to fill; whatever fails, the list is what there is, and past the deadline the process ends."""
    found: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        with contextlib.suppress(Exception):
            yield found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
