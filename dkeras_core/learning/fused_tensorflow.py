"""A whole window of local steps as one compiled TensorFlow call."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dkeras_core.errors import TrainingError
from dkeras_core.learning.flat import FlatModel

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
    xla : bool
        Compile by XLA; a plain graph otherwise.
    """

    def __init__(self, flat: FlatModel, period: int, batch_size: int, *, xla: bool):
        self._period = period
        self._batch_size = batch_size
        self._flat = flat
        self._model = flat.model
        self._takes_training = getattr(flat.model, "_call_has_training_arg", True)
        self._unchecked = xla and not tf.config.list_physical_devices("GPU")
        self._window = tf.function(self._steps, jit_compile=xla or None, autograph=False)
        self._odd = tf.function(self._steps, reduce_retracing=True, autograph=False)

    def run(self, xs, ys, ws, x: np.ndarray | None) -> float:
        """Train on batches [k, b, ...] and return the mean of their losses; ``x`` is read, then overwritten."""
        if self._unchecked:
            self._refuse_slow_operations(xs)
            self._unchecked = False
        leading = tf.nest.flatten(xs)[0].shape
        steps = leading[0]
        if leading[1] != self._batch_size:
            loss, flat = self._odd(xs, ys, ws, x, np.int32(steps))
        else:
            if steps < self._period:
                xs, ys, ws = tf.nest.map_structure(self._padded, (xs, ys, ws))
            loss, flat = self._window(xs, ys, ws, x, np.int32(steps))
        if x is not None:
            np.copyto(x, flat.numpy())
        return float(loss)

    def _refuse_slow_operations(self, xs):
        """Raise when the forward pass holds convolutions or pooling: then the plain graph wins."""
        batch = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape[1:], a.dtype), xs)
        graph = tf.function(self._model, autograph=False).get_concrete_function(batch).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        slow = sorted({node.op for node in nodes if any(name in node.op for name in _SLOW_UNDER_XLA)})
        if slow:
            raise TrainingError(f"{', '.join(slow)} is faster without XLA on a CPU")

    def _padded(self, array):
        """Return the batches of a short window followed by batches that are never read."""
        if array is None:
            return None
        padded = np.zeros((self._period, *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        return padded

    def _steps(self, xs, ys, ws, x, steps):
        variables = [(v.value, piece) for v, piece in zip(self._flat.variables, self._flat.slices, strict=True)]
        if x is not None:
            for variable, piece in variables:
                variable.assign(tf.cast(tf.reshape(x[piece], variable.shape), variable.dtype))

        def body(step, total):
            data = tf.nest.map_structure(lambda a: None if a is None else a[step], (xs, ys, ws))
            return step + 1, total + tf.cast(self._step(*data), tf.float32)

        _, total = tf.while_loop(lambda step, _: step < steps, body, (tf.constant(0), tf.constant(0.0)))
        mean = total / tf.cast(steps, tf.float32)
        if x is None:
            return mean, None
        return mean, tf.concat([tf.reshape(tf.cast(v, tf.float32), [-1]) for v, _ in variables], 0)

    def _step(self, x, y, weight):
        """One step of ``keras.Model.train_step``, without its metrics."""
        model = self._model
        with tf.GradientTape() as tape:
            predicted = model(x, training=True) if self._takes_training else model(x)
            loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_weights)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return loss
