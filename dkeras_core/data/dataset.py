"""What is known about a preprocessed data set: the file dataset.json, which every later step reads."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from dkeras_core.errors import DataError


@dataclass(frozen=True)
class DatasetInfo:
    """A preprocessed data set.

    Attributes
    ----------
    path : folder with train/, validation/, test/, features/, features.json, dataset.json and _SUCCESS.
    fingerprint : identity of the input's data and of the settings that shape the result.
    reused : whether it stood there already.
    rows : number of rows under "train", "validation", "test" and "in"; the first three add up to the last.
    features : names of the output features, in the order of the array column.
    classes : under "positive" and "negative": "label" (as in the input), "rows" and "weight" (sum of the weights),
        the latter two for "train", "validation", "test" and "in". AMS on the test split needs the weights scaled by
        ``weight["in"] / weight["test"]`` of each class.
    missing : number of missing values in the training split, for each input feature that has some.
    warnings : what is odd but no error, one sentence each.
    seconds : wall time of the preprocessing (of finding it, when reused).
    """

    path: str
    fingerprint: str
    reused: bool
    rows: dict[str, int]
    features: list[str]
    classes: dict[str, dict[str, Any]]
    missing: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any] | str | bytes) -> DatasetInfo:
        """Return the data set described by :meth:`to_json` (or its text); keys of others are ignored.

        Raises
        ------
        DataError : not JSON, or a key is missing.
        """
        try:
            data = json.loads(value) if isinstance(value, str | bytes) else value
            return cls(**{f.name: data[f.name] for f in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the description of a data set (dataset.json) is damaged: {type(error).__name__} {error}",
                "delete the folder of the data set and preprocess again",
            ) from error
