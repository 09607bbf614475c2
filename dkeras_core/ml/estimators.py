"""One estimator an algorithm, made from the rule: its hyper-parameters become params, its docstring theirs."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

from dkeras_core.ml.converters import of_type
from dkeras_core.ml.estimator import DistributedEstimator
from dkeras_core.ml.params import TrainingParams, param
from dkeras_core.rules import Rule, describe
from dkeras_core.rules.registry import RULES


def estimator_of(rule: type[Rule]) -> type[DistributedEstimator]:
    """Return the estimator class of a registered rule, called as the rule is.

    Raises
    ------
    TypeError
        A hyper-parameter is called like a param that all estimators have.
    """
    documented, hints = describe(rule.name), get_type_hints(rule)
    taken = [field.name for field in fields(rule) if hasattr(TrainingParams, field.name)]
    if taken:
        raise TypeError(f"{rule.__name__}.{taken[0]} is the name of a param of all estimators; call it otherwise")
    own = {field.name: param(field.name, documented[field.name], of_type(hints[field.name])) for field in fields(rule)}
    body = {"__module__": __name__, "__doc__": _document(rule), "__qualname__": rule.__name__, "rule": rule, **own}
    kind = type(rule.__name__, (DistributedEstimator,), body)
    kind.__signature__ = _signature(rule)
    return kind


def _document(rule: type[Rule]) -> str:
    text = inspect.getdoc(rule) or ""
    if rule.local == "pieces":
        first = "The workers run at once and wait for each other; ``epochs`` and ``optimizer`` have no meaning."
    else:
        first = "Synchronous: the workers meet in Spark's barrier mode." if rule.synchronous else "Asynchronous."
        first += "" if rule.exchanging else " The workers do not exchange before the end."
    return (
        f"{text}\n\n{first} ``fit(df)`` returns a KerasModel; ``explainParams()`` tells the params of all algorithms."
    )


def _signature(rule: type[Rule]) -> inspect.Signature:
    """What an editor completes: the model, then the algorithm's hyper-parameters, then the params of all."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [inspect.Parameter(field.name, keyword, default=field.default) for field in fields(rule)]
    shared = sorted(name for name in dir(TrainingParams) if name != "model" and _is_param(name))
    return inspect.Signature(
        [
            inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
            *own,
            *[inspect.Parameter(name, keyword, default=None) for name in shared],
        ]
    )


def _is_param(name: str) -> bool:
    from pyspark.ml.param import Param

    return isinstance(getattr(TrainingParams, name), Param)


ESTIMATORS = {rule.__name__: estimator_of(rule) for rule in RULES.values()}
globals().update(ESTIMATORS)
__all__ = sorted(ESTIMATORS)
