"""`dkeras models tag`, `archive`, `restore` and `gc`: what is said of versions, and which ones go."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.models import asking, reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, One, OptionalName, Reason, Root, age
from dkeras_core.cli.models.listing import tags as shown_tags
from dkeras_core.cli.models.tables import Column
from dkeras_core.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry import Registry, Version
    from dkeras_core.registry.collect import Outcome, Plan
    from dkeras_core.registry.marks import Mark

_NAMED = 10  # versions, or failures, that one line names


def tag(
    model: One,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Tags to set; without any they are shown.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="KEY", help="A tag to remove; may be repeated.")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Set, remove and show the tags of a version.

    Example: dkeras models tag higgs@7 owner=anna quality=checked
    """
    from dkeras_core.registry import marks

    wanted: dict[str, str | None] = dict.fromkeys(remove or [])
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"{change!r} is no tag", f"Write KEY=VALUE, or --remove {change}.")
        if key in wanted:
            raise ConfigError(f"the tag {key!r} is named twice", "Name it once.")
        wanted[key] = value
    registry = reference.open_registry(root)
    version = reference.find_one(registry, model)
    before = marks.read(registry, version.name, version.number)
    mark = marks.tag(registry, version.name, version.number, wanted) if wanted else before
    _show_mark(version, mark, as_json, changed=mark != before)
    if mark != before:
        refresh(registry)


def archive(
    model: One,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why: shown to whoever wants to promote it.")],
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Take a version out of use: nobody can promote it any more.

    Its files stay. A version that an alias names is refused.

    Example: dkeras models archive higgs@3 --reason "trained on mislabelled rows"
    """
    from dkeras_core.registry import marks

    registry = reference.open_registry(root)
    version = reference.find_one(registry, model)
    before = marks.read(registry, version.name, version.number)
    mark = marks.archive(registry, version.name, version.number, reason)
    _show_mark(version, mark, as_json, changed=mark != before)
    refresh(registry)


def restore(model: One, reason: Reason = None, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Take a version back into use, which was archived.

    Example: dkeras models restore higgs@3
    """
    from dkeras_core.registry import marks

    registry = reference.open_registry(root)
    version = reference.find_one(registry, model)
    before = marks.read(registry, version.name, version.number)
    mark = marks.restore(registry, version.name, version.number, reason)
    _show_mark(version, mark, as_json, changed=mark != before)
    refresh(registry)


def _show_mark(version: Version, mark: Mark, as_json: bool, changed: bool) -> None:
    if as_json:
        plain = mark.model_dump(mode="json", include={"tags", "archived"})
        tables.print_json({"version": version.number, "path": version.path, "changed": changed} | plain)
        return
    parts = [shown_tags(mark.tags) or "no tags"]
    if mark.archived:
        parts.append(f"archived {tables.when(mark.archived.time)} UTC by {mark.archived.user}: {mark.archived.reason}")
    tables.line(f"{version}: {'; '.join(parts)}")


def gc(
    name: OptionalName = None,
    keep: Annotated[int, typer.Option(min=1, metavar="K", help="Keep the newest K versions of each model.")] = 5,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Keep younger versions: 12h, 7d, 8w.")] = "7d",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete. Without it nothing is.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Delete old versions, and what dead processes have left.

    Without --yes it only shows what would go. A version stays that an alias names or would be rolled back to, that is
    among the newest, or young. What goes leaves a tombstone, and its number is never used again. Exit code 7: something
    could not be deleted.

    Example: dkeras models gc higgs --keep 10 --older-than 30d
    """
    from dkeras_core.registry import collect

    least = age(older_than)
    registry = reference.open_registry(root)
    if name is not None:
        reference.known(registry, name)
    with asking.working("looking for what can go"):
        plan = collect.plan(registry, name, keep=keep, older_than=least)
    outcome = None
    if not as_json:
        _show_plan(plan)
    if yes and (plan.versions or plan.stale):
        with terminable(), asking.working("deleting") as say:
            outcome = collect.carry_out(registry, plan, progress=say)
    if as_json:
        tables.print_json(_plan_json(plan, outcome))
    elif outcome is not None:
        said = f"deleted {tables.plural(len(outcome.deleted), 'version')}"
        tables.line(f"{said} and {tables.plural(len(outcome.cleared), 'remain')} of dead processes")
    elif plan.versions or plan.stale:
        tables.line("nothing was deleted: this was a dry run; --yes deletes")
    if outcome is not None:
        if outcome.deleted:
            refresh(registry)
        _raise_failures(outcome)


def _show_plan(plan: Plan) -> None:
    if plan.versions:
        columns = [
            Column("version"),
            Column("changed (UTC)", 1),
            Column("size", 2, right=True),
            Column("why it goes", flexible=True),
        ]
        rows = [
            (f"{one.name}@{one.number}", tables.when(one.modified), tables.size(one.bytes), one.reason)
            for one in plan.versions
        ]
        tables.show(columns, rows)
    if plan.stale:
        columns = [Column("remains"), Column("changed (UTC)", 1), Column("why it goes", flexible=True)]
        rows = [(one.path, tables.when(one.modified), one.reason) for one in plan.stale]
        tables.show(columns, rows)
    going = f"{tables.plural(len(plan.versions), 'version')} to go"
    freed = f" ({tables.size(plan.bytes)})" if plan.versions else ""
    tables.line(f"{going}{freed}, {len(plan.kept)} to stay{':' if plan.kept else ''}")
    kept: dict[str, list[str]] = {}
    for one in plan.kept:
        kept.setdefault(one.reason, []).append(f"{one.name}@{one.number}")
    for reason, versions in kept.items():
        more = f" and {len(versions) - _NAMED} more" if len(versions) > _NAMED else ""
        tables.line(f"  {reason}: {', '.join(versions[:_NAMED])}{more}")


def _plan_json(plan: Plan, outcome: Outcome | None) -> dict[str, Any]:
    value: dict[str, Any] = {
        "dry_run": outcome is None,
        "bytes": plan.bytes,
        "versions": [
            {
                "model": one.name,
                "version": one.number,
                "path": one.path,
                "bytes": one.bytes,
                "reason": one.reason,
            }
            for one in plan.versions
        ],
        "kept": [{"model": one.name, "version": one.number, "reason": one.reason} for one in plan.kept],
        "stale": [{"model": one.name, "path": one.path, "reason": one.reason} for one in plan.stale],
    }
    if outcome is not None:
        value["deleted"], value["cleared"] = outcome.deleted, outcome.cleared
        value["failed"] = [{"what": what, "error": error.what} for what, error in outcome.failed]
    return value


def _raise_failures(outcome: Outcome) -> None:
    if not outcome.failed:
        return
    lines = [f"{what}: {error.what}" for what, error in outcome.failed[:_NAMED]]
    more = len(outcome.failed) - len(lines)
    raise RegistryError(
        f"{tables.plural(len(outcome.failed), 'deletion')} failed: {'; '.join(lines)}"
        + (f"; and {more} more" if more else ""),
        next((error.next_step for _, error in outcome.failed if error.next_step), "Run it again."),
    )


def refresh(registry: Registry) -> None:
    """Write the page anew, where that is allowed. What was changed stays changed, also after Ctrl-C in here."""
    from dkeras_core.registry import page

    with contextlib.suppress(KeyboardInterrupt), asking.working("writing the page"):
        page.refresh(registry)
