"""`dkeras models promote` and `rollback`: which version an alias names.

What is shown to the user is what is acted upon: both commands pass what the alias held when they began, so that a
change by somebody else in between is refused instead of overwritten. What is done already is a success, whatever was
expected: a script that was killed after the change may run the same line again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.models import asking, reference, tables
from dkeras_core.cli.models.arguments import (
    DEFAULT_ROOT,
    Alias,
    Aliased,
    AsJson,
    Expect,
    One,
    Reason,
    Root,
    Yes,
    expected,
)
from dkeras_core.cli.models.keeping import refresh
from dkeras_core.errors import ConfigError, Conflict, DkerasError, GateFailed, Interrupted, RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry import Registry, Version
    from dkeras_core.registry.audit import Entry
    from dkeras_core.registry.pointer import Pointer
    from dkeras_core.registry.promote import Expected

SUMMED_UP = ("roc_auc", "log_loss")


def promote(
    model: One,
    alias: Alias,
    expect: Expect = None,
    reason: Reason = None,
    force: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Promote although a check fails; the audit keeps why."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run the checks, change nothing.")] = False,
    verdict: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What --dry-run --json printed: unless something changed, or it is an hour old, only the files are "
            "checked again.",
        ),
    ] = None,
    yes: Yes = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Let an alias name a version, once its checks have passed.

    The checks: every file is as it was published; the model loads and scores its sample; its signature is compatible
    with the version that it replaces; its metrics keep their thresholds and are not worse on the same test split.
    --force overrules them, except for damaged files. Without a terminal nothing is asked. Exit code 9: somebody else
    moved the alias. 10: a check failed.

    Example: dkeras models promote higgs@7 production --expect 5
    """
    from dkeras_core.registry import names, permissions, promotion
    from dkeras_core.registry.verdict import Verdict

    registry = reference.open_registry(root)
    version = reference.find_one(registry, model)
    names.alias_name(alias)
    if force is not None and not force.strip():
        raise ConfigError("--force wants a reason", 'Write --force "why this version is taken all the same".')
    pointer = registry.pointer(version.name, alias)
    there = pointer.number if pointer else None
    believed = expected(expect, pointer)
    known = Verdict.read(verdict) if verdict else None
    if there != version.number:
        _compare(registry, version.name, alias, believed, pointer)
    if dry_run:
        with asking.working(f"checking {version}") as say:
            found = promotion.run_checks(registry, version, alias, there=pointer, progress=say)
        checks = found.checks
        passed = all(check.passed for check in checks)
        if as_json:
            more = {"expect": _expectation(pointer), "verdict": found.to_json()}
            tables.print_json({**_outcome(version, alias, there, False, checks=checks), **more})
        else:
            show_checks(checks)
            if passed:
                tables.line(f"{version} would pass as {alias}; nothing was changed")
        if not passed:
            raise _refused(version, alias, checks, "would not be")
        return
    if there == version.number:
        if as_json:
            tables.print_json(_outcome(version, alias, there, False))
        else:
            tables.line(f"{version.name}@{alias} is {version.number} already; nothing was changed")
        return
    permissions.require_promotion(registry, version.name)
    if not yes and asking.possible():
        _announce(registry, version, alias, there)
        asking.confirm("check it and promote?" if force is None else "check it and promote, whatever the checks say?")
    try:
        with terminable(), asking.working(f"checking {version}") as say, _watched(registry, version.name, alias):
            entry, checks = promotion.promote_checked(
                registry,
                version,
                alias,
                expected=pointer,
                verdict=known,
                force_reason=force,
                reason=reason,
                progress=say,
            )
    except GateFailed as error:
        checks = error.checks
        if as_json:
            tables.print_json(_outcome(version, alias, there, False, checks=checks))
        else:
            show_checks(checks)
        raise _refused(version, alias, checks, "was not") from error
    if as_json:
        tables.print_json(_outcome(version, alias, entry.before.version, True, entry, checks))
    else:
        show_checks(checks)
        _done(entry)
    refresh(registry)


