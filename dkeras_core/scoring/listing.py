"""The files of an input: what kind they are, and whether they are still the same at the end."""

from __future__ import annotations

from dataclasses import dataclass

from dkeras_core.data.source import data_files
from dkeras_core.errors import DataError
from dkeras_core.storage import Storage


@dataclass(frozen=True)
class Listing:
    """The files of the input when the scoring began.

    Parameters
    ----------
    path : str
        The file or folder.
    kind : str
        "parquet" or "csv", by the first bytes of the first file.
    files : tuple of (path, size in bytes, time of change)
    """

    path: str
    kind: str
    files: tuple[tuple[str, int, float], ...]

    @classmethod
    def of(cls, storage: Storage, path: str) -> Listing:
        """List them; DataError when there is nothing, or no byte in it."""
        files = data_files(storage, path)
        with storage.open(files[0].path) as stream:
            kind = "parquet" if stream.read(4) == b"PAR1" else "csv"
        return cls(path, kind, tuple((file.path, file.size, file.modified) for file in files))

    def refuse_change(self, storage: Storage) -> None:
        """Raise DataError when a file has come, gone or changed since."""
        now = Listing.of(storage, self.path)
        changed = sorted({name for name, _, _ in set(self.files) ^ set(now.files)})
        if changed:
            raise DataError(
                f"{self.path} was changed while it was scored: {', '.join(changed[:3])}"
                + (f" and {len(changed) - 3} more" if len(changed) > 3 else ""),
                "start again when nothing writes to it",
            )
