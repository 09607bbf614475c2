"""A whole window of local steps as one compiled TensorFlow call."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dkeras_core.errors import TrainingError
from dkeras_core.learning.batches import padded
from dkeras_core.learning.flat import ALIGNMENT, FlatModel
from dkeras_core.learning.lookahead import Lookahead

# On a CPU, XLA makes naive loops of these: 6 to 19 times slower than the library calls of a plain graph.
_SLOW_UNDER_XLA = ("Conv", "MaxPool", "AvgPool")


class FusedWindow:
    """Runs up to ``period`` steps in one call: a loop on the device, so that Python is entered once a window.

    The flat vector goes in and comes out with the same call: assigning it before the first step and concatenating
    the variables after the last one then cost a copy each, where separate calls cost an eighth of a small window.
    The number of steps is an argument of the compiled call, so a short window needs no second compilation.

    Batches of another size (the last of an epoch) run one by one through a graph that takes any size.

    Parameters
    ----------
    flat : FlatModel
        Its model is compiled with optimizer and loss, and the optimizer is built.
    period, batch_size : int
        Shape of a full window.
    how : str
        "xla", "graph" (compiled without XLA) or "eager" (not compiled).
    lookahead : Lookahead, optional
        Given, the flat vectors are the x of the papers.
    """

    def __init__(self, flat: FlatModel, period: int, batch_size: int, how: str, lookahead: Lookahead | None = None):
        self._period = period
        self._batch_size = batch_size
        self._flat = flat
        self._model = flat.model
        self._lookahead = lookahead
        self._takes_training = getattr(flat.model, "_call_has_training_arg", True)
        self._xla = how == "xla"
        self._unchecked = self._xla and not tf.config.list_physical_devices("GPU")
        self._compiles = how != "eager"
        self._window, self._odd_window = self._compiled(self._steps, how)
        self._gradient, self._odd_gradient = self._compiled(self._summed_gradient, how)
        self._step, _ = self._compiled(self._applied, how)

    def _compiled(self, function, how):
        """Return the function for full windows, and the one for batches of any size."""
        if not self._compiles:
            return function, function
        return _Entered(function, how == "xla"), tf.function(function, reduce_retracing=True, autograph=False)

    def run(self, xs, ys, ws, x: np.ndarray | None) -> np.ndarray:
        """Train on batches [k, b, ...] and return their k losses; ``x`` is read, then overwritten.

        When a loss is not finite, ``x`` stays as it was.
        """
        function, data, steps = self._shaped(xs, ys, ws, self._window, self._odd_window)
        losses, flat = function(*data, self._shared(x), np.int32(steps))
        losses = losses.numpy()[:steps]
        if x is not None and np.isfinite(losses).all():
            np.copyto(x, np.asarray(flat))  # on a CPU a view of the tensor, where numpy() is a copy
        return losses

    def gradient(self, xs, ys, ws, x: np.ndarray | None, out: np.ndarray) -> float:
        """Write the mean gradient of the batches at ``x`` into ``out`` and return the mean of their losses."""
        function, data, steps = self._shaped(xs, ys, ws, self._gradient, self._odd_gradient)
        loss, flat = function(*data, self._shared(x), np.int32(steps))
        np.copyto(out, np.asarray(flat))
        return float(loss)

    def step(self, gradient: np.ndarray, x: np.ndarray) -> None:
        """Make one step of the optimizer from ``x``, in place."""
        np.copyto(x, np.asarray(self._step(gradient, x)))

    def _shaped(self, xs, ys, ws, full, odd):
        if self._unchecked:
            self._refuse_slow_operations(xs)
            self._unchecked = False
        data = (xs, ys, ws)
        steps, rows = tf.nest.flatten(xs)[0].shape[:2]
        if rows != self._batch_size:
            return odd, data, steps
        return full, padded(data, self._period) if steps < self._period and self._compiles else data, steps

    def _shared(self, x):
        """``x`` as a tensor in the same memory, where that is possible: a copy takes as long as assigning it."""
        # A plain graph may let its variables keep a piece of that memory; what XLA gives them is its own.
        if x is None or not self._xla or x.ctypes.data % ALIGNMENT:
            return x
        return tf.experimental.dlpack.from_dlpack(x.__dlpack__())

    def _refuse_slow_operations(self, xs):
        """Raise when the forward pass holds convolutions or pooling: then the plain graph wins."""
        batch = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape[1:], a.dtype), xs)
        graph = tf.function(self._model, autograph=False).get_concrete_function(batch).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        slow = sorted({node.op for node in nodes if any(name in node.op for name in _SLOW_UNDER_XLA)})
        if slow:
            raise TrainingError(f"{', '.join(slow)} is faster without XLA on a CPU")

    # What follows is traced by tf.function.

    def _assign(self, x):
        for number, (variable, piece) in enumerate(zip(self._flat.variables, self._flat.slices, strict=True)):
            value = tf.cast(tf.reshape(x[piece], variable.shape), variable.dtype)
            if self._lookahead is not None:
                value += self._lookahead.momentum * self._lookahead.velocities[number].value
            variable.value.assign(value)

    def _flattened(self):
        values = [variable.value for variable in self._flat.variables]
        if self._lookahead is not None:
            velocities = self._lookahead.velocities
            values = [v - self._lookahead.momentum * m.value for v, m in zip(values, velocities, strict=True)]
        return _concatenated(values)

    def _steps(self, xs, ys, ws, x, steps):
        if x is not None:
            self._assign(x)

        def body(step, losses):
            loss, gradients = self._loss_and_gradients(*_batch(step, (xs, ys, ws)))
            self._model.optimizer.apply_gradients(zip(gradients, self._flat.variables, strict=True))
            return step + 1, losses.write(step, tf.cast(loss, tf.float32))

        if self._period == 1:  # without a loop the first operations read x itself and the last ones write the result
            _, losses = body(0, tf.TensorArray(tf.float32, size=1, element_shape=()))
            return losses.stack(), None if x is None else self._flattened()
        losses = tf.TensorArray(tf.float32, size=tf.shape(tf.nest.flatten(xs)[0])[0], element_shape=())
        _, losses = tf.while_loop(lambda step, _: step < steps, body, (tf.constant(0), losses))
        return losses.stack(), None if x is None else self._flattened()

    def _summed_gradient(self, xs, ys, ws, x, steps):
        if x is not None:
            self._assign(x)
        one = tf.cast(self._model.optimizer.scale_loss(tf.constant(1.0)), tf.float32)

        def body(step, total, sums):
            loss, gradients = self._loss_and_gradients(*_batch(step, (xs, ys, ws)))
            dense = [_dense(g, v) for g, v in zip(gradients, self._flat.variables, strict=True)]
            return step + 1, total + tf.cast(loss, tf.float32), [s + g for s, g in zip(sums, dense, strict=True)]

        zeros = [tf.zeros(v.shape, tf.float32) for v in self._flat.variables]
        _, total, sums = tf.while_loop(lambda step, *_: step < steps, body, (tf.constant(0), tf.constant(0.0), zeros))
        count = tf.cast(steps, tf.float32)
        return total / count, _concatenated(sums) / (count * one)

    def _applied(self, gradient, x):
        self._assign(x)
        gradient *= tf.cast(self._model.optimizer.scale_loss(tf.constant(1.0)), tf.float32)
        pieces = [
            (tf.cast(tf.reshape(gradient[piece], v.shape), v.dtype), v)
            for v, piece in zip(self._flat.variables, self._flat.slices, strict=True)
        ]
        self._model.optimizer.apply_gradients(pieces)
        return self._flattened()

    def _loss_and_gradients(self, x, y, weight):
        """What ``keras.Model.train_step`` computes, without its metrics; the gradients are of the scaled loss."""
        model = self._model
        with tf.GradientTape() as tape:
            predicted = model(x, training=True) if self._takes_training else model(x)
            loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, [v.value for v in self._flat.variables])


class _Entered:
    """A compiled ``tf.function`` that is entered without its search for the trace that fits the arguments.

    That search is 0.35 ms of Python a call, a third of a window of one small step, and more when an exchange has left
    other things in the caches. Here arrays of a form that has been traced go straight into the compiled function.
    """

    def __init__(self, function, xla: bool):
        self._function, self._xla = function, xla
        self._entries: dict = {}

    def __call__(self, *arguments):
        leaves = tf.nest.flatten(arguments)
        form = tuple([None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves])
        arrays = [leaf for leaf in leaves if leaf is not None]
        entry = self._entries.get(form)
        if entry is None:
            entry = self._entries[form] = self._traced(arguments, arrays)
        return entry(arrays)

    def _traced(self, arguments, arrays):
        absent = tf.nest.map_structure(lambda leaf: leaf is None, arguments)

        def called(*given):
            left = iter(given)
            return self._function(*tf.nest.map_structure(lambda none: None if none else next(left), absent))

        function = tf.function(called, jit_compile=self._xla or None, autograph=False)
        traced = function.get_concrete_function(*arrays)
        try:
            enter, captured = traced._inference_function.call_preflattened, list(traced.captured_inputs)
        except AttributeError:  # another version of TensorFlow: the long way
            return lambda arrays: function(*arrays)
        return lambda arrays: enter([a if tf.is_tensor(a) else tf.constant(a) for a in arrays] + captured)


def _batch(step, data):
    return tf.nest.map_structure(lambda a: None if a is None else a[step], data)


def _dense(gradient, variable):
    if gradient is None:
        return tf.zeros(variable.shape, tf.float32)
    return tf.cast(tf.convert_to_tensor(gradient), tf.float32)


def _concatenated(values):
    return tf.concat([tf.reshape(tf.cast(value, tf.float32), [-1]) for value in values], 0)
