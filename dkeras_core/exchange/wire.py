"""How vectors travel: as float32, rounded to 16 bits, or as the ternary messages of threshold-compressed rules.

Center and workers are float32 always; an encoding concerns the message and the answer of an exchange only, shard by
shard. Each object here holds the scratch of one connection, or of one of its directions where both are used at once.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.exchange.frames import VECTOR

FLOAT16_END = 65520.0  # from here on a value would round to infinity
_EXPONENT = np.uint32(0x7F800000)


class Unsendable(TrainingError):
    """A value that the encoding cannot carry."""


class Dense(Protocol):
    """Values of ``itemsize`` bytes; ``code`` is the frames' encoding."""

    code: int
    itemsize: int

    def encode(self, values: np.ndarray) -> np.ndarray:
        """What travels for ``values``: an array that holds until the next call. Raises Unsendable."""

    def buffer(self, values: np.ndarray) -> np.ndarray:
        """Where what travels for ``values`` is to be received."""

    def decode(self, received: np.ndarray, values: np.ndarray) -> None:
        """Fill ``values`` from what was received in ``buffer(values)``."""

    def round(self, values: np.ndarray) -> None:
        """Round ``values`` in place to what the other side will decode. Raises Unsendable."""

    def check(self, values: np.ndarray) -> None:
        """Raise Unsendable when ``encode`` would."""


class Float32:
    """Values as they lie in memory: nothing is copied."""

    code = 0
    itemsize = VECTOR.itemsize

    def __init__(self, shard: int):
        pass

    def encode(self, values: np.ndarray) -> np.ndarray:
        return values

    def buffer(self, values: np.ndarray) -> np.ndarray:
        return values

    def decode(self, received: np.ndarray, values: np.ndarray) -> None:
        pass

    def round(self, values: np.ndarray) -> None:
        pass

    def check(self, values: np.ndarray) -> None:
        pass


class BFloat16:
    """The upper half of a float32, rounded to the nearest, ties to even: its range with 8 bits of precision."""

    code = 1
    itemsize = 2

    def __init__(self, shard: int):
        self._bits = np.empty(shard, np.uint32)
        self._words = np.empty(shard, np.uint16)

    def encode(self, values: np.ndarray) -> np.ndarray:
        bits, words = self._bits[: values.size], self._words[: values.size]
        self._rounded(values, bits)
        np.copyto(words, bits.view(np.uint16)[1::2])
        return words

    def buffer(self, values: np.ndarray) -> np.ndarray:
        return self._words[: values.size]

    def decode(self, received: np.ndarray, values: np.ndarray) -> None:
        np.left_shift(received, 16, out=values.view(np.uint32), dtype=np.uint32)

    def round(self, values: np.ndarray) -> None:
        bits = self._bits[: values.size]
        self._rounded(values, bits)
        np.bitwise_and(bits, np.uint32(0xFFFF0000), out=values.view(np.uint32))

    def check(self, values: np.ndarray) -> None:
        pass

    @staticmethod
    def _rounded(values: np.ndarray, bits: np.ndarray) -> None:
        """Add half of the last place that stays, less a bit when that place is even: the carry rounds."""
        source = values.view(np.uint32)
        np.right_shift(source, 16, out=bits)
        np.bitwise_and(bits, np.uint32(1), out=bits)
        np.add(bits, np.uint32(0x7FFF), out=bits)
        np.add(bits, source, out=bits)
        if not np.isfinite(np.einsum("i->", values)):  # a carry may have made a number of NaN
            wrong = np.flatnonzero((source & _EXPONENT) == _EXPONENT)
            bits[wrong] = source[wrong] | np.uint32(0x00400000) * ((source[wrong] & np.uint32(0x007FFFFF)) != 0)


class Float16:
    """IEEE half precision: 11 bits of precision, values up to 65504."""

    code = 2
    itemsize = 2

    def __init__(self, shard: int):
        self._halves = np.empty(shard, np.float16)

    def encode(self, values: np.ndarray) -> np.ndarray:
        halves = self._halves[: values.size]
        try:
            with np.errstate(over="raise"):
                np.copyto(halves, values, casting="same_kind")
        except FloatingPointError:
            raise self._too_large(values) from None
        return halves

    def buffer(self, values: np.ndarray) -> np.ndarray:
        return self._halves[: values.size]

    def decode(self, received: np.ndarray, values: np.ndarray) -> None:
        np.copyto(values, received)

    def round(self, values: np.ndarray) -> None:
        np.copyto(values, self.encode(values))

    def check(self, values: np.ndarray) -> None:
        if max(values.max(), -values.min()) >= FLOAT16_END:
            raise self._too_large(values)

    @staticmethod
    def _too_large(values: np.ndarray) -> Unsendable:
        largest = int(np.argmax(np.abs(values)))
        return Unsendable(
            f"the value {values[largest]:g} cannot travel as float16, which ends at {np.finfo(np.float16).max:g}",
            "set training.wire to float32, or to bfloat16 where the algorithm takes it",
        )


DENSE: dict[str, type[Float32 | BFloat16 | Float16]] = {"float32": Float32, "bfloat16": BFloat16, "float16": Float16}


def dense(name: str) -> type[Float32 | BFloat16 | Float16]:
    """The dense encoding of that name. Raises ConfigError."""
    if name not in DENSE:
        raise ConfigError(
            f"wire must be one of {', '.join(DENSE)}, not {name!r}", "leave training.wire out for float32"
        )
    return DENSE[name]
