"""Shell completion from the registry: names of models, ``@alias`` and ``@number``; quick, and silent on failure.

The shell waits while a completion is computed, so everything has one deadline, after which there are no suggestions.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator, MutableMapping

import typer

DEADLINE = 2.0
"""Seconds that a completion may take."""

USUAL_ALIASES = ("candidate", "staging", "production")
_BREAKS = ("@", "=", ":")
_NEWEST = 10  # numbers that are suggested before a digit is typed


@contextlib.contextmanager
def completing(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Around a completion: keep what fails from the terminal, and undo what bash does to the words of the line.

    Bash breaks words at ``@``, ``=`` and ``:``: ``higgs@pr`` arrives as ``higgs``, ``@``, ``pr`` (unless ``shopt -u
    hostcomplete``), and readline replaces only the ``@pr``. So the words are put together before the suggestions are
    computed, and afterwards what stays on the line is cut off them.
    """
    stays = ""
    if environment.get("_DKERAS_COMPLETE") == "complete_bash":
        words = environment.get("COMP_WORDS", "").split("\n")
        words, stays = rejoined(words, int(environment.get("COMP_CWORD", 0)))
        environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(words), str(len(words) - 1)
    printed = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Exception),
        ):
            yield
    finally:
        sys.stdout.write("".join(f"{line.removeprefix(stays)}\n" for line in printed.getvalue().splitlines()))


def rejoined(words: list[str], at: int) -> tuple[list[str], str]:
    """Return the words up to the one at the cursor as they were typed, and how much of that one stays on the line.

    ``=`` and ``:`` begin a new value, so that what stands before them is no part of a suggestion.
    """
    joined: list[list[str]] = []
    for word in words[: at + 1]:
        glued = joined and joined[-1][-1] in _BREAKS
        second = word == "@" and joined and "@" in joined[-1]  # of `compare higgs@7 @production`
        if len(joined) > 1 and word and not second and (word in _BREAKS or glued):
            joined[-1].append(word)
        else:
            joined.append([word])
    stays = ""
    for position, part in enumerate(joined[-1]):
        if part == "@":
            stays = "".join(joined[-1][:position]).rpartition("=")[2]
        elif part in _BREAKS:
            stays = ""
    return ["".join(parts) for parts in joined], stays


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suggest NAME, NAME@ALIAS and NAME@NUMBER."""
    with _quietly() as found:
        registry = _registry(ctx)
        name, at, which = incomplete.partition("@")
        if at and not name:
            before = str(ctx.params.get("model") or "").partition("@")[0]
            found += [one.removeprefix(before) for one in _of(registry, before, which)]
        elif at:
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
    return [one for one in dict.fromkeys(found) if one.startswith(incomplete)]


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
