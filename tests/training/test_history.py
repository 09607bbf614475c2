"""The history reads like Keras', with gaps where something was not measured."""

from dkeras_core.training.history import History


def test_quantities_that_come_late_or_stay_away_leave_gaps():
    history = History()
    history.add(1, 0.1, {"loss": 0.5})
    history.add(3, 0.3, {"loss": 0.4, "val_loss": 0.6})
    history.add(4, 0.4, {"val_loss": 0.7})
    assert history.epoch == [1, 3, 4]
    assert history.history == {"loss": [0.5, 0.4, None], "val_loss": [None, 0.6, 0.7]}


def test_the_best_epoch():
    history = History()
    for epoch, (loss, auc) in enumerate([(0.5, 0.7), (0.3, 0.9), (0.3, 0.9), (None, None)], start=1):
        history.add(epoch, epoch, {"val_loss": loss, "val_auc": auc})
    assert history.best() == (2, 0.3)
    assert history.best("val_auc", "max") == (2, 0.9)
    assert history.best("loss") is None
