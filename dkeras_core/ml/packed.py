"""A Keras model as text and bytes: what a param can hold, a broadcast carry and a folder keep. Never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from dkeras_core.errors import ConfigError
from dkeras_core.ml import files

ARCHITECTURE, WEIGHTS = "architecture.json", "weights.bin"


@dataclass(frozen=True)
class PackedModel:
    """A model's architecture as Keras JSON and, where there are some, its weights.

    Parameters
    ----------
    architecture : str
    weights : bytes or None
        As :func:`dkeras_core.learning.model_io.weights_to_bytes` gives them; None for a model that is yet to be
        initialised.
    """

    architecture: str
    weights: bytes | None = None

    @classmethod
    def of(cls, model) -> PackedModel:
        """Pack a built ``keras.Model`` with its weights, or the JSON that ``keras.Model.to_json`` gives.

        Raises
        ------
        ConfigError
            Something else, a model without variables yet, or one that cannot be written as JSON.
        """
        if isinstance(model, PackedModel):
            return model
        if isinstance(model, str):
            return cls._of_json(model)
        import keras

        from dkeras_core.learning import model_io

        if not isinstance(model, keras.Model):
            raise ConfigError(
                f"a model is a keras.Model or its JSON, not a {type(model).__name__}", "pass the model itself"
            )
        if not model.built:
            raise ConfigError(
                f"model {model.name!r} has no variables yet: the shape of its input is unknown",
                "begin the model with keras.Input, or call model.build(input_shape)",
            )
        return cls(model_io.to_json(model), model_io.weights_to_bytes(model))

    @classmethod
    def _of_json(cls, text: str) -> PackedModel:
        try:
            if "class_name" in json.loads(text):
                return cls(text)
            problem = "is JSON, but of no model"
        except (ValueError, TypeError):
            problem = f"is not JSON: {text[:60]!r}"
        raise ConfigError(f"the text given as model {problem}", "pass a keras.Model, or what model.to_json() returns")

    def unpack(self, seed: int | None = None):
        """Return the ``keras.Model``; one without weights is initialised from ``seed``."""
        from dkeras_core.learning import model_io

        if self.weights is None and seed is not None:
            import keras

            keras.utils.set_random_seed(seed)
        model = model_io.from_json(self.architecture)
        if self.weights is not None:
            model_io.weights_from_bytes(model, self.weights)
        return model

    @cached_property
    def digest(self) -> str:
        """SHA-256 over both: the same model has the same one, wherever it was packed."""
        digest = hashlib.sha256(self.architecture.encode())
        digest.update(b"\0" + (self.weights or b""))
        return digest.hexdigest()

    def save(self, spark, folder: str) -> None:
        """Write ``architecture.json`` and ``weights.bin`` into a folder of any Hadoop file system."""
        files.write(spark, f"{folder}/{ARCHITECTURE}", self.architecture.encode())
        if self.weights is not None:
            files.write(spark, f"{folder}/{WEIGHTS}", self.weights)

    @staticmethod
    def stands(spark, folder: str) -> bool:
        """Whether :meth:`save` wrote a model into this folder."""
        return files.exists(spark, f"{folder}/{ARCHITECTURE}")

    @classmethod
    def load(cls, spark, folder: str) -> PackedModel:
        """Read back what :meth:`save` wrote; StorageError when it is not there."""
        architecture = files.read(spark, f"{folder}/{ARCHITECTURE}").decode()
        held = files.exists(spark, f"{folder}/{WEIGHTS}")
        return cls(architecture, files.read(spark, f"{folder}/{WEIGHTS}") if held else None)

    def __repr__(self) -> str:
        size = "yet to be initialised" if self.weights is None else f"{len(self.weights):,} bytes of weights"
        return f"<Keras model {json.loads(self.architecture).get('config', {}).get('name', '')!r}, {size}>"
