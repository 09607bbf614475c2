"""What a worker sets before it trains: threads, the optimizer, and seeds."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping

import numpy as np

from dkeras_core.config_file import meant
from dkeras_core.errors import ConfigError


def configure_threads(cores: int) -> None:
    """Bind Keras' backend to ``cores`` threads. Call it before the first tensor is made.

    A Python worker that Spark reuses has set its threads already: the same number is accepted, another is refused,
    since the backend cannot change it any more.

    Raises
    ------
    ConfigError
        When ``cores`` is not positive, or the backend runs with another number of threads already.
    """
    if cores < 1:
        raise ConfigError(f"a worker needs at least one core, not {cores}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ[name] = str(cores)  # NPROC sizes the thread pool of JAX on a CPU
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        threading = tf.config.threading
        try:
            threading.set_intra_op_parallelism_threads(cores)
            threading.set_inter_op_parallelism_threads(cores)
        except RuntimeError:
            running = threading.get_intra_op_parallelism_threads()
            if running != cores:
                raise ConfigError(
                    f"TensorFlow runs with {running or 'all'} threads already and cannot change to {cores}",
                    "call configure_threads before the first model or tensor is made",
                ) from None
    elif keras.backend.backend() == "torch":
        sys.modules["torch"].set_num_threads(cores)


def make_optimizer(setting, *, scale: float = 1.0, warmup_steps: int = 0):
    """Return a fresh Keras optimizer.

    Parameters
    ----------
    setting : str, mapping, keras.Optimizer or object with ``model_dump``
        A name (``"adam"``), the pipeline file's form (``{"name": "adam", "learning_rate": 0.001}``), Keras' own
        serialised form (``{"class_name": ..., "config": ...}``), or an instance, which is copied by its configuration.
    scale : float
        Factor on the learning rate, whether a number or a schedule.
    warmup_steps : int
        Local steps over which that rate is reached, from zero.

    Raises
    ------
    ConfigError
        Unknown optimizer or argument; names the one that was probably meant.
    """
    if not (math.isfinite(scale) and scale > 0) or warmup_steps < 0:
        raise ConfigError(
            f"a learning rate is scaled by a positive number over 0 or more steps, not by {scale} over {warmup_steps}"
        )
    optimizer = _optimizer(setting)
    if scale != 1.0 or warmup_steps:
        _scale_rate(optimizer, scale, warmup_steps)
    return optimizer


def _scale_rate(optimizer, scale: float, warmup_steps: int) -> None:
    from keras.optimizers import schedules

    from dkeras_core.learning.schedules import ScaledRate

    rate = getattr(optimizer, "inner_optimizer", optimizer).get_config()["learning_rate"]
    if isinstance(rate, Mapping):
        rate = schedules.deserialize(rate)
    elif not warmup_steps:
        optimizer.learning_rate = rate * scale
        return
    optimizer.learning_rate = ScaledRate(rate, scale, warmup_steps)


def _optimizer(setting):
    import keras

    if isinstance(setting, keras.optimizers.Optimizer):
        return type(setting).from_config(setting.get_config())
    if isinstance(setting, str):
        setting = {"name": setting}
    elif hasattr(setting, "model_dump"):
        setting = setting.model_dump()
    if not isinstance(setting, Mapping) or not ("name" in setting or "class_name" in setting):
        raise ConfigError(f"an optimizer is a name or a mapping with the key 'name', not {setting!r}")
    if "class_name" in setting:
        name, arguments, whole = setting["class_name"], setting.get("config", {}), dict(setting)
    else:
        name = setting["name"]
        arguments = {key: value for key, value in setting.items() if key != "name"}
        whole = {"class_name": name, "config": arguments}
    try:
        optimizer = keras.optimizers.deserialize(whole)
    except (ValueError, TypeError) as error:
        raise ConfigError(_explain_optimizer(str(name), arguments, error)) from error
    if not isinstance(optimizer, keras.optimizers.Optimizer):  # Keras hands an unknown name back as it came
        raise ConfigError(_explain_optimizer(str(name), arguments, "not an optimizer"))
    return optimizer


def _explain_optimizer(name: str, arguments: Mapping, error: Exception | str) -> str:
    import inspect

    import keras

    known = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer) and key != "Optimizer"
    }
    if name.lower() not in known:
        return f"unknown optimizer {name!r}{meant(name.lower(), known)}; Keras has {', '.join(sorted(known))}"
    accepted = [p for p in inspect.signature(known[name.lower()].__init__).parameters if p not in ("self", "kwargs")]
    strange = [key for key in arguments if key not in (*accepted, "is_legacy_optimizer")]
    if strange:
        return f"optimizer {name!r} has no argument {strange[0]!r}{meant(strange[0], accepted)}"
    return f"optimizer {name!r}: {error}"


def make_loss(setting):
    """Return what ``keras.Model.compile`` takes as loss.

    Parameters
    ----------
    setting : str, mapping, list, keras.losses.Loss or callable
        A name, Keras' serialised form (``{"class_name": ..., "config": ...}``), or a list or mapping of those by
        output.

    Raises
    ------
    ConfigError
        A loss that Keras has not; names the one that was probably meant.
    """
    import keras

    if isinstance(setting, Mapping) and "class_name" not in setting:
        return {name: make_loss(loss) for name, loss in setting.items()}
    if isinstance(setting, list | tuple):
        return [make_loss(loss) for loss in setting]
    if not isinstance(setting, str | Mapping):
        return setting
    try:
        loss = keras.losses.get(dict(setting) if isinstance(setting, Mapping) else setting)
    except (ValueError, TypeError) as error:
        name = setting["class_name"] if isinstance(setting, Mapping) else setting
        known = [key for key in vars(keras.losses) if not key.startswith("_")]
        if str(name) in known:
            raise ConfigError(f"loss {name!r}: {error}") from error
        raise ConfigError(f"unknown loss {name!r}{meant(str(name), known)}", "keras.losses lists them") from None
    return setting if isinstance(setting, str) else loss


def seed_model(model, seed: int) -> None:
    """Seed every random stream of a built model (dropout, noise, augmentation) from one number.

    The same seed gives the same streams bit for bit; workers take different seeds.
    """
    import keras

    keras.utils.set_random_seed(seed)
    weights = {id(variable) for variable in model.non_trainable_weights}
    streams = [v for v in model.non_trainable_variables if id(v) not in weights and tuple(v.shape) == (2,)]
    for variable, start in zip(streams, np.random.SeedSequence(seed).generate_state(len(streams)), strict=True):
        variable.assign(np.array([int(start) >> 1, 0], dtype=str(variable.dtype)))  # 31 bits fit every backend
