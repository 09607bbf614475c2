"""Arguments and options that several commands share, each with its completion."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from dkeras_core.cli.models import completion
from dkeras_core.errors import ConfigError

if TYPE_CHECKING:
    from dkeras_core.registry.pointer import Pointer

DEFAULT_ROOT = "/dkeras"

Root = Annotated[
    str, typer.Option(envvar="DKERAS_ROOT", help="Root folder in HDFS, or file:///folder of this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why: the audit keeps it.")]
Expect = Annotated[
    str | None,
    typer.Option(
        metavar="N|ENTRY|none",
        help="What you believe that the alias holds now: a version, or the audit entry that put it there, which tells "
        "away-and-back, too. Something else there: nothing changes, exit code 9.",
    ),
]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="NAME@NUMBER or NAME@ALIAS; NAME alone is its newest version.",
        autocompletion=completion.models,
    ),
]
One = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="NAME@NUMBER or NAME@ALIAS.", autocompletion=completion.models),
]
Many = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="NAME@NUMBER or NAME@ALIAS; NAME alone is its newest version.",
        autocompletion=completion.models,
    ),
]
Aliased = Annotated[
    str, typer.Argument(metavar="NAME@ALIAS", help="Model and alias.", autocompletion=completion.aliased)
]
Alias = Annotated[
    str, typer.Argument(metavar="ALIAS", help="production, staging, or any name.", autocompletion=completion.aliases)
]
OptionalName = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="One model.", show_default="all", autocompletion=completion.names),
]

_AGE = re.compile(r"(\d+)\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def expected(text: str | None, there: Pointer | None) -> int | str | Pointer | None:
    """Return what ``--expect`` says: a version, an audit entry or nothing; without it what was shown.

    ConfigError when it is none of these.
    """
    from dkeras_core.registry import audit

    if text is None:
        return there
    if text.lower() == "none":
        return None
    if re.fullmatch(audit.ID, text):
        return text
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise ConfigError(
            f"--expect {text!r} is neither a version's number nor an entry of the audit", "Write one of them, or none."
        )
    return int(text)


def age(text: str) -> timedelta:
    """``30d`` -> 30 days; m, h, d and w are minutes, hours, days and weeks. ConfigError for anything else."""
    found = _AGE.fullmatch(text.strip().lower())
    try:
        if found:
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        pass
    raise ConfigError(f"{text!r} is no age", "Write a number and a unit: 90m, 12h, 30d, 8w.")
