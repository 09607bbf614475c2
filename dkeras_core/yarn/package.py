"""dkeras_core as one zip for ``--py-files``: deterministic, addressed by content, apart from the big archive."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import dkeras_core

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can hold


def package(folder: Path) -> Path:
    """Return ``folder/dkeras_core-<hash>.zip``, written when it is not there yet.

    Holds every file of the package but compiled ones: templates travel with the code that renders them.
    """
    source = Path(dkeras_core.__file__).parent
    files = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    digest = hashlib.sha256()
    contents = []
    for path in files:
        name = path.relative_to(source.parent).as_posix()
        data = path.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
        contents.append((name, data))
    target = folder / f"dkeras_core-{digest.hexdigest()[:16]}.zip"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(target, contents)
    return target


def _write(target: Path, contents: list[tuple[str, bytes]]) -> None:
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, data in contents:
                info = zipfile.ZipInfo(name, _EPOCH)
                info.external_attr = 0o644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
