"""Where a loss that is not finite comes from: the first layer or variable that overflowed."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from keras import ops, tree

from dkeras_core.learning.batches import mapped


def explain(flat, path, optimizer, window, x: np.ndarray) -> str:
    """Return one sentence on what is not finite when the window is trained from ``x``.

    Looks at the parameters, then batch by batch at the inputs, each layer's output, the loss and the gradient, and
    makes each step with an optimizer whose state is new. Slow, and the model and the optimizer are of no use
    afterwards: for the worker that is about to stop.

    Parameters
    ----------
    flat : FlatModel
    path
        Has ``gradient`` and ``step`` (fused_tensorflow, fused_jax, keras_steps).
    optimizer : keras.Optimizer
        The one that ``path`` steps with.
    window : (features, labels, weights)
        Arrays [k, b, ...] or structures of them.
    x : float32[n]
        The parameters at the start of the window.
    """
    if (found := _first(x)) is not None:
        return f"parameter {flat.name_of(found)} is {x[found]} before the window"
    x, gradient = x.copy(), np.empty_like(x)
    _renew(optimizer, flat.variables)
    steps = len(tree.flatten(window[0])[0])
    largest = (0.0, "")
    for step in range(steps):
        where = f"step {step + 1} of {steps}: "
        batch = mapped(lambda a, at=step: a[at], window)
        flat.set(x)
        found = _input(batch) or _layer(flat.model, batch[0])
        if found:
            return where + found
        loss = path.gradient(*mapped(lambda a: a[None], batch), x, gradient)
        if not np.isfinite(loss):
            return f"{where}the loss is {loss} although every layer's output is finite: look at the labels and weights"
        if (found := _first(gradient)) is not None:
            return f"{where}the gradient of {flat.name_of(found)} is {gradient[found]}, every layer's output is finite"
        at = int(np.argmax(np.abs(gradient)))
        largest = max(largest, (float(abs(gradient[at])), flat.name_of(at)))
        path.step(gradient, x)
        if (found := _first(x)) is not None:
            return f"{where}the optimizer makes parameter {flat.name_of(found)} {x[found]}"
    return (
        "made again with a new state of the optimizer, the window stays finite; "
        f"its largest gradient is {largest[0]:.3g} of {largest[1]}"
    )


def _first(vector: np.ndarray) -> int | None:
    finite = np.isfinite(vector)
    return None if finite.all() else int(np.argmin(finite))


def _input(batch) -> str:
    for name, arrays in zip(("features", "labels", "weights"), batch, strict=True):
        for array in tree.flatten(arrays):
            if array is not None and np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                row = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(1)))
                return f"the {name} of row {row} of the batch are not finite"
    return ""


def _layer(model, features) -> str:
    """Name the first layer whose output is not finite."""
    found = []
    with _watched(model, found):
        model(mapped(ops.convert_to_tensor, features), training=True)
    return found[0] if found else ""


@contextmanager
def _watched(model, found: list):
    """Have every layer that holds no other look at its output."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    try:
        for layer in layers:
            layer.call = _looking(layer, layer.call, found)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)


def _looking(layer, call, found: list):
    def looking(*arguments, **named):
        outputs = call(*arguments, **named)
        for output in tree.flatten(outputs):
            if not found and "float" in str(output.dtype) and not bool(ops.all(ops.isfinite(output))):
                inputs = [float(ops.max(ops.abs(a))) for a in tree.flatten(arguments) if "float" in str(a.dtype)]
                given = f", its largest input is {max(inputs):.3g}" if inputs else ""
                found.append(f"layer {layer.name!r} gives a value that is not finite{given}")
        return outputs

    return looking


def _renew(optimizer, variables) -> None:
    """Give an optimizer the state of a new one."""
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(variables)
    for old, fresh in zip(optimizer.variables, new.variables, strict=True):
        old.assign(fresh)
