"""The protocols of service managers: passed sockets, notifications, a watchdog."""

import signal
import socket

import pytest

from harness import Relay, until


@pytest.fixture
def notifications(tmp_path):
    """A socket like that of a service manager, and what has arrived at it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    path = tmp_path / "notify"
    sock.bind(str(path))

    def arrived():
        messages = []
        while True:
            try:
                messages += sock.recv(4096).decode().split()
            except BlockingIOError:
                return messages

    yield path, arrived
    sock.close()


async def test_the_service_manager_is_told_when_the_relay_listens_lives_and_stops(start, notifications):
    path, arrived = notifications
    relay = await start(env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"})
    seen = []

    def have(word, times=1):
        seen.extend(arrived())
        return seen.count(word) >= times

    await until(lambda: have("READY=1"))
    await until(lambda: have("WATCHDOG=1", 3))
    assert "STOPPING=1" not in seen
    # It does not answer the close frame, so the shutdown takes longer than the watchdog's limit.
    await relay.raw_binary()
    relay.signal(signal.SIGTERM)
    await until(lambda: have("STOPPING=1"))
    so_far = seen.count("WATCHDOG=1")
    await until(lambda: have("WATCHDOG=1", so_far + 3))
    assert await relay.exit_code() == 0


async def test_connections_wait_in_a_passed_socket_while_the_relay_restarts(start):
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    first = await start(socket=listener)
    assert first.address == address
    await first.pair()
    first.signal(signal.SIGTERM)
    assert await first.exit_code() == 0
    # Nobody serves it, and nobody is refused.
    waiting = socket.create_connection(address)
    waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: relay\r\n\r\n")
    second = await start(socket=listener)
    waiting.settimeout(20)
    assert waiting.recv(100).startswith(b"HTTP/1.1 200")
    waiting.close()
    await second.pair()


async def test_what_is_no_socket_is_refused_in_one_line(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        relay = Relay(tmp_path, socket=file)
        assert await relay.exit_code() == 1
    assert relay.log().startswith("error: cannot use the socket of the service manager")
    assert len(relay.log().splitlines()) == 1
