"""How a trigger asks whether its DAG is paused."""

import asyncio

from dkeras_core.airflow import pause
from dkeras_core.airflow.pause import Pause
from dkeras_core.errors import ClusterError


class Asked:
    """A REST interface that gives one answer after the other; an exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    def dag(self, dag):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"dag_id": dag, "is_paused": answer}


def seen(rest, monkeypatch, moments):
    """What is seen at each moment, in seconds, and what was said."""
    said = []
    asking = Pause("retrain", said.append)
    asking._rest = rest
    clock = iter([moment for moment in moments for _ in (0, 1)])
    monkeypatch.setattr(pause, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock))}))

    async def all_of_them():
        found = []
        for _ in moments:
            before = rest.asked
            found.append(await asking.seen())
            if rest.asked == before:
                next(clock)
        return found

    return asyncio.run(all_of_them()), said


def test_it_is_asked_every_three_seconds_and_not_more_often(monkeypatch):
    rest = Asked(False, True, False)
    assert seen(rest, monkeypatch, [10, 11, 12.9, 13, 14, 16]) == ([False, False, False, True, True, False], [])
    assert rest.asked == 3


def test_what_cannot_be_known_is_not_paused_and_is_said_once(monkeypatch):
    rest = Asked(True, ClusterError("Airflow does not answer"), ClusterError("nor now"), True)
    found, said = seen(rest, monkeypatch, [10, 20, 30, 40])
    assert found == [True, False, False, True]
    assert len(said) == 1 and "pausing retrain does not end" in said[0] and "Airflow does not answer" in said[0]
