"""Several trained copies of a model as one model that averages what they predict."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.learning import model_io
from dkeras_core.learning.flat import FlatModel


def ensemble_model(model, vectors: Sequence[np.ndarray], states: Sequence[np.ndarray] | None = None):
    """Return a functional model with the inputs and outputs of ``model``: the mean of its members' outputs.

    Outputs that have names keep them.

    It is an ordinary Keras model: it can be evaluated, saved, exported and written as JSON. The mean is that of
    probabilities where the model ends in a sigmoid or softmax.

    Parameters
    ----------
    model : keras.Model
        Built; its architecture is copied, and it is left as it is.
    vectors : sequence of float32[n]
        The members' parameters, as ``FlatModel`` orders them.
    states : sequence of float32[m], optional
        Their non-trainable states (moving statistics); needed when the model has any.

    Raises
    ------
    ConfigError
        No vector, another number of states, or a model whose input is not known.
    """
    import keras

    if not vectors:
        raise ConfigError("an ensemble needs at least one member")
    if not getattr(model, "inputs", None):
        raise ConfigError(
            f"model {model.name!r} has no inputs that are known, so it cannot be a member of an ensemble",
            "build it as a functional or sequential model",
        )
    stateful = FlatModel(model).state_n > 0
    if stateful and len(states or ()) != len(vectors):
        raise ConfigError(
            f"model {model.name!r} has moving statistics: {len(vectors)} members need as many states, "
            f"not {len(states or ())}"
        )
    description = json.loads(model_io.to_json(model))
    taken = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(_input_like, taken)
    outputs = []
    for number, vector in enumerate(vectors):
        description["config"]["name"] = f"member_{number}"
        member = model_io.from_json(json.dumps(description))
        flat = FlatModel(member)
        flat.set(vector)
        if stateful:
            flat.set_state(states[number])
        outputs.append(member(inputs))
    if len(outputs) > 1:
        names = iter(getattr(model, "output_names", None) or [])
        outputs = [keras.tree.map_structure(lambda *ones: keras.layers.Average(name=next(names, None))(ones), *outputs)]
    return keras.Model(inputs, outputs[0], name="ensemble")


def _input_like(tensor):
    import keras

    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
