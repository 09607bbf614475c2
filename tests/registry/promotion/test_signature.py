"""Signatures: read back, compared column by column, and made up for versions of older releases."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.errors import RegistryError
from dkeras_core.registry import checks
from dkeras_core.registry.signature import Column, Output, Signature, incompatibilities
from dkeras_core.storage.local import LocalStorage

SCORES = Output(name="scores", type="float32", shape=(None, 1))
FEATURES = FeaturePipeline(("a", "b"), (0.0, 0.0), None, None, None, ("b",), {"kind": ("x", "y")})


def signature(outputs=(SCORES,), **columns):
    return Signature(inputs=[Column(name=name, type=kind) for name, kind in columns.items()], outputs=outputs)


def test_the_raw_columns_are_those_of_the_feature_pipeline():
    found = Signature.of(FEATURES)
    assert [(column.name, column.type) for column in found.inputs] == [
        ("a", "number"),
        ("b", "number"),
        ("kind", "text"),
    ]


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (signature(a="number", b="text"), []),
        (signature(a="number"), []),  # fewer columns: what is sent too much is ignored
        (signature(b="text", a="number"), []),
        (signature(a="number", b="text", c="number"), ["'c'"]),
        (signature(a="text", b="text"), ["'a' is text instead of number"]),
        (signature((Output(name="scores", type="float32", shape=(None, 3)),), a="number"), ["float32[n, 3]"]),
        (signature((Output(name="scores", type="float64", shape=(None, 1)),), a="number"), ["float64[n, 1]"]),
        (signature((Output(name="odds", type="float32", shape=(None, 1)),), a="number"), ["odds"]),
        (signature(None, a="number"), []),  # of an older release: not known
        (signature(a="text", z="text"), ["'a'", "'z'"]),
    ],
)
def test_what_callers_of_the_current_version_may_be_handed(mine, said):
    found = incompatibilities(mine, signature(a="number", b="text"))
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found, strict=True)), found


def test_read_back_from_file_or_else_from_the_features(tmp_path):
    storage, folder = LocalStorage(), str(tmp_path)
    assert Signature.read(storage, folder) is None
    (tmp_path / "features.json").write_text(json.dumps(FEATURES.to_json()))
    assert Signature.read(storage, folder) == Signature.of(FEATURES)
    full = dataclasses.replace(FEATURES, categories={})
    expected = Signature(inputs=Signature.of(full).inputs, outputs=(SCORES,))
    (tmp_path / "signature.json").write_bytes(expected.to_bytes())
    assert Signature.read(storage, folder) == expected
    assert json.loads(expected.to_bytes())["outputs"] == [{"name": "scores", "type": "float32", "shape": [None, 1]}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "signature.json"),
        (b'{"inputs": [{"name": "a"}]}', "inputs.0.type"),
        (b'{"format": 2, "inputs": []}', "2"),
    ],
)
def test_a_damaged_one_is_named(tmp_path, content, said):
    (tmp_path / "signature.json").write_bytes(content)
    with pytest.raises(RegistryError, match=said):
        Signature.read(LocalStorage(), str(tmp_path))


@pytest.mark.slow
def test_of_a_keras_model():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, "sigmoid")])
    assert Signature.of(FEATURES, model).outputs == (SCORES,)


def test_the_check_compares_with_the_current_version(toy):
    few = FeaturePipeline(("a", "b"), (0.0, 0.0), None, None, None, (), {})
    toy.publish(without=["signature.json"])  # older: its inputs come from features.json
    toy.publish(outputs=3)
    toy.publish()

    def check(version, current):
        (found,) = [c for c in checks.run(toy.registry, version, current) if c.name == "signature"]
        return found

    at = toy.registry.at
    assert check(at("toy", 3), 1).passed
    refused = check(at("toy", 3), 2)
    assert not refused.passed and "float32[n, 1]" in refused.message and "float32[n, 3]" in refused.message
    assert few.columns == ["a", "b"]
