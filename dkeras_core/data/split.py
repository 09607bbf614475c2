"""The split into training, validation and test rows: a function of the key and the seed alone.

``u = (xxhash64(key, seed) mod 2^53) / 2^53`` with Spark's xxhash64 of the key *as text*, followed by the seed as a
64-bit integer. A row belongs to the test split where u < test, to the validation split where u < test + validation,
and to the training split otherwise. With ``folds`` the unit interval is cut into so many equal parts: the test split
is the part number ``fold``, the validation split the rows that follow it, going on with u = 0 after the last; so each
row is in the test split of one fold. A row stays in its split however the input is ordered, partitioned or extended,
whether it comes from CSV or Parquet, and rows of the same key never stand on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.config import Split

if TYPE_CHECKING:
    from pyspark.sql import Column

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
_BITS = 53
_RANGE = 2**_BITS


def key_hash(key: Column, split: Split) -> Column:
    """Return the 64-bit hash of a key column of type string."""
    from pyspark.sql import functions as F

    return F.xxhash64(key, F.lit(split.seed).cast("bigint"))


def split_of(hashed: Column, split: Split) -> Column:
    """Return the name of the split ("train", "validation" or "test") for a column of :func:`key_hash`."""
    from pyspark.sql import functions as F

    place = F.pmod(hashed, F.lit(_RANGE).cast("bigint"))
    if split.folds:
        # In whole numbers, so that no rounding puts a row into two test splits or none; 2^53 * 1000 < 2^63.
        scaled = place * F.lit(split.folds)
        test = F.shiftright(scaled, _BITS) == split.fold - 1
        # Places after the end of the fold, around the circle: in [0, 1 - 1/folds) for rows that are not in the fold.
        end = -(-split.fold * _RANGE // split.folds)
        place = F.pmod(place - F.lit(end).cast("bigint"), F.lit(_RANGE).cast("bigint"))
        validation = place / F.lit(float(_RANGE)) < F.lit(split.validation)
    else:
        u = place / F.lit(float(_RANGE))
        test, validation = u < F.lit(split.test), u < F.lit(split.test + split.validation)
    return F.when(test, TEST).when(validation, VALIDATION).otherwise(TRAIN)
