"""Local training on one worker: windows of tau steps between two exchanges."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager

import keras
import numpy as np

from dkeras_core.errors import ConfigError, DkerasError, TrainingError
from dkeras_core.learning import nonfinite
from dkeras_core.learning.batches import checked, class_weighted, parts, structured
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.keras_steps import KerasSteps
from dkeras_core.learning.lookahead import Lookahead
from dkeras_core.learning.losses import compiled_losses
from dkeras_core.learning.settings import make_optimizer, seed_model


class LocalTrainer:
    """Trains a Keras model in windows; a window is ``[k, b, ...]`` arrays: k batches of b rows, one step each.

    On TensorFlow a window is one compiled call (XLA, else a plain graph), on JAX too. What cannot be compiled, and
    every other backend, takes ``train_on_batch``. All make the steps that ``keras.Model.fit`` would make: any
    optimizer, loss, sample weight, regulariser, dropout, batch normalisation, loss scaling under mixed precision.

    Algorithms that exchange gradients call :meth:`gradient` and :meth:`step` instead of :meth:`window`.

    Parameters
    ----------
    model : keras.Model
        Built. It is compiled here, and belongs to the trainer from then on.
    optimizer, loss
        What :func:`make_optimizer` and :func:`make_loss` take; several outputs take a list or dict of losses.
        The state of the optimizer stays with this worker.
    loss_weights : float, list or dict of float, optional
        Factor on the loss of each output (:func:`weights_of`).
    batch_size, communication_period : int
        b and tau of a full window. Windows of any other shape are trained too, exactly; full ones are fastest.
    class_weight : mapping of int to float, optional
        Weight of each class, multiplied onto sample weights; for one output.
    lookahead : bool
        For Keras' SGD with Nesterov momentum: the flat vector given and returned is the x of the papers, not the
        look-ahead point x + momentum * velocity that Keras keeps (EAMSGD, arXiv 1412.6651, Algorithm 2).
    seed : int, optional
        Seeds dropout and the like; workers take different seeds, the same seed repeats a run bit for bit.

    Attributes
    ----------
    fused : str
        "xla", "graph (...)", "jax" or "no (...)", with the reason for not being faster.
    steps, rows : int
        Trained so far.
    losses : float32 array
        Loss of each step of the last window.
    compute_seconds, compile_seconds : float
        Time in windows so far; the first window of each kind, which compiles, counts in the second figure only.
    window_seconds : float
        Time of the last window.

    Raises
    ------
    ConfigError
        Optimizer or loss unknown; weights of losses that do not fit; model without weights; look-ahead without
        Nesterov momentum.
    """

    def __init__(
        self,
        model,
        optimizer="adam",
        loss="binary_crossentropy",
        *,
        loss_weights=None,
        batch_size: int = 32,
        communication_period: int = 10,
        class_weight: Mapping[int, float] | None = None,
        lookahead: bool = False,
        seed: int | None = None,
    ):
        if batch_size < 1 or communication_period < 1:
            raise ConfigError(
                f"batch size {batch_size} and communication period {communication_period} must be at least 1"
            )
        self.model = model
        self.flat = FlatModel(model)
        self._compile(make_optimizer(optimizer), compiled_losses(model, loss, loss_weights))
        if seed is not None:
            seed_model(model, seed)
        self._class_weight = dict(class_weight or {})
        ahead = Lookahead.of(self.optimizer) if lookahead else None
        self._paths = _paths(self.flat, communication_period, batch_size, ahead)
        self.fused, self._path = next(self._paths)
        self._period = communication_period
        self._proven: set = set()
        self.steps = self.rows = 0
        self.losses = np.empty(0, np.float32)
        self.compute_seconds = self.compile_seconds = self.window_seconds = 0.0

    def _compile(self, optimizer, losses):
        # Keras compiles train_on_batch by XLA where that is its only compiler; windows are compiled apart from it.
        jit = "auto" if keras.backend.backend() == "jax" else False
        try:
            self.model.compile(optimizer=optimizer, **losses, jit_compile=jit)
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
            When a loss is not finite, ``x`` stays as it was, for :meth:`explain_nonfinite`.

        Raises
        ------
        DataError
            Arrays that disagree in k or b, do not fit the model, or hold no row.
        TrainingError
            The backend failed; the message of the backend is included.
        """
        data, steps, rows = self._data(window)
        losses = []
        with self._clock():
            for _, part in parts(steps, self._period, data):
                kind = ("window", rows, part[2] is None, x is None)
                losses.append(self._tried(kind, lambda part=part: self._path.run(*part, x), x))
                if not np.isfinite(losses[-1]).all():
                    break
        self.losses = np.concatenate(losses)
        self.steps += len(self.losses)
        self.rows += len(self.losses) * rows
        return float(self.losses.mean())

    def gradient(self, window, out: np.ndarray, x: np.ndarray | None = None) -> float:
        """Write the mean gradient of the window's batches at ``x`` into ``out``; return the mean of their losses.

        No step is made, so ``steps`` stays; moving statistics of batch normalisation and random streams go on as in
        training. Parameters and exceptions as for :meth:`window`, and

        Parameters
        ----------
        out : float32[n]
            With loss scaling, the gradient of the unscaled loss.

        Raises
        ------
        ConfigError
            The model has a ``train_step`` of its own.
        """
        data, steps, rows = self._data(window)
        done, total, piece = 0, 0.0, out
        with self._clock():
            for count, part in parts(steps, self._period, data):
                kind = ("gradient", rows, part[2] is None, x is None)
                total += count * self._finite_gradient(kind, part, piece, x)
                done += count
                if piece is not out:
                    out += (piece - out) * np.float32(count / done)
                elif done < steps:
                    piece = np.empty_like(out)
        self.rows += steps * rows
        return total / steps

    def _finite_gradient(self, kind, part, out, x) -> float:
        """Take a gradient; while a dynamic loss scale makes it overflow, halve that scale, as a step would."""
        while True:
            loss = self._tried(kind, lambda: self._path.gradient(*part, x, out), x)
            scale = getattr(self.optimizer, "dynamic_scale", None)
            if scale is None or not np.isfinite(loss) or np.isfinite(out).all() or float(scale.numpy()) < 1:
                return loss
            scale.assign(float(scale.numpy()) / 2)

    def step(self, gradient: np.ndarray, x: np.ndarray) -> None:
        """Make one step of the local optimizer with a gradient; both float32[n].

        Parameters
        ----------
        gradient : float32[n]
            Of the unscaled loss, as :meth:`gradient` gives it; the mean over all workers, say.
        x : float32[n]
            In and out.
        """
        with self._clock():
            self._tried(("step",), lambda: self._path.step(gradient, x), x)
        self.steps += 1

    def explain_nonfinite(self, window, x: np.ndarray) -> str:
        """Return one sentence that names the first layer, gradient or parameter that is not finite.

        Parameters
        ----------
        window : (features, labels) or (features, labels, weights)
            The one that gave a loss which is not finite.
        x : float32[n]
            The parameters before it, which :meth:`window` has left in its ``x``.
        """
        data, _, _ = self._data(window)
        try:
            return nonfinite.explain(self.flat, self._path, self.optimizer, data, x)
        except Exception as error:  # a model of any kind: that the loss is not finite is known already
            return f"its origin was not found ({_first_line(error)})"

    def _data(self, window):
        xs, ys, ws = (*window, None) if len(window) == 2 else window
        steps, rows = checked(self.model, xs, ys, ws)
        if self._class_weight:
            ws = class_weighted(ys, ws, self._class_weight)
        return structured(self.model, xs, ys, ws), steps, rows

    @contextmanager
    def _clock(self):
        """Time what is done inside; when something was done for the first time, the time went into compiling."""
        proven, begun = set(self._proven), time.perf_counter()
        yield
        self.window_seconds = time.perf_counter() - begun
        if self._proven <= proven:
            self.compute_seconds += self.window_seconds
        else:
            self.compile_seconds += self.window_seconds

    def _tried(self, kind, call, x):
        """Run a compiled call of the present path; the first of its kind may fail, then slower paths are tried."""
        if kind in self._proven:
            try:
                return call()
            except Exception as error:
                raise TrainingError(f"a window of local steps failed: {_first_line(error)}") from error
        # The first call of a kind compiles. When that fails, the slower path below starts from the same variables.
        variables = [*self.model.variables, *self.optimizer.variables]
        before = [np.array(variable.numpy()) for variable in variables]
        start = None if x is None else x.copy()
        while True:
            try:
                result = call()
            except Exception as error:
                for variable, value in zip(variables, before, strict=True):
                    variable.assign(value)
                if x is not None:
                    x[:] = start
                if isinstance(error, ConfigError):
                    raise
                following = next(self._paths, None)
                if following is None:
                    raise TrainingError(f"a window of local steps failed: {_first_line(error)}") from error
                name, self._path = following
                self.fused = f"{name} ({_first_line(error)})"
                self._proven.clear()
            else:
                self._proven.add(kind)
                return result


