"""Local training on one worker: windows of tau steps between two exchanges."""

from __future__ import annotations

import time
from collections.abc import Mapping

import keras
import numpy as np
from keras import tree

from dkeras_core.errors import ConfigError, DataError, DkerasError, TrainingError
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.settings import check_loss, make_optimizer, seed_model


class LocalTrainer:
    """Trains a Keras model in windows; a window is ``[k, b, ...]`` arrays: k batches of b rows, one step each.

    On TensorFlow a window is one compiled call (XLA, else a plain graph). What cannot be compiled, and every other
    backend, takes ``train_on_batch``. All three make the steps that ``keras.Model.fit`` would make: any optimizer,
    loss, sample weight, regulariser, dropout, batch normalisation, loss scaling under mixed precision.

    Parameters
    ----------
    model : keras.Model
        Built. It is compiled here, and belongs to the trainer from then on.
    optimizer, loss
        What :func:`make_optimizer` and ``keras.losses.get`` take; several outputs take a list or dict of losses.
        The state of the optimizer stays with this worker.
    batch_size, communication_period : int
        b and tau of a full window. Windows of any other shape are trained too, exactly; full ones are fastest.
    class_weight : mapping of int to float, optional
        Weight of each class, multiplied onto sample weights; for one output.
    seed : int, optional
        Seeds dropout and the like; workers take different seeds, the same seed repeats a run bit for bit.

    Attributes
    ----------
    fused : str
        "xla", "graph (...)" or "no (...)", with the reason for not being faster.
    steps, rows : int
        Trained so far.
    compute_seconds, compile_seconds : float
        Time in windows so far; the first window of each kind, which compiles, counts in the second figure only.
    window_seconds : float
        Time of the last window.

    Raises
    ------
    ConfigError
        Optimizer or loss unknown; model without weights.
    """

    def __init__(
        self,
        model,
        optimizer="adam",
        loss="binary_crossentropy",
        *,
        batch_size: int = 32,
        communication_period: int = 10,
        class_weight: Mapping[int, float] | None = None,
        seed: int | None = None,
    ):
        if batch_size < 1 or communication_period < 1:
            raise ConfigError(
                f"batch size {batch_size} and communication period {communication_period} must be at least 1"
            )
        self.model = model
        self.flat = FlatModel(model)
        check_loss(loss)
        self._compile(make_optimizer(optimizer), loss)
        if seed is not None:
            seed_model(model, seed)
        self._class_weight = dict(class_weight or {})
        self._paths = _paths(self.flat, communication_period, batch_size)
        self.fused, self._path = next(self._paths)
        self._period = communication_period
        self._proven: set = set()
        self.steps = self.rows = 0
        self.compute_seconds = self.compile_seconds = self.window_seconds = 0.0

    def _compile(self, optimizer, loss):
        try:
            self.model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"model {self.model.name!r} cannot be compiled: {_first_line(error)}") from error
        self.optimizer = self.model.optimizer
        self.optimizer.build(self.model.trainable_variables)

    def window(self, window, x: np.ndarray | None = None) -> float:
        """Train on every batch of a window and return the mean of the losses.

        Parameters
        ----------
        window : (features, labels) or (features, labels, weights)
            Arrays [k, b, ...], or structures of them for several inputs or outputs; weights [k, b] or None.
        x : float32[n], optional
            The flat parameters, in and out: training starts from ``x`` and leaves its result there. On the fused
            path this costs next to nothing. Without it, training starts from the variables of the model.

        Raises
        ------
        DataError
            Arrays that disagree in k or b, do not fit the model, or hold no row.
        TrainingError
            The backend failed; the message of the backend is included.
        """
        xs, ys, ws = (*window, None) if len(window) == 2 else window
        steps, rows = self._checked(xs, ys, ws)
        if self._class_weight:
            ws = _class_weighted(ys, ws, self._class_weight)
        started = time.perf_counter()
        compiled = False
        total = 0.0
        for first in range(0, steps, self._period):
            part = (xs, ys, ws)
            if steps > self._period:
                part = _map(lambda a, at=first: a[at : at + self._period], part)
            count = min(self._period, steps - first)
            compiled |= self._first_of_its_kind(rows, part, x)
            total += self._run(rows, part, x) * count
        self.window_seconds = time.perf_counter() - started
        if compiled:
            self.compile_seconds += self.window_seconds
        else:
            self.compute_seconds += self.window_seconds
        self.steps += steps
        self.rows += steps * rows
        return total / steps

    def _kind(self, rows, part, x):
        return rows, part[2] is None, x is None

    def _first_of_its_kind(self, rows, part, x) -> bool:
        return self._kind(rows, part, x) not in self._proven

    def _run(self, rows, part, x) -> float:
        if not self._first_of_its_kind(rows, part, x):
            try:
                return self._path.run(*part, x)
            except Exception as error:
                raise TrainingError(f"a window of local steps failed: {_first_line(error)}") from error
        # The first window of a kind compiles. When that fails, the slower path below starts from the same variables.
        variables = [*self.model.variables, *self.optimizer.variables]
        before = [variable.numpy() for variable in variables]
        start = None if x is None else x.copy()
        while True:
            try:
                loss = self._path.run(*part, x)
            except Exception as error:
                for variable, value in zip(variables, before, strict=True):
                    variable.assign(value)
                if x is not None:
                    x[:] = start
                following = next(self._paths, None)
                if following is None:
                    raise TrainingError(f"a window of local steps failed: {_first_line(error)}") from error
                name, self._path = following
                self.fused = f"{name} ({_first_line(error)})"
                self._proven.clear()
            else:
                self._proven.add(self._kind(rows, part, x))
                return loss

    def _checked(self, xs, ys, ws) -> tuple[int, int]:
        """Return (k, b), the same for every array of the window."""
        arrays = [a for a in tree.flatten((xs, ys, ws)) if a is not None]
        leading = {tuple(a.shape[:2]) for a in arrays}
        if len(leading) != 1 or len(next(iter(leading))) != 2 or 0 in next(iter(leading)):
            raise DataError(
                f"a window holds arrays [k batches, b rows, ...], the same k and b in all; got {sorted(leading)}"
            )
        inputs = getattr(self.model, "inputs", None) or []
        given = tree.flatten(xs)
        if inputs and len(inputs) != len(given):
            raise DataError(f"the model takes {len(inputs)} inputs, the window holds {len(given)}")
        for tensor, array in zip(inputs, given, strict=False):
            wanted, row = tuple(tensor.shape[1:]), array.shape[2:]
            fits = len(wanted) == len(row) and all(w in (None, r) for w, r in zip(wanted, row, strict=True))
            if not fits:
                raise DataError(
                    f"a row of the window has shape {list(row)}, input {tensor.name!r} of the model "
                    f"takes {list(wanted)}",
                    "features and model must come from the same pipeline",
                )
        return next(iter(leading))


