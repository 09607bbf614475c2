import numpy as np
import pytest

from dkeras_core import rules


def exchange(rule, x, center, state):
    message, answer = rule.message(x, state, 1).copy(), np.empty_like(x)
    rule.apply(center, message, answer, {}, None)
    rule.receive(x, answer, state)
    return message


def test_nothing_is_lost_and_x_moves_by_what_others_sent():
    """Sent messages and residual sum up to all local updates; x = start + own updates + messages of the others."""
    rule, random = rules.get("threshold_sharing", threshold=0.5, commit_rate=1), np.random.default_rng(0)
    center = random.normal(size=100).astype(np.float32)
    start, x = center.copy(), center.copy()
    state = rule.worker_state(x)
    updates, sent, others = (np.zeros(100) for _ in range(3))
    for _ in range(200):
        update = random.normal(size=100, scale=0.3).astype(np.float32)
        x += update
        updates += update
        other = np.where(random.random(100) < 0.1, 0.25, 0).astype(np.float32)
        center += other
        others += other
        sent += exchange(rule, x, center, state)
        np.testing.assert_allclose(sent + state["residual"], updates, atol=1e-3)
        np.testing.assert_allclose(x, start + updates + others, atol=1e-3)
        np.testing.assert_allclose(center, start + sent + others, atol=1e-3)
    assert np.abs(sent).max() > 1


def test_messages_are_ternary_and_end_above_the_threshold_only():
    rule, random = rules.get("threshold_sharing", threshold=0.5, commit_rate=1), np.random.default_rng(1)
    x, center = np.zeros(1000, np.float32), np.zeros(1000, np.float32)
    state = rule.worker_state(x)
    for _ in range(50):
        x += random.normal(size=1000).astype(np.float32)
        threshold, residual = state["threshold"][0], x - state["taken"]
        message = exchange(rule, x, center, state)
        assert set(np.unique(message)) <= {-threshold, 0, threshold}
        np.testing.assert_array_equal(message != 0, np.abs(residual) > threshold)
        np.testing.assert_array_equal(np.sign(message[message != 0]), np.sign(residual[message != 0]))


@pytest.mark.parametrize("threshold", [1e-4, 10])
def test_threshold_adapts_until_the_density_is_in_its_band(threshold):
    rule = rules.get("threshold_sharing", threshold=threshold, min_density=0.05, max_density=0.2, commit_rate=1)
    random, x, center = np.random.default_rng(2), np.zeros(500, np.float32), np.zeros(500, np.float32)
    state, densities = rule.worker_state(x), []
    for _ in range(600):
        x += random.normal(size=500, scale=0.01).astype(np.float32)
        densities.append(np.count_nonzero(exchange(rule, x, center, state)) / 500)
    assert not 0.05 <= densities[0] <= 0.2
    assert 0.04 <= np.median(densities[-100:]) <= 0.25
    assert densities[:1] == ([0.0] if threshold == 10 else [pytest.approx(0.99, abs=0.03)])


def test_band_upside_down_is_refused():
    with pytest.raises(ValueError, match="min_density must be at most max_density"):
        rules.get("threshold_sharing", min_density=0.2, max_density=0.1)
