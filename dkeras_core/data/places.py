"""Where a value stands in the rows, for messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkeras_core.errors import DataError


@dataclass(frozen=True)
class Places:
    """Places of the values of one column in a batch.

    Parameters
    ----------
    name : str
        The column.
    first_row : int
        Number of the batch's first row.
    width : int
        Values in a row.
    positions : int64[values], optional
        ``row * width + element`` of each value, where not all values are stored.
    """

    name: str
    first_row: int
    width: int
    positions: np.ndarray | None = None

    def of(self, value: int) -> str:
        """Say where the value of this number stands."""
        position = value if self.positions is None else int(self.positions[value])
        row, element = divmod(position, self.width)
        return f"column {self.name!r}, row {self.first_row + row}" + (f", value {element}" if self.width > 1 else "")

    def refuse_ragged(self, lengths: np.ndarray, wanted: int, unit: str, lists_in_row: int = 1) -> None:
        """Raise DataError where a length is not the wanted one; there are ``lists_in_row`` lengths for each row."""
        ragged = np.flatnonzero(lengths != wanted)
        if len(ragged):
            row, length = self.first_row + int(ragged[0]) // lists_in_row, int(lengths[ragged[0]])
            raise DataError(
                f"column {self.name!r}, row {row}: {length} {unit}, every row needs {wanted}",
                "bring all rows to the width that the model takes",
            )


def refuse_null(array, places: Places) -> None:
    """Raise DataError at the first null of an Arrow array."""
    if array.null_count:
        position = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        where, _, element = places.of(position).partition(", value ")
        raise DataError(
            f"{where}: " + (f"value {element} is null" if element else "null"),
            "fill missing values before training (features.impute)",
        )
