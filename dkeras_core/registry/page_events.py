"""The audit in the words of the page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from dkeras_core.registry.audit import Event


def rows(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return the audit's entries; the deletions of one cleaning stand in one row."""
    result: list[dict[str, Any]] = []
    for event in events:
        row, last = _event(event), result[-1] if result else None
        if last and row["cleaning"] and row["cleaning"] == last["cleaning"]:
            last["numbers"] += row["numbers"]
            last["what"] = f"versions {_ranges(last['numbers'])} deleted"
            last["reason"] = _common(last["reason"], row["reason"])
        else:
            result.append(row)
    return result


def _event(event: Event) -> dict[str, Any]:
    entry = event.entry
    failed = [check for check in entry.checks if not check.get("passed")]
    cleaning = entry.action == "delete" and event.applied
    return {
        "entry": entry,
        "applied": event.applied,
        "what": _what(event),
        "tone": _tone(event),
        "checks": entry.checks,
        "failed": failed,
        "outcome": _outcome(len(entry.checks), len(failed)),
        "tags": _tags(entry.detail) if entry.action == "tag" else [],
        "reason": entry.reason,
        "numbers": [entry.version],
        "cleaning": (entry.user, entry.host, entry.time.date()) if cleaning else None,
    }


def _common(reason: str | None, other: str | None) -> str | None:
    """Return what two reasons begin with in common, part by part: "12 days old" is of one alone."""
    pairs = zip((reason or "").split(", "), (other or "").split(", "), strict=False)
    return ", ".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)) or None


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers as "2 to 5, 7": what follows on each other as its ends."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def _what(event: Event) -> str:
    entry = event.entry
    before = entry.before.version
    if entry.action == "promote":
        return f"{before} → {entry.version}" if before is not None else f"→ {entry.version}"
    if entry.action == "rollback":
        return f"rolled back, {before} → {entry.version}"
    done = {"archive": "archived", "restore": "restored", "tag": "tagged", "delete": "deleted"}
    return f"version {entry.version} {done[entry.action]}"


def _tone(event: Event) -> str:
    if not event.applied:
        return "neutral"
    return {"promote": "c1", "rollback": "c2", "delete": "c4"}.get(event.entry.action, "c5")


def _outcome(checks: int, failed: int) -> str:
    if not checks:
        return ""
    if failed:
        return f"{failed} of {checks} checks failed"
    return f"all {checks} checks passed" if checks > 1 else "1 check passed"


def _tags(detail: dict[str, Any]) -> list[str]:
    """Return the changed tags as they are given on the command line; a removed one has no value."""
    changed = detail.get("set") if isinstance(detail.get("set"), dict) else {}
    removed = detail.get("removed") if isinstance(detail.get("removed"), dict) else {}
    return [f"{key}={tag}" for key, tag in changed.items()] + [f"{key} removed" for key in removed]
