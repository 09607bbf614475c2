import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError


def test_sequential_has_one_worker():
    assert rules.get("sequential").for_workers(1) == rules.get("sequential")
    with pytest.raises(ConfigError, match=r"one worker, not 2(.|\n)*training.workers"):
        rules.get("sequential").for_workers(2)


@pytest.mark.parametrize(("name", "result"), [("averaging", "mean"), ("sequential", "mean"), ("ensemble", "ensemble")])
def test_rules_without_exchange(name, result):
    rule = rules.get(name)
    assert not rule.exchanging and rule.communication_period == "fit" and rule.default_result == result
