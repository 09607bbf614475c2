"""Assemble the folder of a version: the model in each form that somebody loads, and what belongs to it.

::

    model.keras            keras.models.load_model
    architecture.json      the model without weights
    saved_model.pb, variables/, fingerprint.pb
                           tf.saved_model.load and TensorFlow Serving, directly in the folder (TensorFlow backend)
    features.json, features/, metrics.json, report.html, pipeline.yaml
                           whatever the caller adds
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dkeras_core.errors import RegistryError

if TYPE_CHECKING:
    import keras

INPUT, OUTPUT = "features", "scores"


def assemble(folder: Path, model: keras.Model, extras: Mapping[str, Path | bytes] | None = None) -> Path:
    """Write a version's files into a new local folder and return it.

    Parameters
    ----------
    folder : Path
        Made here; must not hold anything yet.
    model : keras.Model
        A built model of one input, float32 [n, d].
    extras : mapping, optional
        Name below the folder -> bytes, or a file or folder of this machine to copy (Hadoop's .crc files left out).

    Raises
    ------
    RegistryError
        The folder is not empty, the model has not one input, or an extra name is taken or leads outside.
    """
    import keras

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RegistryError(f"{folder}: is not empty", "Choose a new folder.")
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 2:
        shapes = ", ".join(str(tensor.shape) for tensor in model.inputs)
        raise RegistryError(f"the model's inputs are {shapes}", "Use a model of one input of shape (None, features).")
    folder.mkdir(parents=True, exist_ok=True)
    if keras.backend.backend() == "tensorflow":
        _save_for_serving(model, folder)
    model.save(folder / "model.keras")
    (folder / "architecture.json").write_text(model.to_json())
    for name, content in (extras or {}).items():
        _add(folder, name, content)
    return folder


def _save_for_serving(model: keras.Model, folder: Path) -> None:
    """Write a SavedModel with one function, named ``serve`` and ``serving_default``.

    A module of one function and the variables takes half the time of Model.export, which also writes Keras's own
    description of the object, and it names input and output: ``{"features": [n, d]}`` -> ``{"scores": [n, k]}``.
    """
    import tensorflow as tf

    shape = [None, *model.inputs[0].shape[1:]]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT)])
    def serve(features):
        return {OUTPUT: model(features, training=False)}

    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures=serve)


def _add(folder: Path, name: str, content: Path | bytes) -> None:
    parts = PurePosixPath(name)
    target = folder / name
    if parts.is_absolute() or ".." in parts.parts or target.exists():
        raise RegistryError(f"{name!r} cannot be added to {folder}: taken, or outside of it", "Choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif content.is_dir():
        shutil.copytree(content, target, ignore=shutil.ignore_patterns(".*.crc"))
    else:
        shutil.copyfile(content, target)
