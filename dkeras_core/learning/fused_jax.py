"""A whole window of local steps as one compiled JAX call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from keras import tree

from dkeras_core.learning.batches import mapped, padded
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.lookahead import Lookahead

# LLVM keeps to vectors of 256 bits by itself. Adam's square roots and divisions, a fifth of a window of small batches,
# are a quarter faster with 512 where the CPU has them: 6.46 instead of 6.83 ms for 10 steps of 380,402 parameters.
_OPTIONS = {"xla_cpu_prefer_vector_width": 512}


class FusedWindow:
    """Runs up to ``period`` steps in one call: a loop on the device over Keras' stateless model and optimizer.

    The flat vector is cut into variables and put together again within the call. Non-trainable state, the seeds of
    random layers and the optimizer's variables go through the loop and back into their Keras variables; the memory of
    the old values is given away to the new ones. The number of steps is an argument, so a short window needs no
    second compilation; a batch of another size (the last of an epoch) needs one.

    Parameters
    ----------
    flat : FlatModel
        Its model is compiled with optimizer and loss, and the optimizer is built.
    period, batch_size : int
        Shape of a full window.
    compiled : bool
        False to run operation by operation.
    lookahead : Lookahead, optional
        Given, the flat vectors are the x of the papers.
    """

    def __init__(
        self,
        flat: FlatModel,
        period: int,
        batch_size: int,
        *,
        compiled: bool = True,
        lookahead: Lookahead | None = None,
    ):
        self._flat, self._model, self._optimizer = flat, flat.model, flat.model.optimizer
        self._period, self._batch_size, self._compiles = period, batch_size, compiled
        self._frozen = list(self._model.non_trainable_variables)
        self._kept = list(self._optimizer.variables)
        self._momentum = 0.0 if lookahead is None else lookahead.momentum
        places = {id(variable): number for number, variable in enumerate(self._kept)}
        self._velocities = None if lookahead is None else [places[id(v)] for v in lookahead.velocities]
        self._metrics = None
        self._window = self._compiled(self._steps, (2, 3))
        self._gradient = self._compiled(self._summed_gradient, (2,))
        self._step = self._compiled(self._applied, (1,))

    def _compiled(self, function, donated):
        if not self._compiles:
            return function
        options = _OPTIONS if jax.default_backend() == "cpu" else None
        return jax.jit(function, donate_argnums=donated, compiler_options=options)

    def run(self, xs, ys, ws, x: np.ndarray | None) -> np.ndarray:
        """Train on batches [k, b, ...] and return their k losses; ``x`` is read, then overwritten.

        When a loss is not finite, ``x`` stays as it was.
        """
        data, steps = self._shaped(xs, ys, ws)
        losses, flat, *new = self._window(x, self._trained(x), _values(self._frozen), _values(self._kept), data, steps)
        _assign((*self._flat.variables, *self._frozen, *self._kept), [value for part in new for value in part])
        losses = np.asarray(losses)[:steps]
        if x is not None and np.isfinite(losses).all():
            np.copyto(x, flat)
        return losses

    def gradient(self, xs, ys, ws, x: np.ndarray | None, out: np.ndarray) -> float:
        """Write the mean gradient of the batches at ``x`` into ``out`` and return the mean of their losses."""
        data, steps = self._shaped(xs, ys, ws)
        loss, flat, trained, frozen = self._gradient(
            x, self._trained(x), _values(self._frozen), _values(self._kept), data, steps
        )
        _assign((*self._flat.variables, *self._frozen), (*trained, *frozen))
        np.copyto(out, flat)
        return float(loss)

    def step(self, gradient: np.ndarray, x: np.ndarray) -> None:
        """Make one step of the optimizer from ``x``, in place."""
        flat, trained, kept = self._step(x, _values(self._kept), gradient)
        _assign((*self._flat.variables, *self._kept), (*trained, *kept))
        np.copyto(x, flat)

    def _trained(self, x):
        return None if x is not None else _values(self._flat.variables)

    def _shaped(self, xs, ys, ws):
        data = (xs, ys, ws)
        steps, rows = tree.flatten(xs)[0].shape[:2]
        if self._metrics is None:
            self._build(mapped(lambda a: a[0], data))
        if steps < self._period and rows == self._batch_size and self._compiles:
            data = padded(data, self._period)
        return data, np.int32(steps)

    def _build(self, batch):
        """Let Keras make the parts of the loss, which depend on the structure of the outputs, and their metrics."""
        x, y, weight = mapped(lambda a: jnp.asarray(a[:1]), batch)
        before = [(v, v.value) for v in self._frozen]
        self._model.compute_loss(x=x, y=y, y_pred=self._model(x), sample_weight=weight)
        for variable, value in before:
            variable.assign(value)
        self._metrics = _values(self._model.metrics_variables)

    # What follows is traced by jax.jit.

    def _steps(self, x, trained, frozen, kept, data, steps):
        if x is not None:
            trained = self._pieces(x, kept)

        def body(step, carry):
            trained, frozen, kept, losses = carry
            loss, frozen, gradients = self._loss_and_gradients(trained, frozen, kept, _batch(step, data))
            trained, kept = self._optimizer.stateless_apply(kept, gradients, trained)
            return trained, frozen, kept, losses.at[step].set(loss.astype("float32"))

        losses = jnp.zeros(tree.flatten(data[0])[0].shape[0], "float32")
        trained, frozen, kept, losses = self._loop(steps, body, (trained, frozen, kept, losses))
        return losses, None if x is None else self._flattened(trained, kept), trained, frozen, kept

    def _summed_gradient(self, x, trained, frozen, kept, data, steps):
        if x is not None:
            trained = self._pieces(x, kept)
        scale = self._scale(kept)

        def body(step, carry):
            total, sums, frozen = carry
            loss, frozen, gradients = self._loss_and_gradients(trained, frozen, kept, _batch(step, data))
            return total + loss, [s + g.astype("float32") for s, g in zip(sums, gradients, strict=True)], frozen

        zeros = [jnp.zeros(v.shape, "float32") for v in trained]
        total, sums, frozen = self._loop(steps, body, (jnp.float32(0), zeros, frozen))
        return total / steps, _concatenated(sums) / (steps * scale), trained, frozen

    def _applied(self, x, kept, gradient):
        trained = self._pieces(x, kept)
        gradient = gradient * self._scale(kept)
        gradients = [
            gradient[piece].reshape(v.shape).astype(v.dtype)
            for v, piece in zip(trained, self._flat.slices, strict=True)
        ]
        trained, kept = self._optimizer.stateless_apply(kept, gradients, trained)
        return self._flattened(trained, kept), trained, kept

    def _loop(self, steps, body, carry):
        if self._period == 1:
            return body(0, carry)
        if self._compiles:
            return jax.lax.fori_loop(0, steps, body, carry)
        for step in range(int(steps)):
            carry = body(step, carry)
        return carry

    def _loss_and_gradients(self, trained, frozen, kept, batch):
        """What ``keras.Model.train_step`` computes, without its metrics; the gradients are of the scaled loss."""
        x, y, weight = batch
        compute = jax.value_and_grad(self._model.compute_loss_and_updates, has_aux=True)
        (_, (loss, _, frozen, _)), gradients = compute(
            trained, frozen, self._metrics, x, y, weight, training=True, optimizer_variables=kept
        )
        return loss, frozen, gradients

    def _scale(self, kept):
        from keras import StatelessScope

        with StatelessScope(state_mapping=list(zip(self._kept, kept, strict=True))):
            return jnp.asarray(self._optimizer.scale_loss(jnp.float32(1)), "float32")

    def _pieces(self, x, kept):
        pieces = [
            x[piece].reshape(v.shape).astype(v.dtype)
            for v, piece in zip(self._flat.variables, self._flat.slices, strict=True)
        ]
        if self._velocities is None:
            return pieces
        return [v + self._momentum * kept[at] for v, at in zip(pieces, self._velocities, strict=True)]

    def _flattened(self, trained, kept):
        if self._velocities is not None:
            trained = [v - self._momentum * kept[at] for v, at in zip(trained, self._velocities, strict=True)]
        return _concatenated(trained)


def _values(variables) -> list:
    return [variable.value for variable in variables]


def _assign(variables, values) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _batch(step, data):
    return mapped(lambda a: a[step], data)


def _concatenated(values):
    return jnp.concatenate([value.reshape(-1).astype("float32") for value in values])