class KerasSteps:
    """The path that every backend has: one ``train_on_batch`` a step."""

    def __init__(self, flat: FlatModel):
        self._flat = flat

    def run(self, xs, ys, ws, x) -> float:
        model = self._flat.model
        if x is not None:
            self._flat.set(x)
        count = len(tree.flatten(xs)[0])
        total = 0.0
        for step in range(count):
            features, labels, weights = _map(lambda a, at=step: a[at], (xs, ys, ws))
            logs = model.train_on_batch(features, labels, sample_weight=weights, return_dict=True)
            if "loss" not in logs:
                raise ConfigError(f"train_step of {type(model).__name__} returns no 'loss'", "return {'loss': ...}")
            total += float(logs["loss"])
        if x is not None:
            self._flat.get(x)
        return total / count


def _paths(flat: FlatModel, period: int, batch_size: int):
    """Yield (name, path), fastest first."""
    model, backend = flat.model, keras.backend.backend()
    if backend != "tensorflow":
        yield f"no (windows are compiled on TensorFlow only, the backend is {backend})", KerasSteps(flat)
        return
    if type(model).train_step is not keras.Model.train_step:
        yield f"no ({type(model).__name__} has a train_step of its own)", KerasSteps(flat)
        return
    from dkeras_core.learning.fused_tensorflow import FusedWindow

    yield "xla", FusedWindow(flat, period, batch_size, xla=True)
    yield "graph", FusedWindow(flat, period, batch_size, xla=False)
    yield "no", KerasSteps(flat)


def _map(function, structure):
    return tree.map_structure(lambda a: None if a is None else function(a), structure)


def _class_weighted(ys, ws, class_weight):
    """Return float32[k, b]: the weight of each row's class, times its sample weight."""
    if not isinstance(ys, np.ndarray):
        raise ConfigError("class weights need a model with one output", "use sample weights instead")
    one_hot = ys.ndim == 3 and ys.shape[2] > 1
    classes = (ys.argmax(2) if one_hot else ys.reshape(ys.shape[:2])).astype(np.int64)
    table = np.ones(max(int(classes.max()), *class_weight) + 1, np.float32)
    for label, weight in class_weight.items():
        table[label] = weight
    return table[classes] if ws is None else table[classes] * ws


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = "" if isinstance(error, DkerasError) else f"{type(error).__name__}: "
    return name + (lines[0][:300] if lines else "no message")
