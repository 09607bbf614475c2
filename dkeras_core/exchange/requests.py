"""What a joined worker may ask of the server, and how each request is answered."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from dkeras_core.exchange.center import check_finite
from dkeras_core.exchange.channel import Channel, Disconnected, TimedOut
from dkeras_core.exchange.frames import VECTOR, FrameError, Header, Kind
from dkeras_core.exchange.incoming import check_length, incoming
from dkeras_core.exchange.run import Run
from dkeras_core.exchange.search import result_of, sizes_of
from dkeras_core.exchange.waiting import Waiting
from dkeras_core.exchange.wire import dense
from dkeras_core.rules.sandblaster import PieceResult


class Dropped(Disconnected):
    """The worker leaves the run for good."""


class Requests:
    """Serves the frames of one worker's session, in the session's thread.

    ``session`` is what waits and ends; its ``gate`` is held while anything that the worker sent is applied.
    """

    def __init__(self, run: Run, session: Waiting, channel: Channel, worker: int):
        self._run, self._session, self._channel, self._worker = run, session, channel, worker
        self._finished = False
        self._asked = time.monotonic()  # when the last request was answered
        # One buffer of a shard for what comes in and what goes out, cut to each shard's length.
        buffer = np.empty(min(run.center.shard, run.center.size), VECTOR)
        lengths = [span.stop - span.start for span in run.center.spans]
        self._buffers = [buffer[:length] for length in lengths]
        self._seen = [0] * len(lengths)
        self._version = 0  # of the x that the worker has, in a search
        self._gradient: np.ndarray | None = None  # whole, since a gradient counts as a whole or not at all
        self._down = dense(run.down)(lengths[0])
        self._incoming = incoming(run.up, channel, lengths, self._down)

    def serve(self) -> None:
        """Take one frame and do what it asks. Raises PeerError when the worker goes or does what it may not."""
        header, content = self._channel.receive(self._run.silence_deadline)
        self._session.check_ended()
        self._run.members.heard(self._worker, self._session)
        if header.kind is Kind.ALIVE:
            self._bear(content)
        else:
            self._answer(header, content)
            self._asked = time.monotonic()

    def _bear(self, content: dict[str, Any]) -> None:
        """Wait for a worker that lives and asks for nothing, but not for ever: it may hang."""
        waited = time.monotonic() - self._asked
        if waited > self._run.step_deadline:
            raise TimedOut(f"lives, but has asked for nothing for {waited:.0f} s: it is at {content.get('at')}")

    def _answer(self, header: Header, content: dict[str, Any]) -> None:
        if header.kind is Kind.EXCHANGE:
            self._exchange(header)
        elif header.kind is Kind.REPORT:
            self._report(content)
        elif header.kind is Kind.CENTER:
            self._center()
        elif header.kind is Kind.STATE and self._run.state.size:
            self._share_state(header)
        elif header.kind is Kind.LEAD:
            self._lead(header)
        elif header.kind is Kind.HOLD and self._run.search:
            self._hold(content)
        elif header.kind is Kind.WORK and self._run.search:
            self._work(content)
        elif header.kind is Kind.FINISH:
            self._finish(content)
        elif header.kind is Kind.LEAVE:
            raise Disconnected(f"gave up: {content.get('message', '')}")
        elif header.kind is Kind.DROP:
            self._run.members.reported(self._worker, self._session, content.get("report") or {})
            raise Dropped(str(content.get("message", "")))
        else:
            raise FrameError(f"sent a frame out of place ({header.kind.name})")

    def _exchange(self, header: Header) -> None:
        if self._finished:
            raise FrameError("has finished and can no longer exchange")
        self._incoming.begin(header, time.monotonic() + self._run.timeout)
        if self._run.rounds:
            self._meet()
        else:
            self._apply()

    def _apply(self) -> None:
        run, channel, seen = self._run, self._channel, self._seen
        deadline, last = time.monotonic() + run.timeout, len(self._buffers) - 1
        for part, values in enumerate(self._buffers):
            self._incoming.receive(part, values, deadline)
            with self._session.gate:
                self._session.check_ended()
                seen[part] = run.center.exchange(part, values, self._worker, seen[part], self._down.round)
            if part == last:
                run.members.exchanged(self._worker, self._session)
            channel.send_vector(Kind.SHARD, self._down.encode(values), part, self._down.code)

    def _meet(self) -> None:
        run, channel, last = self._run, self._channel, len(self._buffers) - 1
        for part, message in enumerate(self._buffers):
            self._incoming.receive(part, message, time.monotonic() + run.timeout)
            check_finite(message, run.center.spans[part].start, run.center.size)
            answer = run.rounds.meet(self._worker, self._session, part, message)
            if part == last:
                run.members.exchanged(self._worker, self._session)
            channel.send_vector(Kind.SHARD, answer, part, self._down.code)

    def _center(self) -> None:
        run = self._run
        if run.warm_start and self._worker != 0:
            run.warm_start.wait_for_lead(self._session)
        for part, values in enumerate(self._buffers):
            self._seen[part] = run.center.read(part, values)
            self._channel.send_vector(Kind.SHARD, values, part)
        if run.state.size:
            self._channel.send_vector(Kind.STATE, run.state)

    def _lead(self, header: Header) -> None:
        run = self._run
        if self._worker != 0:
            raise FrameError("led, which is for worker 0")
        check_length(header, run.center.size)
        self._take(lambda part, values: run.center.replace(part, values))
        if run.warm_start and not run.warm_start.led:
            run.center.restart()
            run.warm_start.lead()
        self._channel.send_control(Kind.DONE, {})

    def _hold(self, content: dict[str, Any]) -> None:
        sizes = sizes_of(content)
        with self._session.gate:
            self._session.check_ended()
            self._run.search.hold(self._worker, self._session, sizes)
        self._channel.send_control(Kind.DONE, {})

    def _work(self, content: dict[str, Any]) -> None:
        """Take the result of a piece, answer with the next one, and with x when this worker does not have it yet."""
        run, channel = self._run, self._channel
        if content:
            self._result(result_of(content))
        task = run.search.next(self._worker, self._session)
        if task is None:
            channel.send_control(Kind.ASSIGN, {"over": run.search.over})
            return
        moved = task.version != self._version
        channel.send_control(Kind.ASSIGN, {"piece": task.piece, "version": task.version, "moved": moved})
        if moved:
            self._version = task.version
            for part, span in enumerate(run.center.spans):
                channel.send_vector(Kind.SHARD, task.point[span], part)

    def _result(self, result: PieceResult) -> None:
        run = self._run
        if result.loss is not None:
            check_length(self._expect(Kind.GRADIENT), run.center.size)
            if self._gradient is None:
                self._gradient = np.empty(run.center.size, VECTOR)
            self._take(lambda part, values: np.copyto(self._gradient[run.center.spans[part]], values))
        with self._session.gate:
            self._session.check_ended()
            run.search.finish(self._worker, self._session, result, self._gradient)
        run.members.exchanged(self._worker, self._session)

    def _report(self, content: dict[str, Any]) -> None:
        self._run.members.reported(self._worker, self._session, content)
        if self._run.on_report:
            self._run.on_report(self._worker, self._channel.attempt, content)
        self._channel.send_control(Kind.REPLY, {"stop": self._run.stop_request})

    def _share_state(self, header: Header) -> None:
        self._run.finals.share_state(self._worker, self._state(header))
        self._channel.send_control(Kind.DONE, {})

    def _finish(self, account: dict[str, Any]) -> None:
        if self._finished:
            raise FrameError("has finished already")
        run, channel = self._run, self._channel
        if run.rounds:
            run.rounds.finishing(self._worker, self._session)
        channel.send_control(Kind.GO, {})
        state = self._state(self._expect(Kind.STATE)) if run.state.size else None
        check_length(self._expect(Kind.FINAL), run.center.size)
        last = run.finals.begin()
        self._take(lambda part, values: run.finals.add(part, values, last))
        run.finals.complete(self._worker, last, state)
        self._finished = True
        run.members.finished(self._worker, self._session, account)
        if run.rounds:
            run.rounds.finished(self._worker, self._session)
        channel.send_control(Kind.DONE, {})

    def _take(self, use) -> None:
        """Receive a float32 vector of n values and ``use(part, values)`` each shard of it, finite."""
        center, deadline = self._run.center, time.monotonic() + self._run.timeout
        for part, values in enumerate(self._buffers):
            self._channel.receive_into(values, deadline)
            check_finite(values, center.spans[part].start, center.size)
            with self._session.gate:
                self._session.check_ended()
                use(part, values)

    def _state(self, header: Header) -> np.ndarray:
        check_length(header, self._run.state.size)
        state = np.empty_like(self._run.state)
        self._channel.receive_into(state, time.monotonic() + self._run.timeout)
        check_finite(state, 0, state.size)
        return state

    def _expect(self, kind: Kind) -> Header:
        header, _ = self._channel.receive()
        if header.kind is not kind:
            raise FrameError(f"sent a frame out of place ({header.kind.name}, not {kind.name})")
        return header
