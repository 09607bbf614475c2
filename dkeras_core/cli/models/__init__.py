"""`dkeras models`: the registry from a shell.

One module a group of commands: listing, showing, comparing and events read; moving changes aliases; keeping marks and
deletes; content reads whole versions; rights sets up who may do what.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import typer

from dkeras_core.cli.models import comparing, content, events, keeping, listing, moving, rights, showing

_EXIT_CODES = (
    "Exit codes: 0 done; 2 wrong arguments; 4 HDFS refused or failed; 5 no cluster; 7 damaged, or refused by the "
    "registry; 9 somebody else moved the alias, nothing was changed; 10 a check failed, nothing was changed; "
    "130 interrupted, or answered with no."
)

app = typer.Typer(
    no_args_is_help=True,
    help="Look at the published models, decide which version production runs, and take them out.",
    epilog=_EXIT_CODES,
)

_PANELS = {
    "Look": {
        "list": listing.list_,
        "show": showing.show,
        "compare": comparing.compare,
        "history": events.history,
        "verify": content.verify,
    },
    "Promote": {"promote": moving.promote, "rollback": moving.rollback},
    "Take out": {"pull": content.pull, "export": content.export, "page": content.page},
    "Keep in order": {
        "tag": keeping.tag,
        "archive": keeping.archive,
        "restore": keeping.restore,
        "gc": keeping.gc,
        "init": rights.init,
        "doctor": rights.doctor,
    },
}


def _help(command: Callable) -> str:
    """The docstring with each paragraph on one line, for a terminal of any width to break."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, help=_help(_command), rich_help_panel=_panel)(_command)
