"""The model registry in HDFS paths: immutable numbered versions, published by rename without overwrite.

docs/registry.md is the specification; this room is one implementation of it.
"""

from __future__ import annotations

from dkeras_core.registry.manifest import Lineage, Manifest, code_version
from dkeras_core.registry.registry import Registry, Version

__all__ = ["Lineage", "Manifest", "Registry", "Version", "code_version"]
