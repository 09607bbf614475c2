"""The exchange against a raw loopback echo of the same bytes, and the server's memory.

Ours is ``Client.exchange`` of asynchronous EASGD: a message of n float32 goes to the server, which applies it to the
center, and n float32 come back. The raw echo moves the same bytes and computes nothing. Its server has a thread for
each connection and buffers made once, its sockets have the same options, and it comes in two forms: "whole" receives
all bytes before it sends them back; "chunks" sends 512 KiB back as soon as they are there, to a client that sends from
a thread of its own. Neither is always the faster; each ratio is taken against whichever was faster in the same round,
so that the bar is the better of both. Clients are processes of their own, as workers are, and start together; both
servers live in this process, and only one of the three works at a time, in an order that turns from round to round.
"""

from __future__ import annotations

import multiprocessing
import queue
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import numpy as np
from outcome import Outcome

from dkeras_core import rules
from dkeras_core.exchange import Client, ParameterServer, new_secret
from dkeras_core.exchange.channel import prepare

BAR = 0.85
CHUNK = 512 * 1024
SIZES = {380_402: (60, 11), 25_000_000: (2, 7)}  # parameters: (exchanges in a run, rounds)
CLIENTS = (1, 2, 4)
KINDS = ("ours", "whole", "chunks")
MEMORY_CONNECTIONS = 2


# The raw echo


@contextmanager
def echo_server(size: int, chunks: bool) -> Iterator[tuple[str, int]]:
    """Send back ``size`` bytes at a time on every connection; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(sock: socket.socket) -> None:
        buffer = memoryview(bytearray(size))
        pieces = [buffer[start : start + CHUNK] for start in range(0, size, CHUNK)] if chunks else [buffer]
        with sock:
            while True:
                for piece in pieces:
                    if not receive(sock, piece):
                        return
                    sock.sendall(piece)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            prepare(sock)
            threads.append(threading.Thread(target=serve, args=(sock,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (acceptor, *threads):
            thread.join()


def receive(sock: socket.socket, view: memoryview) -> bool:
    """Fill ``view``; False at the end of the stream."""
    while len(view):
        count = sock.recv_into(view, 0, socket.MSG_WAITALL)
        if not count:
            return False
        view = view[count:]
    return True


def whole_echo(sock: socket.socket, message: memoryview, answer: memoryview) -> Callable[[], None]:
    def exchange() -> None:
        sock.sendall(message)
        receive(sock, answer)

    return exchange


def chunked_echo(sock: socket.socket, message: memoryview, answer: memoryview) -> Callable[[], None]:
    begin = queue.SimpleQueue()

    def send() -> None:
        while begin.get():
            sock.sendall(message)

    threading.Thread(target=send, daemon=True).start()

    def exchange() -> None:
        begin.put(True)
        receive(sock, answer)

    return exchange


# Clients


def client(pipe: Connection, worker: int, size: int, addresses: dict[str, tuple[str, int]], secret: bytes) -> None:
    """A process: connects to all servers, then runs what the pipe asks for, (kind, exchanges); answers the seconds."""
    x = np.random.default_rng(worker).normal(size=size).astype(np.float32)
    buffer = np.empty_like(x)
    message, answer = memoryview(x).cast("B"), memoryview(buffer).cast("B")
    with ExitStack() as stack:
        session = stack.enter_context(Client.connect(addresses["ours"], secret, worker=worker))
        exchanges = {"ours": lambda: session.exchange(x)}
        for kind, make in (("whole", whole_echo), ("chunks", chunked_echo)):
            sock = stack.enter_context(socket.create_connection(addresses[kind]))
            prepare(sock)
            exchanges[kind] = make(sock, message, answer)
        pipe.send("ready")
        while order := pipe.recv():
            kind, count = order
            exchange = exchanges[kind]
            begun = time.perf_counter()
            for _ in range(count):
                exchange()
            pipe.send(time.perf_counter() - begun)
        session.finish(x)


@contextmanager
def clients(number: int, size: int, addresses: dict, secret: bytes) -> Iterator[list[Connection]]:
    """``number`` client processes, connected; yields their pipes."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for worker in range(number):
            here, there = context.Pipe()
            processes.append(context.Process(target=client, args=(there, worker, size, addresses, secret), daemon=True))
            processes[-1].start()
            pipes.append(here)
        for pipe in pipes:
            pipe.recv()
        yield pipes
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.kill()


