"""The learning rate of a worker: scaled for the number of workers, and reached gradually."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="dkeras")
class ScaledRate(keras.optimizers.schedules.LearningRateSchedule):
    """``scale`` times another learning rate, which the first ``warmup_steps`` steps approach on a straight line.

        rate(t) = scale * min(1, (t + 1) / warmup_steps) * base(t)

    The gradual warm-up of Goyal et al. 2017 (arXiv 1706.02677, section 2.2), from zero. It is evaluated inside
    compiled windows, travels in the optimizer's configuration, and wraps a schedule that the user chose.

    Parameters
    ----------
    rate : float or LearningRateSchedule
        The learning rate of one worker alone.
    scale : float
    warmup_steps : int
        Local steps; 0 for none.
    """

    def __init__(self, rate, scale: float = 1.0, warmup_steps: int = 0):
        super().__init__()
        self.rate = rate
        self.scale = float(scale)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        base = self.rate(step) if callable(self.rate) else self.rate
        rate = ops.cast(base, "float32") * self.scale
        if self.warmup_steps == 0:
            return rate
        return rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.warmup_steps)

    def get_config(self):
        rate = keras.saving.serialize_keras_object(self.rate) if callable(self.rate) else self.rate
        return {"rate": rate, "scale": self.scale, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config):
        rate = config["rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["scale"], config["warmup_steps"])
