"""The L-BFGS search against SciPy's, on problems whose optimum is known."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from dkeras_core.rules.lbfgs import LBFGS, two_loop


def run(function, x, **settings):
    search = LBFGS(x, **{"history": 10, "iterations": 200, "tolerance": 1e-6} | settings)
    losses = []
    while (point := search.ask()) is not None:
        iterate = search.tell(*function(point))
        if iterate:
            losses.append(iterate.loss)
    return search.iterate, losses


def rosenbrock(x):
    return rosen(x), rosen_der(x)


def test_rosenbrock_needs_about_as_many_evaluations_as_scipy():
    start = np.array([-1.2, 1.0, -1.2, 1.0, 0.3, -0.7])
    iterate, losses = run(rosenbrock, start)
    theirs = minimize(rosen, start, jac=rosen_der, method="L-BFGS-B", options={"gtol": 1e-6, "ftol": 0})
    np.testing.assert_allclose(iterate.x, theirs.x, atol=1e-4)
    assert iterate.gradient_norm <= 1e-6 and "gradient" in iterate.ended
    assert iterate.evaluations <= 1.5 * theirs.nfev
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))


def test_a_quadratic_of_condition_1000_in_float32_answers():
    random = np.random.default_rng(0)
    curvature = np.geomspace(1, 1000, 50).astype(np.float32)
    optimum = random.normal(size=50).astype(np.float32)

    def quadratic(x):
        distance = x.astype(np.float32) - optimum
        return 0.5 * float(distance @ (curvature * distance)), curvature * distance

    iterate, _ = run(quadratic, np.zeros(50), tolerance=1e-4)
    np.testing.assert_allclose(iterate.x, optimum, atol=1e-4)


def test_two_loop_is_the_inverse_hessian_after_n_pairs_of_a_quadratic():
    random = np.random.default_rng(1)
    root = random.normal(size=(4, 4))
    hessian = root @ root.T + np.eye(4)
    # Conjugate steps: then the update reproduces the inverse exactly (theorem 6.4 of the book).
    _, vectors = np.linalg.eigh(hessian)
    pairs = [(s, hessian @ s, 1 / (s @ hessian @ s)) for s in vectors.T]
    gradient = random.normal(size=4)
    np.testing.assert_allclose(two_loop(gradient, pairs), -np.linalg.solve(hessian, gradient), rtol=1e-9)


def test_a_loss_that_overflows_makes_the_step_smaller():
    iterate, _ = run(lambda x: (np.inf, x) if abs(x[0]) > 1 else (x[0] ** 2, 2 * x), np.array([0.9]))
    assert abs(iterate.x[0]) < 1e-6


def test_an_interval_that_shrinks_to_nothing_ends_the_line_search():
    """The least loss lies at the edge of where it is finite."""
    iterate, _ = run(lambda x: (np.inf if x[0] > 1 else -x[0], np.array([-1.0])), np.zeros(1))
    assert iterate.x == 1 and "no step" in iterate.ended


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: (float("nan"), x), "not finite at the initial"),
        (lambda x: (float(x @ x), -2 * x), "no step"),  # a gradient with the wrong sign
        (lambda x: (float(x.sum()), np.ones_like(x)), "iterations"),  # without a lower bound
        (lambda x: (0.0, np.zeros_like(x)), "gradient"),
    ],
)
def test_it_ends_and_says_why(function, why):
    iterate, _ = run(function, np.array([1.0, -2.0]), iterations=7)
    assert why in iterate.ended
