import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from dkeras_core.errors import ConfigError
from dkeras_core.learning.settings import make_optimizer, seed_model


@pytest.mark.parametrize(
    "setting",
    [
        "adam",
        {"name": "adam"},
        {"name": "adam", "learning_rate": 0.001},
        {"class_name": "Adam", "config": {"learning_rate": 0.001}},
        keras.optimizers.serialize(keras.optimizers.Adam(0.001)),
        keras.optimizers.Adam(0.001),
    ],
    ids=["name", "pipeline", "arguments", "class", "serialised", "instance"],
)
def test_every_form_of_an_optimizer(setting):
    optimizer = make_optimizer(setting)
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert optimizer is not setting
    assert float(optimizer.learning_rate) == pytest.approx(0.001)


def test_the_section_of_the_pipeline_file():
    from dkeras_core.config_training import Optimizer

    optimizer = make_optimizer(Optimizer(name="sgd", learning_rate=0.5, momentum=0.9))
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (float(optimizer.learning_rate), optimizer.momentum) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("addam", "unknown optimizer 'addam'.*did you mean 'adam'"),
        ({"name": "sgd", "momentun": 0.9}, "no argument 'momentun'.*did you mean 'momentum'"),
        ({"name": "sgd", "momentum": 7}, "optimizer 'sgd'.*momentum"),
        (3, "a name or a mapping"),
    ],
)
def test_wrong_optimizers_are_explained(setting, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(setting)


def test_seeds_differ_by_layer_and_repeat():
    model = keras.Sequential([keras.Input((4,)), *[keras.layers.Dropout(0.5) for _ in range(2)]])

    def draw(seed):
        seed_model(model, seed)
        return [v.numpy().tolist() for v in model.non_trainable_variables], keras.random.normal((2,)).numpy().tolist()

    assert draw(1) == draw(1)
    states, _ = draw(1)
    assert states[0] != states[1]
    assert draw(2)[0] != states


@pytest.mark.slow
def test_threads_are_set_once():
    script = """
from dkeras_core.learning.settings import configure_threads
configure_threads(1)
import tensorflow as tf, time, keras, numpy as np
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
from dkeras_core.learning.local import LocalTrainer
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512), keras.layers.Dense(1)])
local = LocalTrainer(model, loss="mse", batch_size=256)
window = np.ones((10, 256, 64), "float32"), np.ones((10, 256), "float32")
local.window(window)
start, cpu = time.perf_counter(), time.process_time()
for _ in range(8): local.window(window)
share = (time.process_time() - cpu) / (time.perf_counter() - start)
assert share < 1.3, f"one core was asked for, {share:.2f} were used"
configure_threads(1)
try:
    configure_threads(2)
except ValueError as error:
    assert "1 threads already" in str(error)
else:
    raise AssertionError("accepted")
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_core_is_refused():
    from dkeras_core.learning.settings import configure_threads

    with pytest.raises(ConfigError, match="at least one core"):
        configure_threads(0)


def test_instances_are_copied_with_their_schedule():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = make_optimizer(keras.optimizers.SGD(decay, momentum=0.5))
    optimizer.build([keras.Variable(np.zeros(2, np.float32))])
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
