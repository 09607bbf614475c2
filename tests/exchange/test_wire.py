"""Encodings: what travels, what it becomes, and that both ends then use the same numbers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.exchange import ternary
from dkeras_core.exchange.frames import Kind
from dkeras_core.exchange.ternary import PACKED, TernaryDecoder, TernaryEncoder, packed_size
from dkeras_core.exchange.wire import BFloat16, Float16, Unsendable, dense
from dkeras_core.rules import Rule

N = 1000


def vector(seed, size=N):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def travelled(wire, values):
    received = wire.buffer(values)
    sent = wire.encode(values).copy()
    received[:] = sent
    decoded = np.empty_like(values)
    wire.decode(received, decoded)
    return decoded


def bits(*patterns):
    return np.array(patterns, np.uint32).view(np.float32)


# 16 bits


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even():
    values = bits(0x3F800000, 0x3F808000, 0x3F808001, 0x3F818000, 0x3F817FFF, 0xBF808001, 0x00000001, 0x80000000)
    expected = bits(0x3F800000, 0x3F800000, 0x3F810000, 0x3F820000, 0x3F810000, 0xBF810000, 0x00000000, 0x80000000)
    np.testing.assert_array_equal(travelled(BFloat16(8), values).view(np.uint32), expected.view(np.uint32))


def test_bfloat16_keeps_what_is_not_finite():
    values = bits(0x7F800000, 0xFF800000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x3F800000)
    found = travelled(BFloat16(6), values)
    assert found[0] == np.inf and found[1] == -np.inf and np.isnan(found[2:5]).all() and found[5] == 1


def test_bfloat16_of_the_largest_numbers():
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(travelled(BFloat16(2), np.array([largest, -largest], np.float32)), [np.inf, -np.inf])
    np.testing.assert_array_equal(travelled(BFloat16(2), np.full(2, 3.38e38, np.float32)) > 3.3e38, True)


@pytest.mark.parametrize(("wire", "precision"), [(BFloat16, 2**-9), (Float16, 2**-12)])
def test_rounding_is_what_the_other_side_decodes_and_changes_nothing_twice(wire, precision):
    values = vector(0)
    decoded = travelled(wire(N), values)
    np.testing.assert_allclose(decoded, values, rtol=precision * 2, atol=2**-25)
    rounded = values.copy()
    wire(N).round(rounded)
    np.testing.assert_array_equal(rounded, decoded)
    np.testing.assert_array_equal(travelled(wire(N), rounded), rounded)


def test_float16_refuses_what_it_cannot_hold():
    wire = Float16(3)
    for values in ([1, 65520, 0], [1, -1e6, 0]):
        values = np.array(values, np.float32)
        for act in (wire.check, wire.encode, wire.round):
            with pytest.raises(Unsendable, match=r"the value (65520|-1e\+06) cannot travel as float16"):
                act(values)
    wire.check(np.array([65519, -65519, 0], np.float32))
    np.testing.assert_array_equal(travelled(wire, np.array([65519, -65519, 0], np.float32)), [65504, -65504, 0])


def test_an_unknown_wire_is_refused(serve):
    with pytest.raises(ConfigError, match="bfloat16, float16"):
        serve(wire="int8")


@pytest.mark.parametrize("wire", ["bfloat16", "float16"])
def test_both_ends_use_the_same_difference(serve, connect, wire):
    """The sum of workers and center is conserved although what travels is rounded."""
    rule, workers, exchanges = rules.get("asynchronous_easgd"), 4, 30
    center = vector(0)
    server = serve(rule, center, workers=workers, wire=wire)
    xs = [vector(worker + 1) for worker in range(workers)]
    before = np.sum([center, *xs], axis=0, dtype=np.float64)
    in_step = threading.Barrier(workers, timeout=10)  # else one may be through before the others have begun

    def work(worker):
        client = connect(server, worker)
        for _ in range(exchanges):
            in_step.wait()
            rule.receive(xs[worker], client.exchange(xs[worker]), {})
        client.finish(xs[worker])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    result = server.result()
    after = np.sum([result.center, *xs], axis=0, dtype=np.float64)
    np.testing.assert_allclose(after, before, atol=2e-5)
    np.testing.assert_allclose(result.mean, np.mean(xs, axis=0), atol=1e-6)  # last vectors travel as float32
    assert np.ptp([*xs, result.center], axis=0).max() < 0.1  # and they did come together


@pytest.mark.parametrize("wire", ["bfloat16", "float16"])
def test_half_the_bytes_travel(serve, connect, wire):
    size = 40_000
    used = []
    for name in ("float32", wire):
        server = serve(center=np.zeros(size, np.float32), workers=1, shard=16_000, wire=name)
        client = connect(server)
        before = server.status().bytes
        x = vector(1, size)
        answer = client.exchange(x)
        np.testing.assert_allclose(answer, x / 2, rtol=2**-7, atol=1e-6)
        client.report({})  # its answer comes after the server has counted what it sent
        used.append(server.status().bytes - before)
    assert used[1] < 0.51 * used[0]


def test_what_the_encoding_cannot_carry_is_refused_before_anything_is_sent(serve, connect):
    server = serve(wire="float16")
    client = connect(server)
    with pytest.raises(TrainingError, match=r"70000 cannot travel as float16"):
        client.exchange(np.full(N, 70000, np.float32))
    client.exchange(vector(0))


@dataclass(frozen=True, kw_only=True)
class Gathering(Rule):
    """The center gathers the messages and is the answer."""

    name: ClassVar[str] = "gathering_for_tests"

    def apply(self, center, message, answer, state, arrival):
        center += message
        answer[:] = center

    def receive(self, x, answer, state):
        x[:] = answer


def test_an_answer_that_cannot_travel_fails_the_run(serve, connect):
    server = serve(Gathering(), wire="float16")
    client = connect(server)
    client.exchange(np.full(N, 40000, np.float32))
    with pytest.raises(TrainingError, match=r"worker 0 .* could not be answered: the value 80000 cannot travel"):
        client.exchange(np.full(N, 40000, np.float32))
    assert "80000" in server.status().failure


class GatheringTogether(Gathering):
    synchronous: ClassVar[bool] = True


def test_rounds_travel_encoded_too(serve, connect):
    server = serve(GatheringTogether(), wire="bfloat16", workers=1)
    x = vector(3)
    expected = x.copy()
    BFloat16(N).round(expected)
    np.testing.assert_array_equal(connect(server).exchange(x), expected)
    server = serve(GatheringTogether(), np.full(N, 60000, np.float32), wire="float16", workers=1)
    with pytest.raises(TrainingError, match="a round of 1 workers: the value 80000"):
        connect(server).exchange(np.full(N, 20000, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named_in_each_encoding(serve, connect, bad):
    for wire in ("bfloat16", "float16"):
        values = vector(0)
        values[500] = bad
        with pytest.raises(TrainingError, match=r"element 500 of 1000|cannot travel"):
            connect(serve(wire=wire)).exchange(values)


def test_a_message_in_another_encoding_is_refused(serve, raw):
    channel = raw(serve())
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, N * 2, encoding=1) + bytes(N * 2))
    header, content = channel.receive()
    assert header.kind is Kind.END and "in encoding 1, where this run has 0" in content["message"]


def test_an_encoding_where_none_belongs(serve, raw):
    channel = raw(serve())
    channel.sock.sendall(channel.frame_header(Kind.REPORT, 0, 2, encoding=1) + b"{}")
    assert "unknown encoding (1)" in channel.receive()[1]["message"]


def test_names_and_codes_agree():
    assert [dense(name).code for name in ("float32", "bfloat16", "float16")] == [0, 1, 2]


# Ternary


def ternary_vector(seed, share, size=N, threshold=0.25):
    generator = np.random.default_rng(seed)
    signs = np.where(generator.random(size) < 0.5, -threshold, threshold)
    return np.where(generator.random(size) < share, signs, 0).astype(np.float32)


def through(message, lengths):
    data = TernaryEncoder(lengths).encode(message)
    decoder = TernaryDecoder(lengths)
    end = decoder.head.size
    decoder.head[:] = data[:end]
    decoder.begin(data.size)
    decoded = np.empty_like(message)
    begin = 0
    for part, length in enumerate(lengths):
        size = decoder.size(part)
        decoder.buffer(part)[:] = data[end : end + size]
        decoder.decode(part, decoded[begin : begin + length])
        begin, end = begin + length, end + size
    return decoded, data


@pytest.mark.parametrize("share", [0, 0.001, 0.03, 0.5, 1])
@pytest.mark.parametrize("lengths", [[1000], [64] * 15 + [40], [1] * 3 + [997], [999, 1]])
def test_ternary_messages_arrive_as_they_were(share, lengths):
    message = ternary_vector(1, share)
    decoded, data = through(message, lengths)
    np.testing.assert_array_equal(decoded, message)
    assert data.size <= 4 * (1 + len(lengths)) + sum(packed_size(length) for length in lengths)


def test_sparse_shards_send_places_and_dense_ones_bits():
    message = np.concatenate([ternary_vector(1, 0.001, 4096), ternary_vector(2, 0.5, 4096)])
    message[0] = 0.25
    decoded, data = through(message, [4096, 4096])
    np.testing.assert_array_equal(decoded, message)
    counts = data[4:12].view(np.uint32)
    assert counts[0] == np.count_nonzero(message[:4096]) and counts[1] == PACKED
    assert data.size == 12 + 4 * counts[0] + 1024


def test_a_message_that_is_not_ternary_is_refused():
    for share in (0.01, 0.5):
        message = ternary_vector(1, share)
        message[np.flatnonzero(message)[0]] = 0.1
        with pytest.raises(TrainingError, match="more than one size"):
            TernaryEncoder([1000]).encode(message)


class Ternary(Gathering):
    wire: ClassVar[str] = "ternary"


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_a_ternary_rule_over_the_wire(serve, connect, share):
    server = serve(Ternary(), center=np.zeros(40_000, np.float32), workers=1, shard=16_000)
    client = connect(server)
    message = ternary_vector(1, share, 40_000)
    np.testing.assert_array_equal(client.exchange(message), message)
    client.report({})  # the server has counted what it sent before
    before = server.status().bytes
    np.testing.assert_array_equal(client.exchange(message), 2 * message)  # answers travel as the run's wire says
    assert server.status().bytes - before < 40_000 * 4.26 + 500
    with pytest.raises(TrainingError, match="not finite"):
        client.exchange(np.where(message == 0, np.nan, message).astype(np.float32))


@pytest.mark.parametrize(
    ("head", "length", "said"),
    [
        ([0, 3], 4 * 3, "less than its head takes"),
        ([0] * 17, 68 + 1, "another length than it said"),
        ([0, 2**31] + [0] * 15, 2**40, "more than belong there"),
        ([0, 4] + [0] * 15, 68 + 16, "more than belong there"),
        ([0x7F800000] + [0] * 16, 68, "not finite"),
        ([0x3F800000, 1] + [0] * 15 + [2 * 64], 72, "for place 64 of a shard of 64"),
    ],
)
def test_ternary_messages_that_lie(serve, raw, head, length, said):
    channel = raw(serve(Ternary()))
    data = np.array(head, np.uint32).tobytes()
    channel.sock.sendall(channel.frame_header(Kind.EXCHANGE, 0, length, encoding=ternary.CODE) + data)
    header, content = channel.receive()
    assert header.kind is Kind.END and said in content["message"]
