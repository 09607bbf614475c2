"""Which names the registry takes: one rule for models, aliases and the keys of tags, one for runs.

A name becomes a folder in HDFS, a URL of a serving process and an argument of a shell, so it is lower-case ASCII that
none of them gives a meaning: letters, digits, ``_``, ``.`` and ``-``, beginning with a letter or digit, 64 characters
at most. An alias may not be a number, because ``model@7`` means version 7. Run ids may hold capitals too. Beside the
models stand two files of the registry itself, so no model has their names.
"""

from __future__ import annotations

import re

from dkeras_core.errors import RegistryError
from dkeras_core.paths import NAME

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_TAKEN = ("index.html", "permissions.json")
_RULE = "a-z, 0-9, '_', '.', '-', beginning with a letter or digit, at most 64 characters"


def is_model(text: str) -> bool:
    """Whether a folder beside the others is a model's."""
    return bool(NAME.fullmatch(text)) and text not in _TAKEN


def model_name(text: str) -> str:
    """Return ``text``; RegistryError when it is not the name of a model."""
    if not NAME.fullmatch(text):
        raise RegistryError(f"{_shown(text)} is not a model name", f"Use {_RULE}.")
    if text in _TAKEN:
        raise RegistryError(
            f"{_shown(text)} is not a model name: the registry has a file of this name", f"Use {_RULE}."
        )
    return text


def alias_name(text: str) -> str:
    """Return ``text``; RegistryError when it is not the name of an alias."""
    if not NAME.fullmatch(text) or text.isdigit():
        raise RegistryError(f"{_shown(text)} is not an alias", f"Use {_RULE}, and not digits alone.")
    return text


def tag_key(text: str) -> str:
    """Return ``text``; RegistryError when it is not the key of a tag."""
    if not NAME.fullmatch(text):
        raise RegistryError(f"{_shown(text)} is not the key of a tag", f"Use {_RULE}.")
    return text


def run_id(text: str) -> str:
    """Return ``text``; RegistryError when it cannot be part of a path as a run id."""
    if not _RUN.fullmatch(text):
        raise RegistryError(
            f"{_shown(text)} is not a run id", "Use letters, digits, '_', '.' and '-', at most 128 characters."
        )
    return text


def version_number(text: str) -> int | None:
    """Return the number that a folder's name stands for; None for every name that is not a version."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _shown(text: str) -> str:
    # ASCII, because two names that look alike on a screen are what the rule is about.
    return ascii(text if len(text) <= 80 else text[:77] + "...")
