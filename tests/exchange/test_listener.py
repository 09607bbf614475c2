import socket

import pytest

from dkeras_core.errors import ConfigError, ExchangeError


@pytest.fixture
def taken():
    """Two neighbouring ports: (a taken one, a free one after it)."""
    for _ in range(50):
        holder = socket.create_server(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
        except OSError:
            holder.close()
            continue
        yield port, port + 1
        holder.close()
        return


def test_a_range_gives_its_first_free_port(serve, taken):
    server = serve(port=taken)
    assert server.address == ("127.0.0.1", taken[1])


def test_a_range_that_is_taken_is_named(serve, taken):
    serve(port=taken[1])
    with pytest.raises(ExchangeError, match=f"127.0.0.1:{taken[0]} to {taken[1]}: no port is free") as caught:
        serve(port=taken)
    assert "wider range" in caught.value.next_step


def test_a_port_that_is_taken_is_named(serve, taken):
    with pytest.raises(ExchangeError, match=f"cannot bind 127.0.0.1:{taken[0]}"):
        serve(port=taken[0])


def test_a_host_that_is_not_of_this_machine(serve):
    with pytest.raises(ExchangeError, match=r"192.0.2.1"):
        serve(host="192.0.2.1")
    with pytest.raises(ExchangeError, match="no-such-host"):
        serve(host="no-such-host.invalid")


@pytest.mark.parametrize("port", [-1, 65536, (0, 10), (10, 5), (1, 70000)])
def test_ports_that_are_none(serve, port):
    with pytest.raises(ConfigError, match="port must be"):
        serve(port=port)


def test_bind_and_advertise_are_separate(serve, connect):
    server = serve(host="0.0.0.0", advertise="localhost")
    assert server.address[0] == "localhost"
    connect(server).center()


def test_the_port_is_free_again_after_stop_even_with_workers_in_it(serve, connect):
    server = serve()
    clients = [connect(server, worker) for worker in range(2)]
    _, port = server.address
    for client in clients:
        client.close()
    server.stop()
    again = serve(port=port)
    connect(again).center()