def rate(pipes: list[Connection], kind: str, count: int) -> float:
    """Exchanges in a second, of all clients together."""
    for pipe in pipes:
        pipe.send((kind, count))
    return len(pipes) * count / max([pipe.recv() for pipe in pipes])


def compare(size: int, number: int, count: int, rounds: int) -> Outcome:
    """Our exchanges in a second against the faster raw echo's."""
    secret = new_secret()
    with ExitStack() as stack:
        server = ParameterServer(
            rules.get("asynchronous_easgd"), np.zeros(size, np.float32), workers=number, secret=secret
        )
        stack.enter_context(server)
        addresses = {"ours": server.address}
        for kind in ("whole", "chunks"):
            addresses[kind] = stack.enter_context(echo_server(size * 4, kind == "chunks"))
        pipes = stack.enter_context(clients(number, size, addresses, secret))
        for kind in KINDS:
            rate(pipes, kind, max(2, count // 4))
        found = {kind: [] for kind in KINDS}
        for turn in range(rounds):
            for kind in KINDS[turn % 3 :] + KINDS[: turn % 3]:
                found[kind].append(rate(pipes, kind, count))
    ratios = [ours / max(echoes) for ours, *echoes in zip(*found.values(), strict=True)]
    medians = {f"{kind}_exchanges_per_second": round(statistics.median(found[kind]), 2) for kind in KINDS}
    plural = "client" if number == 1 else "clients"
    return Outcome.of(f"exchange_{size}_{number}_{plural}", ratios, BAR, parameters=size, clients=number, **medians)


# Memory


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM at most since ``forget_peak``."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def server_process(pipe: Connection, size: int, secret: bytes) -> None:
    """A process: hosts a server through a run of two workers and tells by how much its memory grew at most."""
    center = np.ones(size, np.float32)
    rule = rules.get("asynchronous_easgd")
    forget_peak()
    before = resident("VmRSS")
    with ParameterServer(rule, center, workers=MEMORY_CONNECTIONS, secret=secret) as server:
        pipe.send(server.address)
        while not server.wait(1.0):
            pass
        pipe.send(resident("VmHWM") - before)


def worker_process(address: tuple[str, int], secret: bytes, worker: int) -> None:
    with Client.connect(address, secret, worker=worker) as session:
        x, _ = session.center()
        for _ in range(20):  # more than 16, so that the average of the center is taken too
            session.exchange(x)
        session.finish(x)


def memory(size: int) -> Outcome:
    """The memory that a server may take, over what it took in a run with two connections."""
    context, secret = multiprocessing.get_context("spawn"), new_secret()
    grown = []
    for _ in range(3):
        here, there = context.Pipe()
        processes = [context.Process(target=server_process, args=(there, size, secret), daemon=True)]
        processes[0].start()
        address = here.recv()
        for worker in range(MEMORY_CONNECTIONS):
            processes.append(context.Process(target=worker_process, args=(address, secret, worker), daemon=True))
            processes[-1].start()
        grown.append(here.recv())
        for process in processes:
            process.join(60)
    allowed = 3 * 4 * size + MEMORY_CONNECTIONS * 2 * 2**20
    mib = round(statistics.median(grown) / 2**20, 2)
    return Outcome.of(
        f"exchange_memory_{size}",
        [allowed / bytes_ for bytes_ in grown],
        1.0,
        server_mib=mib,
        allowed_mib=round(allowed / 2**20, 2),
        connections=MEMORY_CONNECTIONS,
    )


def measure() -> list[Outcome]:
    outcomes = [compare(size, number, *settings) for size, settings in SIZES.items() for number in CLIENTS]
    return [*outcomes, memory(25_000_000)]


if __name__ == "__main__":
    for outcome in measure():
        print(outcome)
