"""Spark ML: an Estimator for every algorithm, named as its rule is, and the Transformer that they return.

>>> from dkeras_core.ml import AsynchronousEASGD
>>> model = AsynchronousEASGD(network, workers=4, epochs=5, loss="binary_crossentropy").fit(train)
>>> model.transform(test).select("prediction", "probability")
"""

from dkeras_core.ml import estimators
from dkeras_core.ml.estimators import *  # noqa: F403
from dkeras_core.ml.transformer import KerasModel

__all__ = [*estimators.__all__, "KerasModel"]
