"""Builds the training environment that YARN unpacks in every container.

The chain: hash-locked wheels -> one conda package each (and one of CPython itself) -> a local channel -> solved and
installed by rattler -> packed by conda-pack, compiled, written as a deterministic tar.gz -> tried at another path.
"""

from envs.builder.archive import Archive, ensure_archive
from envs.builder.publish import upload, upload_spark_jars

__all__ = ["Archive", "ensure_archive", "upload", "upload_spark_jars"]
