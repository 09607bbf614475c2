"""What verify, fetch and load say of a version that was touched; finding versions by number and alias."""

import json
import subprocess

import pytest

from dkeras_core.errors import PathExists, RegistryError
from dkeras_core.registry import code_version
from dkeras_core.registry.load import load
from dkeras_core.registry.manifest import Manifest, seal
from dkeras_core.registry.readonly import unlock
from dkeras_core.storage.local import LocalStorage

SEALED = "manifest.json: does not match manifest.sha256"


def flip(storage, path):
    data = bytearray(storage.read_bytes(path))
    data[len(data) // 2] ^= 1
    storage.write_bytes(path, bytes(data), overwrite=True)


def rewrite(storage, path, **changes):
    """Change a manifest and seal it again, as a newer publisher would."""
    data = json.dumps(json.loads(storage.read_bytes(f"{path}/manifest.json")) | changes).encode()
    storage.write_bytes(f"{path}/manifest.json", data, overwrite=True)
    storage.write_bytes(f"{path}/manifest.sha256", seal(data), overwrite=True)


DAMAGES = {
    "flipped byte": (lambda s, p: flip(s, f"{p}/variables/data"), "variables/data: its content was changed"),
    "shorter file": (lambda s, p: s.write_bytes(f"{p}/model.keras", b"", overwrite=True), "model.keras: has 0 bytes"),
    "missing file": (lambda s, p: s.delete(f"{p}/empty"), "empty: is missing"),
    "extra file": (lambda s, p: s.write_bytes(f"{p}/variables/x", b""), "variables/x: is not in the manifest"),
    "flipped manifest": (lambda s, p: flip(s, f"{p}/manifest.json"), SEALED),
    "flipped seal": (lambda s, p: flip(s, f"{p}/manifest.sha256"), SEALED),
    "no manifest": (lambda s, p: s.delete(f"{p}/manifest.json"), "manifest.json: does not exist"),
    "no seal": (lambda s, p: s.delete(f"{p}/manifest.sha256"), "manifest.sha256: does not exist"),
    "manifest of the future": (lambda s, p: rewrite(s, p, format=2), "manifest.json: is of format 2"),
    "impossible manifest": (lambda s, p: rewrite(s, p, files={"a": {"size": -1, "sha256": "0" * 64}}), "files.a.size"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(place, folder, tmp_path, damage):
    version = place.registry.publish("higgs", folder, run_id="r")
    local = version.fetch(tmp_path / "before")
    assert version.verify() == []
    action, said = DAMAGES[damage]
    unlock(place.storage, version.path)
    action(place.storage, version.path)
    found = version.verify()
    assert len(found) == 1 and said in found[0]
    with pytest.raises(RegistryError) as error:
        version.fetch(tmp_path / "after")
    assert said in str(error.value)
    action(LocalStorage(), str(local))
    with pytest.raises(RegistryError) as error:
        load(local)
    assert said in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir() if "after" in path.name) == []


def test_fetch_is_whole_and_refuses_to_overwrite(place, folder, tmp_path):
    version = place.registry.publish("higgs", folder, run_id="r")
    local = place.registry.fetch(version, tmp_path / "v")
    assert (local / "variables/data").read_bytes() == b"more weights"
    assert subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=local, capture_output=True).returncode == 0
    with pytest.raises(PathExists):
        version.fetch(tmp_path / "v")


def test_versions_are_found_by_number_and_alias(place, folder):
    registry = place.registry
    for run in ("a", "b"):
        registry.publish("higgs", folder, run_id=run)
    assert registry.version("higgs", 2) == registry.version("higgs", "2") == registry.latest("higgs")
    assert registry.production("higgs") is None and registry.aliases("higgs") == {}
    place.storage.write_atomic(registry.layout.alias("higgs", "production"), b"1\n")
    assert registry.production("higgs").number == 1 and registry.version("higgs", "production").number == 1
    assert registry.aliases("higgs") == {"production": 1}
    for which, said in ((3, "no version 3"), ("staging", "no alias 'staging'"), ("../x", "not an alias")):
        with pytest.raises(RegistryError, match=said):
            registry.version("higgs", which)
    with pytest.raises(RegistryError, match="has no version"):
        registry.version("other", 1)
    place.storage.write_atomic(registry.layout.alias("higgs", "production"), b"one")
    with pytest.raises(RegistryError, match=r"aliases/production: holds b'one'"):
        registry.production("higgs")
    place.storage.write_atomic(registry.layout.alias("higgs", "production"), b"9\n")
    with pytest.raises(RegistryError, match="no version 9"):
        registry.production("higgs")


def test_the_manifest_is_canonical(place, folder):
    version = place.registry.publish("higgs", folder, run_id="r", lineage={"pipeline": "é", "further": [1]})
    data = place.storage.read_bytes(f"{version.path}/manifest.json")
    manifest = Manifest.from_bytes(data, "x")
    assert manifest.to_bytes() == data and manifest.lineage.further == [1] and "é".encode() in data


def test_code_version_is_of_the_sources(monkeypatch, tmp_path):
    from dkeras_core.registry import manifest

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.py").write_text("1")
    monkeypatch.setattr(manifest, "package_files", lambda name: tmp_path)
    first = code_version.__wrapped__()
    (tmp_path / "sub/a.pyc").write_text("not a source")
    assert code_version.__wrapped__() == first
    (tmp_path / "sub/a.py").write_text("2")
    assert code_version.__wrapped__() != first
