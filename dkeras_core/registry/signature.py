"""What a version takes and gives: signature.json, so that callers of one version may be handed another.

::

    {"format": 1,
     "inputs": [{"name": "DER_mass_MMC", "type": "number"}, {"name": "channel", "type": "text"}],
     "outputs": [{"name": "scores", "type": "float32", "shape": [null, 1]}]}

Inputs are the raw columns, as they stand before preprocessing; each may be missing in a row. Outputs are those of the
SavedModel, null being the number of rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.registry.export import OUTPUT

if TYPE_CHECKING:
    import keras

    from dkeras_core.storage.base import Storage

FORMAT = 1
SIGNATURE = "signature.json"
FEATURES = "features.json"


class Column(BaseModel):
    """A raw column: numbers, or text (a category)."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: Literal["number", "text"]


class Output(BaseModel):
    """An output; the first axis of ``shape``, None, is that of the rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.type}[{', '.join('n' if size is None else str(size) for size in self.shape)}]"


class Signature(BaseModel):
    """The content of signature.json; ``outputs`` is None where it is not known (versions of older releases)."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    inputs: tuple[Column, ...]
    outputs: tuple[Output, ...] | None = None

    @classmethod
    def of(cls, features: FeaturePipeline, model: keras.Model | None = None) -> Signature:
        """Return the signature of a model behind its feature pipeline."""
        columns = [Column(name=name, type="number") for name in features.numeric]
        columns += [Column(name=name, type="text") for name in features.categories]
        if model is None:
            return cls(inputs=columns)
        (tensor,) = model.outputs
        return cls(inputs=columns, outputs=[Output(name=OUTPUT, type=str(tensor.dtype), shape=tuple(tensor.shape))])

    def to_bytes(self) -> bytes:
        return f"{json.dumps(self.model_dump(mode='json'), indent=1, ensure_ascii=False)}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Signature:
        """Read a signature; RegistryError, naming ``path``, when it is damaged or of a format to come."""
        try:
            found = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise RegistryError(f"{path}: {place}: {first['msg']}", "Publish the version again.") from error
        if found.format > FORMAT:
            raise RegistryError(
                f"{path}: is of format {found.format}, this dkeras reads {FORMAT}", "Use a newer dkeras."
            )
        return found

    @classmethod
    def read(cls, storage: Storage, folder: str) -> Signature | None:
        """Return the signature of the version in ``folder``.

        Versions of older releases have none: then the inputs are those of its feature pipeline, and without one the
        answer is None. RegistryError when a file is damaged.
        """
        try:
            return cls.from_bytes(storage.read_bytes(f"{folder}/{SIGNATURE}"), f"{folder}/{SIGNATURE}")
        except PathMissing:
            pass
        try:
            return cls.of(FeaturePipeline.from_json(storage.read_bytes(f"{folder}/{FEATURES}")))
        except PathMissing:
            return None


def incompatibilities(signature: Signature, current: Signature) -> list[str]:
    """Return why callers of ``current`` could not be served by ``signature``, one sentence each; empty if they could.

    They may send columns that are no longer needed, but not columns that they do not know, nor others types; and they
    get what they got.
    """
    known = {column.name: column.type for column in current.inputs}
    found = []
    for column in signature.inputs:
        if column.name not in known:
            found.append(f"it needs the column {column.name!r}, which the current version does not")
        elif column.type != known[column.name]:
            found.append(f"the column {column.name!r} is {column.type} instead of {known[column.name]}")
    if None not in (signature.outputs, current.outputs) and signature.outputs != current.outputs:
        mine, theirs = (", ".join(map(str, outputs)) for outputs in (signature.outputs, current.outputs))
        found.append(f"it gives {mine} instead of {theirs}")
    return found
