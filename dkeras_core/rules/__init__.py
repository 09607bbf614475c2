"""Update rules: one distributed algorithm a file, pure NumPy on flat float32 vectors; no socket, no Spark, no Keras."""

from dkeras_core.rules.base import Arrival, Rule
from dkeras_core.rules.registry import get, names, parameters, rule_from_config

__all__ = ["Arrival", "Rule", "get", "names", "parameters", "rule_from_config"]
