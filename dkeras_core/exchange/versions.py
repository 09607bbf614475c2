"""Versions that the driver and its workers must share."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping


def versions() -> dict[str, str]:
    """Python, NumPy and Keras of this process, read without importing them."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "keras"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs, as "keras 3.14.0 against the driver's 3.15.1".

    Versions agree when their first two numbers do: patch releases keep their formats and numbers.
    """
    return [
        f"{name} {found.get(name, 'missing')} against the driver's {version}"
        for name, version in expected.items()
        if str(found.get(name, "missing")).split(".")[:2] != str(version).split(".")[:2]
    ]
