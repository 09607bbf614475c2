"""The split into training, validation and test rows: a function of the key and the seed alone.

``u = (xxhash64(key, seed) mod 2^53) / 2^53`` with Spark's xxhash64 of the key *as text*, followed by the seed as a
64-bit integer. A row belongs to the test split where u < test, to the validation split where u < test + validation,
and to the training split otherwise. So a row stays in its split however the input is ordered, partitioned or
extended, whether it comes from CSV or Parquet, and rows of the same key never stand on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.config import Split

if TYPE_CHECKING:
    from pyspark.sql import Column

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
_RANGE = 2**53


def key_hash(key: Column, split: Split) -> Column:
    """Return the 64-bit hash of a key column of type string."""
    from pyspark.sql import functions as F

    return F.xxhash64(key, F.lit(split.seed).cast("bigint"))


def split_of(hashed: Column, split: Split) -> Column:
    """Return the name of the split ("train", "validation" or "test") for a column of :func:`key_hash`."""
    from pyspark.sql import functions as F

    u = F.pmod(hashed, F.lit(_RANGE).cast("bigint")) / F.lit(float(_RANGE))
    return (
        F.when(u < F.lit(split.test), TEST).when(u < F.lit(split.test + split.validation), VALIDATION).otherwise(TRAIN)
    )
