"""A network of dense layers and its local optimizer in JAX: a window of local steps is one compiled call.

The steps are those of Keras: Glorot uniform weights, softmax cross-entropy, mean over the batch; SGD and Adam with
Keras' defaults. One compiled function serves all workers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

Parameters = list[jax.Array]


class Network:
    """Dense layers of ``hidden`` relu units over rows of ``width``, with one softmax output a class."""

    def __init__(self, width: int, hidden: Sequence[int], classes: int):
        sizes = [width, *hidden, classes]
        self.shapes = [shape for i, o in pairwise(sizes) for shape in ((i, o), (o,))]
        self._cuts = np.cumsum([math.prod(shape) for shape in self.shapes])
        self.size = int(self._cuts[-1])

    def initial(self, seed: int) -> np.ndarray:
        """Flat float32 parameters: Glorot uniform kernels, zero biases."""
        random = np.random.default_rng([seed, 1])
        parts = [np.zeros(s) if len(s) == 1 else random.uniform(-1, 1, s) * math.sqrt(6 / sum(s)) for s in self.shapes]
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def split(self, flat: jax.Array) -> Parameters:
        parts = jnp.split(flat, self._cuts[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def logits(self, parameters: Parameters, rows: jax.Array) -> jax.Array:
        kernels, biases = parameters[::2], parameters[1::2]
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            rows = jax.nn.relu(rows @ kernel + bias)
        return rows @ kernels[-1] + biases[-1]

    def loss(self, parameters: Parameters, rows: jax.Array, labels: jax.Array) -> jax.Array:
        chosen = jax.nn.log_softmax(self.logits(parameters, rows))
        return -jnp.mean(jnp.take_along_axis(chosen, labels[:, None], 1))

    @partial(jax.jit, static_argnums=0)
    def predict(self, flat: jax.Array, rows: jax.Array) -> jax.Array:
        """Probabilities [n, classes]."""
        return jax.nn.softmax(self.logits(self.split(flat), rows))


class SGD:
    """``v <- m v - rate g; x <- x + v``. With ``nesterov`` x holds the look-ahead point, as in Keras:
    ``x <- x + m v - rate g``; with ``lookahead`` x is the paper's and the gradient is taken at ``x + m v``."""

    def __init__(self, momentum: float = 0.0, nesterov: bool = False, lookahead: bool = False):
        self.momentum, self.nesterov, self.lookahead = momentum, nesterov and not lookahead, lookahead

    def state(self, parameters: Parameters):
        return [jnp.zeros_like(p) for p in parameters] if self.momentum else []

    def at(self, parameters: Parameters, state) -> Parameters:
        """Where the gradient is taken."""
        if not self.lookahead:
            return parameters
        return [x + self.momentum * v for x, v in zip(parameters, state, strict=True)]

    def step(self, parameters: Parameters, gradients: Parameters, state, rate, count):
        if not self.momentum:
            return [x - rate * g for x, g in zip(parameters, gradients, strict=True)], state
        state = [self.momentum * v - rate * g for v, g in zip(state, gradients, strict=True)]
        if self.nesterov:
            moved = [self.momentum * v - rate * g for v, g in zip(state, gradients, strict=True)]
        else:
            moved = state
        return [x + d for x, d in zip(parameters, moved, strict=True)], state


class Adam:
    """Adam with Keras' defaults (epsilon 1e-7 outside the root)."""

    def __init__(self, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def state(self, parameters: Parameters):
        return [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]

    def at(self, parameters: Parameters, state) -> Parameters:
        return parameters

    def step(self, parameters: Parameters, gradients: Parameters, state, rate, count):
        means = [m + (g - m) * (1 - self.beta_1) for m, g in zip(state[0], gradients, strict=True)]
        squares = [v + (g * g - v) * (1 - self.beta_2) for v, g in zip(state[1], gradients, strict=True)]
        rate = rate * jnp.sqrt(1 - self.beta_2**count) / (1 - self.beta_1**count)
        moved = zip(parameters, means, squares, strict=True)
        return [x - rate * m / (jnp.sqrt(v) + self.epsilon) for x, m, v in moved], [means, squares]


class Local:
    """Local training for all workers of a run: windows of up to ``period`` steps over rows that stay on the device.

    Batches are given by the numbers of their rows, int32 [k, b]; a batch of another size is a window of its own.
    """

    def __init__(self, network: Network, optimizer: SGD | Adam, rows: np.ndarray, labels: np.ndarray, period: int):
        self._network, self._optimizer, self._period = network, optimizer, period
        self._rows, self._labels = jnp.asarray(rows), jnp.asarray(labels)
        self._window = jax.jit(self._steps, donate_argnums=1)
        self._gradient = jax.jit(self._gradient_of)
        self._step = jax.jit(self._one_step, donate_argnums=1)

    def state(self, x: np.ndarray):
        """A fresh state of the optimizer: its arrays, and the count of steps."""
        return self._optimizer.state(self._network.split(jnp.asarray(x))), jnp.float32(0)

    def window(self, x: np.ndarray, state, batches: np.ndarray, rates: np.ndarray):
        """Make one step a batch, in place on ``x``; return the optimizer's new state and the mean loss."""
        if len(batches) > self._period:  # what one worker does ahead of the others
            state, _ = self.window(x, state, batches[: self._period], rates[: self._period])
            return self.window(x, state, batches[self._period :], rates[self._period :])
        count = len(batches)
        if count < self._period:
            batches = np.concatenate([batches, np.zeros((self._period - count, batches.shape[1]), np.int32)])
            rates = np.concatenate([rates, np.zeros(self._period - count, np.float32)])
        flat, state, loss = self._window(x, state, batches, rates, count, self._rows, self._labels)
        np.copyto(x, flat)
        return state, float(loss) / count

    def gradient(self, x: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradient of one batch at ``x``, and its loss."""
        gradient, loss = self._gradient(x, batch, self._rows, self._labels)
        return np.asarray(gradient), float(loss)

    def step(self, x: np.ndarray, state, gradient: np.ndarray, rate: float):
        """One step of the optimizer with a gradient from elsewhere, in place on ``x``; return the new state."""
        flat, state = self._step(x, state, gradient, np.float32(rate))
        np.copyto(x, flat)
        return state

    def _steps(self, flat, state, batches, rates, count, rows, labels):
        loss_and_gradient = jax.value_and_grad(self._network.loss)

        def body(k, carry):
            parameters, (state, made), total = carry
            batch = batches[k]
            at = self._optimizer.at(parameters, state)
            loss, gradients = loss_and_gradient(at, rows[batch], labels[batch])
            parameters, state = self._optimizer.step(parameters, gradients, state, rates[k], made + 1)
            return parameters, (state, made + 1), total + loss

        carry = self._network.split(flat), state, jnp.float32(0)
        parameters, state, total = jax.lax.fori_loop(0, count, body, carry)
        return jnp.concatenate([p.ravel() for p in parameters]), state, total

    def _gradient_of(self, flat, batch, rows, labels):
        parameters = self._network.split(flat)
        loss, gradients = jax.value_and_grad(self._network.loss)(parameters, rows[batch], labels[batch])
        return jnp.concatenate([g.ravel() for g in gradients]), loss

    def _one_step(self, flat, state, gradient, rate):
        (arrays, made), split = state, self._network.split
        parameters, arrays = self._optimizer.step(split(flat), split(gradient), arrays, rate, made + 1)
        return jnp.concatenate([p.ravel() for p in parameters]), (arrays, made + 1)
