"""Which way a monitored figure is better when the user does not say."""

import pytest

from dkeras_core import rules
from dkeras_core.data.columns import Column
from dkeras_core.training.settings import EarlyStopping, TrainingSettings
from dkeras_core.training.stopping import Stopping


def reasons(monitor, figures):
    """What an early stopping with patience 0 says after each epoch."""
    settings = TrainingSettings(
        rule=rules.get("downpour"),
        optimizer={"name": "sgd"},
        loss="mse",
        epochs=9,
        batch_size=1,
        workers=1,
        rows=10,
        inputs=(Column("x"),),
        early_stopping=EarlyStopping(monitor, patience=0),
    )
    stopping = Stopping(settings, [monitor])
    return [stopping.reason(epoch, {monitor: figure}, None, None) for epoch, figure in enumerate(figures, start=1)]


@pytest.mark.parametrize("name", ["mape", "MAPE", "msle", "bce", "kld", "mae", "loss", "false_positives"])
def test_of_errors_the_less_the_better(name):
    assert reasons(f"val_{name}", (3.0, 2.0, 1.0)) == [None, None, None]
    assert reasons(f"val_{name}", (1.0, 2.0))[1]


@pytest.mark.parametrize("name", ["accuracy", "auc", "cosine_similarity", "r2_score"])
def test_of_other_metrics_the_more_the_better(name):
    assert reasons(f"val_{name}", (1.0, 2.0, 3.0)) == [None, None, None]
    assert reasons(f"val_{name}", (2.0, 1.0))[1]
