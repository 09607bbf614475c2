"""Saving and loading of estimators and models: params as JSON, the Keras model beside them; never pickle."""

from __future__ import annotations

from typing import Any

from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLReader, MLWritable, MLWriter

from dkeras_core.errors import ConfigError
from dkeras_core.ml.packed import PackedModel


class Stored(MLWritable, MLReadable):
    """A stage with params of plain values and a param ``model``, on any file system that Hadoop knows::

    <path>/metadata/            the params, as Spark's own stages keep them
    <path>/architecture.json    the Keras model
    <path>/weights.bin          its weights, when it has some
    """

    unsaved: tuple[str, ...] = ("model",)

    def write(self) -> MLWriter:
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader:
        return _Reader(cls)

    def _extra(self) -> dict[str, Any]:
        """What is kept beside the params."""
        return {}

    def _restore(self, metadata: dict[str, Any]) -> None:
        """Take back what :meth:`_extra` gave."""


class _Writer(MLWriter):
    def __init__(self, instance: Stored):
        super().__init__()
        self._instance = instance

    def saveImpl(self, path: str) -> None:
        instance = self._instance
        held = {param.name: value for param, value in instance._paramMap.items() if param.name not in instance.unsaved}
        DefaultParamsWriter.saveMetadata(instance, path, self.sparkSession, instance._extra(), held)
        if instance.isSet("model"):
            instance.getOrDefault("model").save(self.sparkSession, path)


class _Reader(MLReader):
    def __init__(self, kind: type):
        super().__init__()
        self._kind = kind

    def load(self, path: str):
        """Read a stage. ConfigError when it is of another class, an error of the file system when it is not there."""
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession)
        written = metadata["class"].rsplit(".", 1)[-1]
        if written != self._kind.__name__:
            raise ConfigError(f"{path} holds a {written}, not a {self._kind.__name__}", f"load it with {written}.load")
        instance = self._kind()
        instance._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(instance, metadata)
        if PackedModel.stands(self.sparkSession, path):
            instance._set(model=PackedModel.load(self.sparkSession, path))
        instance._restore(metadata)
        return instance