def _paths(flat: FlatModel, period: int, batch_size: int, lookahead: Lookahead | None):
    """Yield (name, path), fastest first."""
    model, backend = flat.model, keras.backend.backend()
    if type(model).train_step is not keras.Model.train_step:
        yield f"no ({type(model).__name__} has a train_step of its own)", KerasSteps(flat, lookahead)
    elif backend == "tensorflow":
        from dkeras_core.learning.fused_tensorflow import FusedWindow

        yield "xla", FusedWindow(flat, period, batch_size, "xla", lookahead)
        yield "graph", FusedWindow(flat, period, batch_size, "graph", lookahead)
        eager = FusedWindow(flat, period, batch_size, "eager", lookahead)
        yield "no", KerasSteps(flat, lookahead, eager)
    elif backend == "jax":
        from dkeras_core.learning.fused_jax import FusedWindow

        yield "jax", FusedWindow(flat, period, batch_size, lookahead=lookahead)
        eager = FusedWindow(flat, period, batch_size, compiled=False, lookahead=lookahead)
        yield "no", KerasSteps(flat, lookahead, eager)
    else:
        yield f"no (windows are compiled on TensorFlow and JAX, the backend is {backend})", KerasSteps(flat, lookahead)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = "" if isinstance(error, DkerasError) else f"{type(error).__name__}: "
    return name + (lines[0][:300] if lines else "no message")
