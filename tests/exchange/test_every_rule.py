"""Every rule through the real server: center, answers and what is published are those of the rule's own functions."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.rules import Arrival

NAMES = [name for name in rules.names() if rules.get(name).exchanging and rules.get(name).local != "pieces"]
ROUNDS, N = 4, 300


class Reference:
    """Two workers and a center in plain NumPy, in one piece."""

    def __init__(self, rule, center):
        self.rule, self.center = rule, center.copy()
        self.state = rule.server_state(self.center)
        self.count, self.seen = 0, [0, 0]

    def apply(self, worker, message, workers=1):
        answer = np.empty_like(message)
        staleness = 0 if self.rule.synchronous else self.count - self.seen[worker]
        self.rule.apply(self.center, message, answer, self.state, Arrival(worker, self.count, staleness, workers))
        self.count += 1
        self.seen[worker] = self.count
        return answer


@pytest.mark.parametrize("name", NAMES)
def test_server_and_rule_agree(serve, connect, name):
    random = np.random.default_rng(0)
    rule, start = rules.get(name).for_workers(2), random.normal(size=N).astype(np.float32)
    server, reference = serve(rule, start), Reference(rule, start)
    clients = [connect(server, worker) for worker in (0, 1)]
    xs = [client.center()[0] for client in clients]
    states = [rule.worker_state(x) for x in xs]
    order = [[0, 1]] * ROUNDS if rule.synchronous else [[worker] for worker in (0, 1, 1, 0, 1, 0, 0, 1)]
    with ThreadPoolExecutor(2) as pool:
        for those in order:
            for worker in those:
                xs[worker] += random.normal(size=N, scale=0.1).astype(np.float32)
            messages = [rule.message(xs[worker], states[worker], 3).copy() for worker in those]
            answers = list(pool.map(lambda w, m: clients[w].exchange(m).copy(), those, messages))
            expected = reference.apply(those[0], np.mean(messages, axis=0, dtype=np.float32), len(those))
            for worker, answer in zip(those, answers, strict=True):
                np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)
                if rule.local != "averaged_gradients":
                    rule.receive(xs[worker], answer, states[worker])
    for client, x in zip(clients, xs, strict=True):
        client.finish(x, None, {})
    result = server.result()
    np.testing.assert_allclose(result.center, reference.center, rtol=1e-5, atol=1e-6)
    published = rule.published(reference.center, reference.state)
    np.testing.assert_allclose(result.published, published, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.mean, np.mean(xs, axis=0), rtol=1e-5, atol=1e-6)
    assert np.abs(reference.center - start).max() > 0.002 or rule.local == "averaged_gradients"
