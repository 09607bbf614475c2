"""Algorithms by name, as the pipeline file and the wire name them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from dkeras_core.errors import ConfigError
from dkeras_core.rules.base import Rule
from dkeras_core.rules.easgd import AsynchronousEASGD

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (AsynchronousEASGD,)}


def names() -> list[str]:
    """The names of all algorithms, sorted."""
    return sorted(RULES)


def parameters(name: str) -> list[str]:
    """The hyper-parameters that algorithm ``name`` takes. Raises ConfigError for an unknown name."""
    if name not in RULES:
        raise ConfigError(f"no algorithm is called {name!r}{_meant(name, RULES)}", f"use one of: {', '.join(names())}")
    return [field.name for field in dataclasses.fields(RULES[name])]


def get(name: str, **values: Any) -> Rule:
    """The algorithm ``name`` with the given hyper-parameters, the others at their defaults.

    Raises ConfigError for an unknown name or hyper-parameter (with the one that was probably meant) and for a value
    that the algorithm refuses.
    """
    known = parameters(name)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"algorithm {name} has no parameter {key!r}{_meant(key, known)}", f"it takes: {', '.join(known)}"
            )
    return RULES[name](**values)


def rule_from_config(config: dict[str, Any]) -> Rule:
    """Read back what ``Rule.to_config`` wrote."""
    values = dict(config)
    if "name" not in values:
        raise ConfigError("the algorithm's configuration has no name", f"add name, one of: {', '.join(names())}")
    return get(values.pop("name"), **values)


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