def rollback(
    model: Aliased,
    to: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="A version that the alias named before. [default: the one before]"),
    ] = None,
    expect: Expect = None,
    reason: Reason = None,
    yes: Yes = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Let an alias name the version again that it named before.

    Twice in a row goes two promotions back. Of the checks only one is made, since this has to be fast: every file is
    as it was published. Without a terminal nothing is asked. Exit code 9: somebody else moved the alias.

    Example: dkeras models rollback higgs@production --reason "scores drift since noon"
    """
    from dkeras_core.registry import permissions
    from dkeras_core.registry.promote import rollback_target

    registry = reference.open_registry(root)
    name, alias = reference.find_alias(model, "higgs@production")
    pointer = registry.pointer(name, alias)
    if pointer is None:
        reference.known(registry, name)
        others = ", ".join(registry.aliases(name)) or "none"
        raise RegistryError(f"{name} has no alias {alias!r}", f"Its aliases: {others}.")
    there = pointer.number
    believed = expected(expect, pointer)
    if to == there:
        if as_json:
            tables.print_json(_outcome(registry.version(name, to), alias, there, False))
        else:
            tables.line(f"{name}@{alias} is {there} already; nothing was changed")
        return
    _compare(registry, name, alias, believed, pointer)
    version = registry.version(name, rollback_target(registry, name, alias, to).version)
    permissions.require_promotion(registry, name)
    if not yes and asking.possible():
        _announce(registry, version, alias, there)
        asking.confirm("roll back?")
    with terminable():
        with asking.working(f"reading every file of {version}"):
            problems = version.verify()
        if problems:
            raise RegistryError(
                f"{version} [{version.path}] is damaged: {'; '.join(problems)}; {name}@{alias} is still {there}",
                f"Choose another one with --to; `dkeras models history {name}@{alias}` shows what it named.",
            )
        with _watched(registry, name, alias):
            entry = registry.rollback(name, alias, to=to, expected=pointer, reason=reason)
    if as_json:
        tables.print_json(_outcome(version, alias, entry.before.version, True, entry))
    else:
        _done(entry)
    refresh(registry)


def show_checks(checks: list) -> None:
    """Print the outcome of a promotion's checks."""
    tables.checks((tables.GOOD if check.passed else tables.BAD, check.name, check.message, None) for check in checks)


def _compare(registry: Registry, name: str, alias: str, believed: Expected, pointer: Pointer | None) -> None:
    """Conflict when the alias is not what the user believes; the change itself compares again, under its lease."""
    from dkeras_core.registry import audit
    from dkeras_core.registry.promote import holds

    if holds(pointer, believed):
        return
    there = pointer.number if pointer else None
    meant = f"what {believed} made it" if isinstance(believed, str) else believed or "none"
    said = f"{name}@{alias} is {there or 'not there'}, not {meant}"
    if pointer and pointer.entry:
        with contextlib.suppress(DkerasError):
            entry = audit.read(registry, name, pointer.entry)
            said += f": {entry.action} by {entry.user} on {entry.host} at {tables.when(entry.time, True)} UTC"
    raise Conflict(f"{said}; nothing was changed", f"Look at `dkeras models history {name}@{alias}`, and decide anew.")


def _announce(registry: Registry, version: Version, alias: str, there: int | None) -> None:
    """Say on standard error what is about to change, with the figures of both versions."""
    asking.say(f"{alias} of {version.name}: {there or 'none'} → {version.number}")
    with contextlib.suppress(DkerasError):
        new = version.manifest()
        old = registry.at(version.name, there).manifest() if there else None
        for name in SUMMED_UP:
            value, before = new.metrics.get(name), old.metrics.get(name) if old else None
            if isinstance(value, float):
                figures = [tables.number(one) for one in (before, value) if isinstance(one, float)]
                asking.say(f"  {name} {' → '.join(figures)}")


def _refused(version: Version, alias: str, checks: list, said: str) -> GateFailed:
    failed = [check.name for check in checks if not check.passed]
    return GateFailed(
        f"{version} {said} promoted to {alias}: {len(failed)} of {len(checks)} checks failed ({', '.join(failed)})",
        'Train a better version, or overrule the checks with --force "REASON", which the audit keeps.',
        checks,
    )


def _outcome(
    version: Version, alias: str, was: int | None, changed: bool, entry: Entry | None = None, checks: Any = ()
) -> Mapping[str, Any]:
    return {
        "model": version.name,
        "alias": alias,
        "version": version.number,
        "was": was,
        "changed": changed,
        "passed": all(check.passed for check in checks) if checks else None,
        "checks": [check.to_json() for check in checks],
        "entry": entry.model_dump(mode="json") if entry else None,
    }


def _expectation(pointer: Pointer | None) -> str:
    """Return what --expect takes to mean this very state of an alias."""
    return str(pointer.entry or pointer.number) if pointer else "none"


def _done(entry: Entry) -> None:
    was = f"was {entry.before.version}" if entry.before.version else "new"
    forced = ", forced" if entry.forced else ""
    tables.line(f"{entry.name}@{entry.alias} is {entry.version} ({was}{forced})")


@contextlib.contextmanager
def _watched(registry: Registry, name: str, alias: str) -> Iterator[None]:
    """After Ctrl-C or SIGTERM in the middle, say what the alias names."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            said = f"{name}@{alias} names {registry.alias(name, alias) or 'no version'}"
        except DkerasError as error:
            said = f"what {name}@{alias} names now cannot be read: {error.what}"
        raise Interrupted(f"interrupted; {said}", f"`dkeras models history {name}@{alias}` shows it again.") from None
