"""Update rules: one distributed algorithm a file, pure NumPy on flat float32 vectors; no socket, no Spark, no Keras."""

from dkeras_core.rules.base import Arrival, Rule
from dkeras_core.rules.registry import describe, get, names, parameters, rule_from_config

__all__ = ["Arrival", "Rule", "describe", "get", "names", "parameters", "rule_from_config"]
