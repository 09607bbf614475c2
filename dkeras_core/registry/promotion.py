"""Promote a version through its gates: all checks first, then the alias in one step.

The version that the alias names when the checks begin is the one compared with, and the alias is moved only if nobody
has moved it meanwhile: away and back, as by a promotion and its roll-back, counts as well.
"""

from __future__ import annotations

from collections.abc import Callable

from dkeras_core.config import Promotion as PromotionSettings
from dkeras_core.errors import GateFailed, RegistryError
from dkeras_core.registry import checks as checking
from dkeras_core.registry import marks, names, permissions
from dkeras_core.registry.audit import Entry
from dkeras_core.registry.checks import Check
from dkeras_core.registry.pointer import Pointer
from dkeras_core.registry.promote import ANY, AnyVersion, Expected, expect
from dkeras_core.registry.registry import Registry, Version
from dkeras_core.registry.verdict import Verdict

__all__ = ["Check", "PromotionSettings", "Verdict", "promote_checked", "run_checks"]


def run_checks(
    registry: Registry,
    version: Version,
    alias: str,
    *,
    there: Pointer | AnyVersion | None = ANY,
    settings: PromotionSettings | None = None,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Make the checks of a promotion, and change nothing; ``promote_checked`` takes the verdict.

    Parameters as there; ``there`` is what the alias holds, read now unless given.
    """
    there = registry.pointer(version.name, names.alias_name(alias)) if there is ANY else there
    checks = checking.run(registry, version, there.number if there else None, settings, progress)
    return Verdict.of(version, alias, there, checks)


def promote_checked(
    registry: Registry,
    version: Version,
    alias: str,
    *,
    expected: Expected = ANY,
    verdict: Verdict | None = None,
    settings: PromotionSettings | None = None,
    force_reason: str | None = None,
    reason: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Entry, list[Check]]:
    """Let an alias name a version that passes its checks.

    Parameters
    ----------
    expected : int, str, Pointer, None or ANY
        What the caller believes that the alias names now (None: nothing), as ``Registry.promote`` takes it. ANY: what
        it names at this moment.
    verdict : Verdict, optional
        Of ``run_checks``. When it stands (verdict.py), only the files are read again; the audit says that it was taken.
    settings : PromotionSettings, optional
        Default: section ``registry.promotion`` of the version's own pipeline file.
    force_reason : str, optional
        Promote even if checks fail, and why; kept in the audit. A damaged version is refused all the same.
    reason : str, optional
        Why it is promoted; kept in the audit.
    progress : callable, optional
        Called with one sentence for each thing that begins; from several threads.

    Returns
    -------
    (Entry, list of Check)
        The audit entry, ``forced`` when a check had failed, and the outcome of all checks. When the alias named the
        version already, whatever was expected, the entry of that time and no checks: so it may be repeated.

    Raises
    ------
    GateFailed
        Checks have failed; the message lists them, ``checks`` holds all.
    Conflict
        The alias names another version than expected, or was moved while the checks ran; nothing was changed.
    AccessDenied
        This user may not change aliases; known before the checks begin.
    RegistryError
        The version is damaged, archived or deleted.
    """
    names.alias_name(alias)
    if force_reason is not None and not force_reason.strip():
        raise RegistryError("a promotion is forced for a reason", "Say why; the audit keeps it.")
    permissions.require_promotion(registry, version.name)
    marks.refuse_unpromotable(registry, version.name, version.number)
    there = registry.pointer(version.name, alias)
    current = there.number if there else None
    if current == version.number:
        return registry.promote(version.name, version.number, alias, expected=there), []
    expect(registry, version.name, alias, there, expected)
    say = progress or (lambda _: None)
    checks = _taken_over(registry, version, alias, there, verdict if settings is None else None, say)
    checks = checks or checking.run(registry, version, current, settings, progress)
    failed = [check for check in checks if not check.passed]
    if any(check.name == "integrity" for check in failed):
        raise RegistryError(f"{version} [{version.path}] is damaged: {checks[0].message}", "Promote another version.")
    if failed and force_reason is None:
        lines = "".join(f"\n  {check.name}: {check.message}" for check in failed)
        raise GateFailed(
            f"{version} is not promoted to {alias}, {len(failed)} of {len(checks)} checks failed:{lines}",
            "Publish a better version, or force it with a reason (--force REASON).",
            checks,
        )
    entry = registry.promote(
        version.name,
        version.number,
        alias,
        expected=there,
        digest=checks[0].detail["digest"],
        reason=force_reason or reason,
        forced=bool(failed),
        checks=[check.to_json() for check in checks],
    )
    return entry, checks


def _taken_over(
    registry: Registry,
    version: Version,
    alias: str,
    there: Pointer | None,
    verdict: Verdict | None,
    say: Callable[[str], None],
) -> list[Check]:
    """Return the checks of a verdict that stands, and nothing when they have to be made."""
    if verdict is None:
        return []
    if stale := verdict.stale(version, alias, there):
        say(f"checking again: {stale}")
        return []
    integrity = checking.integrity(registry, version, say)
    return verdict.taken_over(integrity) if integrity.detail.get("digest") in (None, verdict.digest) else []
