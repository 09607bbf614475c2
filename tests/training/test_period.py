"""The automatic communication period on made-up timings, and the size of compiled windows."""

import itertools
import random

import pytest

from dkeras_core.training.period import AutomaticPeriod, window_of


def run(period, compute, exchange, exchanges):
    """Feed a period the times of steps and exchanges; return the taus it chose, one after each exchange."""
    taus = []
    for number in range(exchanges):
        period.computed(compute(number) * period.tau, period.tau)
        period.exchanged(exchange(number))
        taus.append(period.tau)
    return taus


def test_it_keeps_the_share_and_takes_no_more_steps_than_that_needs():
    period = AutomaticPeriod(0.05, steps=100_000, window=5)
    taus = run(period, lambda _: 0.001, lambda _: 0.004, 40)
    assert taus[-1] == 80  # 0.004 x 19 / 0.001 = 76 steps, in whole windows
    assert period.account()["expected_share"] == pytest.approx(0.004 / 0.084, abs=1e-4)
    assert period.account() | {"expected_share": None} == {
        "first": 5, "last": 80, "min": 5, "max": 80, "bound": 5000, "wanted_share": 0.05, "expected_share": None
    }  # fmt: skip


def test_a_run_keeps_twenty_exchanges_however_slow_they_are():
    taus = run(AutomaticPeriod(0.05, steps=400, window=10), lambda _: 0.001, lambda _: 5.0, 30)
    assert max(taus) == 20


def test_a_run_too_short_for_twenty_windows_exchanges_after_every_one():
    assert max(run(AutomaticPeriod(0.05, steps=150, window=10), lambda _: 0.001, lambda _: 5.0, 30)) == 10


def test_cheap_exchanges_stay_at_one_window():
    assert set(run(AutomaticPeriod(0.05, 10_000, 10), lambda _: 0.001, lambda _: 1e-5, 30)) == {10}


def test_it_changes_by_a_factor_of_two_at_most_and_only_every_third_exchange():
    taus = run(AutomaticPeriod(0.05, 10**6, 10), lambda _: 0.001, lambda _: 1.0, 40)
    for before, after in itertools.pairwise(taus):
        assert before / 2 <= after <= before * 2
    changes = [number for number, (a, b) in enumerate(itertools.pairwise(taus)) if a != b]
    assert min(b - a for a, b in itertools.pairwise(changes)) >= 3


def test_single_outliers_and_noise_do_not_move_it():
    noise = random.Random(1)
    period = AutomaticPeriod(0.05, 10**6, 10)
    taus = run(
        period,
        lambda n: 0.001 * noise.uniform(0.9, 1.1) * (50 if n % 11 == 5 else 1),
        lambda n: 0.002 * noise.uniform(0.9, 1.1) * (100 if n % 7 == 3 else 1),
        100,
    )
    assert set(taus[20:]) <= {30, 40, 50}  # 38 is wanted


def test_it_comes_down_when_exchanges_become_cheap():
    taus = run(AutomaticPeriod(0.05, 10**6, 10), lambda _: 0.001, lambda n: 0.02 if n < 30 else 0.0005, 80)
    assert taus[29] == 380
    assert taus[-1] == 10


@pytest.mark.parametrize(
    ("period", "steps", "epoch", "expected"),
    [
        (10, 1000, 100, 10),
        (50, 1000, 100, 50),
        (100, 10_000, 1000, 50),
        (1000, 10_000, 1000, 50),
        (67, 10_000, 1000, 64),  # prime: the worker cuts the windows
        (67, 10_000, 30, 30),
        ("epoch", 10_000, 1000, 64),
        ("fit", 50, 5, 5),
        ("auto", 10_000, 1000, 10),
        ("auto", 100, 50, 5),
        ("auto", 10, 5, 1),
        (5, 4, 4, 4),
    ],
)
def test_windows_are_bounded(period, steps, epoch, expected):
    assert window_of(period, steps=steps, steps_in_epoch=epoch, batch_bytes=4000) == expected


def test_windows_of_large_rows_are_small():
    assert window_of(10, steps=1000, steps_in_epoch=100, batch_bytes=8 << 20) == 4  # within 32 MB
    assert window_of(10, steps=1000, steps_in_epoch=100, batch_bytes=1 << 30) == 1
