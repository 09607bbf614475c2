"""A built Keras model seen as one flat float32 vector, the form in which update rules and the exchange know it."""

from __future__ import annotations

import bisect

import numpy as np

from dkeras_core.errors import ConfigError, TrainingError

ALIGNMENT = 64
"""Bytes: memory that begins at a multiple of it is taken by compiled calls as it is, other memory is copied first."""


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a copy of a float32 vector at such a place."""
    memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + values.nbytes].view(np.float32)
    copy[:] = values
    return copy


class FlatModel:
    """The trainable variables of a Keras model as one vector, and its averageable state as a second one.

    The order is that of ``model.trainable_variables``, each variable in C order. The state holds the floating-point
    non-trainable weights (moving statistics of batch normalisation, frozen layers): it is averaged between workers,
    never pulled elastically. Seeds of random layers and integer counters belong to the worker and are left out.

    Variables of a narrower type (a ``bfloat16`` policy) are widened on the way out and rounded on the way in;
    under mixed precision Keras keeps the variables in float32, and nothing is lost.

    Parameters
    ----------
    model : keras.Model
        Built; any backend.

    Attributes
    ----------
    n, state_n : int
        Lengths of the two vectors.

    Raises
    ------
    ConfigError
        When the model is not built or has nothing to train.
    """

    def __init__(self, model):
        if not model.built:
            raise ConfigError(
                f"model {model.name!r} has no variables yet: the shape of its input is unknown",
                "begin the model with keras.Input, or call model.build(input_shape)",
            )
        self.model = model
        self.variables = list(model.trainable_variables)
        self.state_variables = [v for v in model.non_trainable_weights if "float" in v.dtype]
        self.slices = _slices(self.variables)
        self._state_slices = _slices(self.state_variables)
        self.n = self.slices[-1].stop if self.slices else 0
        self.state_n = self._state_slices[-1].stop if self._state_slices else 0
        if self.n == 0:
            raise ConfigError(f"model {model.name!r} has no trainable weights", "add a layer that learns")

    def get(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return the trainable variables as float32[n], written into ``out`` when given."""
        return _read(self.variables, self.slices, self.n, out)

    def set(self, x: np.ndarray) -> None:
        """Assign float32[n] to the trainable variables."""
        _write(self.variables, self.slices, self.n, x)

    def get_state(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return the averageable state as float32[state_n] (length 0 when the model has none)."""
        return _read(self.state_variables, self._state_slices, self.state_n, out)

    def set_state(self, state: np.ndarray) -> None:
        """Assign float32[state_n] to the averageable state."""
        _write(self.state_variables, self._state_slices, self.state_n, state)

    def name_of(self, index: int) -> str:
        """Return which number of which variable stands at ``index`` of the flat vector: ``"dense/kernel[3, 7]"``."""
        return self._name(self.variables, self.slices, index)

    def state_name_of(self, index: int) -> str:
        """As ``name_of``, of the state."""
        return self._name(self.state_variables, self._state_slices, index)

    def _name(self, variables, slices, index: int) -> str:
        number = bisect.bisect_right([piece.stop for piece in slices], index)
        variable = variables[number]
        at = np.unravel_index(index - slices[number].start, tuple(variable.shape))
        path = variable.path.removeprefix(f"{self.model.name}/")
        return f"{path}[{', '.join(str(int(i)) for i in at)}]"


def _slices(variables) -> list[slice]:
    ends = np.cumsum([int(np.prod(v.shape)) for v in variables], dtype=np.int64).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _read(variables, slices, n, out):
    if out is None:
        out = np.empty(n, np.float32)
    else:
        _check(out, n)
    for variable, piece in zip(variables, slices, strict=True):
        out[piece] = variable.numpy().reshape(-1)
    return out


def _write(variables, slices, n, x):
    _check(x, n)
    for variable, piece in zip(variables, slices, strict=True):
        value = x[piece].reshape(variable.shape)
        variable.assign(value if variable.dtype == "float32" else value.astype(variable.numpy().dtype))


def _check(x, n):
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != (n,):
        found = f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TrainingError(f"expected a vector float32[{n}] of this model's parameters, got {found}")
