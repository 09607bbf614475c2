"""Which version a text names, once and for all; what is asked, as the job reads it."""

import json

import pytest

from dkeras_core.errors import ConfigError, RegistryError
from dkeras_core.paths import NAME
from dkeras_core.registry import Registry
from dkeras_core.scoring.request import ScoreRequest, choose, new_scoring_id
from dkeras_core.storage.local import LocalStorage


@pytest.fixture
def registry(tmp_path):
    """Two versions of any content; production names the first."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "file").write_text("content")
    made = Registry(LocalStorage(), str(tmp_path / "root"))
    for run in ("run-1", "run-2"):
        made.publish("tiny", tmp_path / "v", run_id=run)
    made.promote("tiny", 1, "production")
    return made


@pytest.mark.parametrize(
    ("text", "number", "alias"), [("tiny@production", 1, "production"), ("tiny@2", 2, None), ("tiny", 2, None)]
)
def test_a_version_by_alias_by_number_or_the_newest(registry, text, number, alias):
    chosen = choose(registry, text)
    assert (chosen.version.number, chosen.alias) == (number, alias)
    assert chosen.digest == registry.digest("tiny", number)
    assert str(chosen) == (f"tiny@{number} ({alias})" if alias else f"tiny@{number}")


def test_what_was_chosen_stays_when_the_alias_moves(registry):
    request = ScoreRequest.of(choose(registry, "tiny@production"), input="/in", output="/out")
    registry.promote("tiny", 2, "production")
    again = ScoreRequest.from_json(request.to_json())
    assert again == request and again.version == 1


@pytest.mark.parametrize("text", ["other", "tiny@3", "tiny@staging", "tiny@", "../tiny@1", "tiny@production@x"])
def test_what_names_no_version_is_refused(registry, text):
    with pytest.raises(RegistryError):
        choose(registry, text)


def test_a_manifest_that_changed_since_the_promotion_is_refused(registry):
    path = f"{registry.at('tiny', 1).path}/manifest.json"
    manifest = json.loads(registry.storage.read_bytes(path)) | {"run": "forged"}
    data = json.dumps(manifest).encode()
    from dkeras_core.registry.manifest import seal

    for name, content in (("manifest.json", data), ("manifest.sha256", seal(data))):
        registry.storage.set_mode(path.replace("manifest.json", name), 0o644)
        registry.storage.set_mode(registry.at("tiny", 1).path, 0o755)
        registry.storage.write_bytes(path.replace("manifest.json", name), content, overwrite=True)
    with pytest.raises(RegistryError, match="was changed since"):
        choose(registry, "tiny@production")
    assert choose(registry, "tiny@1").manifest.run == "forged"  # nothing says what a number ought to be


@pytest.mark.parametrize("column", ["", " ", "a.b", "a`b"])
def test_names_that_no_column_can_have(column):
    with pytest.raises(ConfigError, match="--column"):
        ScoreRequest("tiny", 1, "0", "/in", "/out", column=column)


@pytest.mark.parametrize("model", ["a", "h" * 64, "x" * 35 + "-y"])
def test_run_ids_keep_to_the_rule(model):
    run = new_scoring_id(model)
    assert NAME.fullmatch(run.lower()) and run.startswith(f"score-{model[:35]}")
    assert "--" not in run
    with pytest.raises(ConfigError):
        new_scoring_id("no name")
