"""One rule for names, tried with what people and attackers type."""

import pytest

from dkeras_core.errors import RegistryError
from dkeras_core.registry import names

BAD = ["", ".", "..", "../a", "a/b", "a b", " a", "a\n", "Higgs", "-a", "_a", ".a", "hıggs", "hіggs", "a" * 300, "a\0",
       "a@b", "a:b", "é", "a%2fb", "a*", "𝐚", "１"]  # fmt: skip


@pytest.mark.parametrize("text", ["a", "higgs", "higgs-2.1_b", "0", "7up", "a..b", "a" * 64])
def test_good_names(text):
    assert names.model_name(text) == text


@pytest.mark.parametrize("text", BAD)
def test_bad_names(text):
    for rule in (names.model_name, names.alias_name):
        with pytest.raises(RegistryError) as error:
            rule(text)
        assert str(error.value).isascii() and len(error.value.what) < 120
        assert "a-z, 0-9" in error.value.next_step


def test_the_registrys_own_files_are_no_models():
    """The page and the groups stand beside the models: a folder of that name would be in their way for ever."""
    for text in ("index.html", "permissions.json"):
        assert not names.is_model(text) and names.alias_name(text) == text
        with pytest.raises(RegistryError, match="the registry has a file of this name"):
            names.model_name(text)


def test_an_alias_is_not_a_number():
    assert names.alias_name("v7") == "v7"
    with pytest.raises(RegistryError, match="'7' is not an alias"):
        names.alias_name("7")


def test_run_ids():
    assert names.run_id("higgs-20261122T190000-ab12") == "higgs-20261122T190000-ab12"
    for text in ("", "a/b", "..", "a b", "a" * 129, "é"):
        with pytest.raises(RegistryError, match="run id"):
            names.run_id(text)


def test_version_numbers():
    assert [names.version_number(t) for t in ("1", "10", "01", "0", "-1", "1.0", "x", "", "٣", "1 ", "9" * 19)] == [
        1, 10, None, None, None, None, None, None, None, None, None,
    ]  # fmt: skip
