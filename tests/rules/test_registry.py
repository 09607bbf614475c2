from pathlib import Path

import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError


def test_unknown_name_says_which_was_meant():
    with pytest.raises(ConfigError, match="did you mean 'asynchronous_easgd'"):
        rules.get("asynchronous_esgd")
    with pytest.raises(ConfigError, match="did you mean 'easgd'"):
        rules.get("EASGD")
    with pytest.raises(ConfigError) as caught:
        rules.get("zzz")
    assert "did you mean" not in caught.value.what and "asynchronous_easgd" in caught.value.next_step


def test_unknown_parameter_says_which_was_meant():
    with pytest.raises(ConfigError, match="no parameter 'moving_rat'; did you mean 'moving_rate'"):
        rules.get("asynchronous_easgd", moving_rat=0.1)
    assert rules.parameters("asynchronous_easgd") == ["communication_period", "moving_rate"]


def test_configuration_without_a_name():
    with pytest.raises(ConfigError, match="no name"):
        rules.rule_from_config({"moving_rate": 0.1})


def test_every_algorithm_stands_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()
    assert [name for name in rules.names() if page.count(f"`{name}`") < 2] == []
