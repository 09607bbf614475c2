import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError


def test_local_optimizer_is_nesterov_sgd_with_the_users_learning_rate():
    rule = rules.get("eamsgd", momentum=0.95)
    nesterov = {"name": "sgd", "learning_rate": 0.02, "momentum": 0.95, "nesterov": True}
    assert rule.optimizer({"name": "sgd", "learning_rate": 0.02}) == nesterov
    assert rule.optimizer({"name": "adam", "learning_rate": 0.02}) == nesterov
    assert rule.optimizer(nesterov) == nesterov
    assert rule.optimizer({"name": "adam", "clipnorm": 1.0})["clipnorm"] == 1.0
    assert rule.lookahead and not rules.get("asynchronous_easgd").lookahead


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"name": "adam", "beta_1": 0.8}, "'beta_1' of optimizer 'adam'"),
        ({"name": "sgd", "momentum": 0.5}, "'momentum' of optimizer 'sgd'(.|\n)*algorithm.momentum"),
        ({"name": "sgd", "nesterov": False}, "'nesterov'"),
    ],
)
def test_arguments_that_cannot_be_kept_are_refused(setting, match):
    with pytest.raises(ConfigError, match=match):
        rules.get("eamsgd").optimizer(setting)


def test_without_momentum_another_algorithm_is_named():
    with pytest.raises(ConfigError, match=r"momentum must be .* \(asynchronous_easgd is without\), not 0"):
        rules.get("eamsgd", momentum=0)


@pytest.mark.parametrize("name", [name for name in rules.names() if name not in ("eamsgd", "sandblaster_lbfgs")])
def test_other_rules_take_any_optimizer(name):
    setting = {"name": "adam", "learning_rate": 0.1, "beta_1": 0.5}
    assert rules.get(name).optimizer(setting) == setting


def test_equation_7_from_keras_variable(simulate, quadratic):
    """Steps on y = x + delta v, as Keras makes them, with the elastic step on x, are equation (7)."""
    rule, eta, delta, alpha, tau = rules.get("eamsgd", moving_rate=0.25, communication_period=3), 0.1, 0.9, 0.25, 3
    simulation = simulate(rule, 1, quadratic.start)
    y, velocity = simulation.xs[0].copy(), 0 * quadratic.start
    x, v, c = (0 * quadratic.start for _ in range(3))
    for k in range(12):
        gradient = quadratic.gradient(y, k)
        velocity = delta * velocity - eta * gradient
        y = y + delta * velocity - eta * gradient
        v = delta * v - eta * quadratic.gradient(x + delta * v, k)
        x = x + v
        if (k + 1) % tau == 0:
            simulation.xs[0][:] = y - delta * velocity
            simulation.receive(0, simulation.exchange(0))
            y = simulation.xs[0] + delta * velocity
            x, c = x - alpha * (x - c), c + alpha * (x - c)
    np_x = simulation.xs[0]
    assert abs(np_x - x).max() < 1e-6 and abs(simulation.center - c).max() < 1e-6
    assert abs(x).max() > 0.1
