"""Algorithms by name, as the pipeline file and the wire name them."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from dkeras_core.errors import ConfigError
from dkeras_core.rules.adag import ADAG
from dkeras_core.rules.adownpour import ADownpour
from dkeras_core.rules.averaging import Averaging
from dkeras_core.rules.base import Rule
from dkeras_core.rules.delta_averaging import AsynchronousDeltaAveraging, DeltaAveraging
from dkeras_core.rules.diloco import DiLoCo
from dkeras_core.rules.downpour import Downpour
from dkeras_core.rules.dynsgd import DynSGD
from dkeras_core.rules.eamsgd import EAMSGD
from dkeras_core.rules.easgd import EASGD, AsynchronousEASGD
from dkeras_core.rules.ensemble import Ensemble
from dkeras_core.rules.gradient_averaging import GradientAveraging
from dkeras_core.rules.mdownpour import MDownpour
from dkeras_core.rules.model_averaging import ModelAveraging
from dkeras_core.rules.mvadownpour import MVADownpour
from dkeras_core.rules.sandblaster import SandblasterLBFGS
from dkeras_core.rules.sequential import Sequential
from dkeras_core.rules.slowmo import SlowMo
from dkeras_core.rules.threshold_sharing import ThresholdSharing

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        EASGD,
        AsynchronousEASGD,
        EAMSGD,
        Downpour,
        MDownpour,
        ADownpour,
        MVADownpour,
        ADAG,
        DynSGD,
        ModelAveraging,
        SlowMo,
        DiLoCo,
        DeltaAveraging,
        AsynchronousDeltaAveraging,
        ThresholdSharing,
        GradientAveraging,
        SandblasterLBFGS,
        Averaging,
        Ensemble,
        Sequential,
    )
}


def names() -> list[str]:
    """The names of all algorithms, sorted."""
    return sorted(RULES)


def parameters(name: str) -> list[str]:
    """The hyper-parameters that algorithm ``name`` takes. Raises ConfigError for an unknown name."""
    return [field.name for field in dataclasses.fields(_rule(name))]


def describe(name: str) -> dict[str, str]:
    """What each hyper-parameter of algorithm ``name`` means: ``{parameter: text}``, in the order of ``parameters``.

    The text is the one of the class's docstring, section "Parameters" in NumPy's form, on one line: the kind of value
    as its first sentence, then the description. So a rule documents each parameter once, where people read it.
    """
    documented = _parameter_section(inspect.getdoc(_rule(name)) or "")
    return {parameter: documented[parameter] for parameter in parameters(name)}


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


def _rule(name: str) -> type[Rule]:
    if name not in RULES:
        raise ConfigError(f"no algorithm is called {name!r}{_meant(name, RULES)}", f"use one of: {', '.join(names())}")
    return RULES[name]


def _parameter_section(text: str) -> dict[str, str]:
    section = text.partition("\nParameters\n----------\n")[2]
    entries = re.findall(r"^([\w, ]+) : (.+)\n((?:    .*\n?|\n)*)", section + "\n", re.MULTILINE)
    return {
        name: f"{kind}. {' '.join(body.split())}" for several, kind, body in entries for name in several.split(", ")
    }


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""
