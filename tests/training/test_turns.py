"""Trainings of one application take turns at its slots: in order, side by side where both fit, never half of each."""

import threading

import pytest

from dkeras_core.training.turns import Turns


class Trainings:
    """Threads that hold slots until they are told to end."""

    def __init__(self, slots):
        self.slots = slots
        self.turns = Turns(lambda: self.slots)
        self.begun, self.over, self.threads = {}, {}, []

    def start(self, name, wanted):
        self.begun[name], self.over[name] = threading.Event(), threading.Event()
        before = len(self.turns._queue) + self.turns._taken
        thread = threading.Thread(target=self._run, args=(name, wanted))
        thread.start()
        self.threads.append(thread)
        while len(self.turns._queue) + self.turns._taken == before:
            pass  # until it stands in the queue, or has begun

    def _run(self, name, wanted):
        with self.turns.take(wanted):
            self.begun[name].set()
            assert self.over[name].wait(30)

    def end(self, name):
        self.over[name].set()

    def running(self, *names):
        assert all(self.begun[name].wait(30) for name in names)
        return {name for name, event in self.begun.items() if event.is_set() and not self.over[name].is_set()}


@pytest.fixture
def trainings():
    made = []

    def make(slots):
        made.append(Trainings(slots))
        return made[-1]

    yield make
    for one in made:
        for event in one.over.values():
            event.set()
        for thread in one.threads:
            thread.join(30)
            assert not thread.is_alive()


def test_one_that_takes_all_slots_is_alone_and_the_next_follows_in_order(trainings):
    some = trainings(4)
    for name in "abc":
        some.start(name, 4)
    assert some.running("a") == {"a"}
    some.end("a")
    assert some.running("b") == {"b"}
    some.end("b")
    assert some.running("c") == {"c"}


def test_those_that_fit_run_side_by_side_and_the_first_in_the_queue_is_not_overtaken(trainings):
    some = trainings(4)
    some.start("a", 2)
    some.start("b", 2)
    assert some.running("a", "b") == {"a", "b"}
    some.start("large", 3)
    some.end("a")
    some.start("small", 1)  # would fit beside b, but the large one came first
    assert some.running("b") == {"b"}
    some.end("b")
    assert some.running("large", "small") == {"large", "small"}


def test_one_that_wants_more_slots_than_there_are_gets_them_all(trainings):
    some = trainings(2)
    some.start("a", 1)
    some.start("waves", 5)
    assert some.running("a") == {"a"}
    some.end("a")
    some.start("b", 1)
    assert some.running("waves") == {"waves"}


def test_slots_come_back_when_a_training_fails(trainings):
    some = trainings(1)
    with pytest.raises(ValueError), some.turns.take(1):
        raise ValueError
    some.start("a", 1)
    assert some.running("a") == {"a"}


def test_one_application_has_one_queue():
    from types import SimpleNamespace

    from dkeras_core.training.turns import turns_of

    class Context:
        pass

    context, other = Context(), Context()
    sessions = [SimpleNamespace(sparkContext=one) for one in (context, context, other)]
    first, second, third = map(turns_of, sessions)
    assert first is second and first is not third
