"""The outcome of a promotion's checks, kept for the promotion that follows: what somebody was shown is not made twice.

Checks cost a minute, and between showing them to an approver and promoting nothing may have happened that could change
them. They stand while all of these do, and are made again otherwise: the version has the same manifest; the alias holds
the same entry of its audit; this is the same dkeras; all had passed; and they are younger than :data:`YOUNG`.

Files can be damaged at any time, so ``integrity`` is never taken over: every file is read and hashed before each
promotion.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dkeras_core.errors import ConfigError
from dkeras_core.registry import audit, checks
from dkeras_core.registry.checks import Check
from dkeras_core.registry.manifest import code_version
from dkeras_core.registry.pointer import Pointer
from dkeras_core.registry.registry import Version

YOUNG = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """Checks, what they were made of, and when and by whom.

    ``digest`` is the version's, ``entry`` the id of the audit entry that the alias held, None where there was no alias;
    ``code`` the hash of the sources of dkeras.
    """

    model: str
    version: int
    alias: str
    digest: str | None
    entry: str | None
    checks: list[Check]
    code: str = field(default_factory=code_version)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    user: str = field(default_factory=audit.current_user)
    host: str = field(default_factory=socket.gethostname)

    @classmethod
    def of(cls, version: Version, alias: str, there: Pointer | None, checks: Sequence[Check]) -> Verdict:
        """Keep checks that were made just now, against what the alias holds."""
        digest = checks[0].detail.get("digest")
        return cls(version.name, version.number, alias, digest, there.entry if there else None, list(checks))

    def to_json(self) -> dict[str, Any]:
        return _ADAPTER.dump_python(self, mode="json")

    @classmethod
    def read(cls, file: Path) -> Verdict:
        """Read what a dry run has printed; ConfigError when there is no verdict in it."""
        try:
            return _ADAPTER.validate_python(json.loads(file.read_bytes())["verdict"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{file} holds no verdict: {str(error).splitlines()[0]}",
                "Write it with dkeras models promote MODEL ALIAS --dry-run --json > FILE.",
            ) from error

    def stale(self, version: Version, alias: str, there: Pointer | None) -> str | None:
        """Return why the checks have to be made again, None when they stand."""
        if (self.model, self.version, self.alias) != (version.name, version.number, alias):
            return f"the verdict is of {self.model}@{self.version} as {self.alias}"
        if not self.checks or not all(check.passed for check in self.checks):
            return "a check failed"
        if [check.name for check in self.checks] != list(checks.NAMES):
            return "not all checks were made"
        if self.digest != version.digest():
            return f"{version} was changed since"
        if there is not None and there.entry is None:
            return f"{alias} was set by an older release, without an entry in the audit"
        if self.entry != (there.entry if there else None):
            return f"{alias} was moved since"
        if self.code != code_version():
            return "dkeras was changed since"
        age = datetime.now(UTC) - self.time
        if not -timedelta(minutes=5) < age < YOUNG:  # clocks may differ
            return f"it is {age.total_seconds() / 3600:.1f} hours old"
        return None

    def taken_over(self, integrity: Check) -> list[Check]:
        """Return the checks as the audit keeps them: integrity as made now, the others with when and by whom."""
        made = {"time": self.time.isoformat(), "user": self.user, "host": self.host}
        said = f"checked {self.time:%Y-%m-%d %H:%M:%S} UTC by {self.user}"
        old = [_with(check, f"{check.message} ({said})", {"checked": made}) for check in self.checks[1:]]
        return [integrity, *old]


def _with(check: Check, message: str, detail: Mapping[str, Any]) -> Check:
    return replace(check, message=message, detail={**check.detail, **detail})


_ADAPTER = TypeAdapter(Verdict)
