"""Silent peers are dropped."""

import asyncio
import contextlib
import signal
import sys

import pytest
from websockets.exceptions import ConnectionClosed

from harness import HEARTBEAT_TIMEOUT, NO_SERVER, PING, PONG, TEXT, envelope, notice, text_of, until, within

SHORT = {"heartbeat_interval": "300ms", "heartbeat_timeout": "300ms"}


async def test_a_phone_that_never_answers_is_closed_and_its_binary_is_told(start):
    relay = await start(**SHORT)
    binary, sibling = await relay.pair()
    phone = await relay.raw_phone(binary)
    await phone.read_until(PING)
    assert await phone.closed() == HEARTBEAT_TIMEOUT
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id
    await relay.metric_becomes(1, "heartbeat_timeouts_total", endpoint="client")
    assert await relay.metric("heartbeat_timeouts_total", endpoint="server") == 0


async def test_a_binary_that_never_answers_is_closed_and_its_server_id_is_in_grace(start):
    relay = await start(**SHORT, grace="1h")
    binary = await relay.raw_binary()
    phone = await relay.any_phone()
    await relay.counts(phones=1)
    assert await binary.closed() == HEARTBEAT_TIMEOUT
    await relay.counts(binaries=0, phones=1)
    await relay.metric_becomes(1, "binaries_in_grace")
    await relay.metric_becomes(1, "heartbeat_timeouts_total", endpoint="server")
    assert phone.ws.state.name == "OPEN"


async def test_a_peer_that_answers_stays_and_is_pinged_again_and_again(start):
    relay = await start(**SHORT)
    binary = await relay.raw_binary()
    phone = await relay.any_phone()
    await relay.counts(phones=1)
    for _ in range(5):
        await binary.send(PONG, await binary.read_until(PING))
    await phone.send("1")
    assert b'"frame":1' in await binary.read_until(TEXT)


async def test_clients_of_a_library_stay(start):
    relay = await start(heartbeat_interval="100ms", heartbeat_timeout="2s")
    binary, phone = await relay.pair()
    silent = await relay.raw_binary("clock")
    assert await silent.closed() == HEARTBEAT_TIMEOUT
    await binary.send(envelope(phone.conn_id, "1"))
    assert await phone.frame() == b"1"


async def test_a_peer_that_sends_frames_and_answers_no_ping_is_alive(start):
    relay = await start(**SHORT)
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)

    async def talk():
        while True:
            # With less in ten timeouts, it would count as trickling.
            await phone.send(TEXT, text_of(4000).encode())
            await binary.frame()
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    for _ in range(12):
        await phone.read_until(PING)
    talking.cancel()
    assert await phone.closed() == HEARTBEAT_TIMEOUT


async def test_the_relay_answers_pings_with_their_payload(start):
    relay = await start()
    raw = await relay.raw_binary()
    for payload in (b"", b"payload", bytes(range(125))):
        await raw.send(PING, payload)
        assert await raw.read_until(PONG) == payload


STOPPED = """
import asyncio, sys
from harness import PHONE
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], additional_headers=PHONE, user_agent_header=None) as ws:
        await ws.send('"hello"')
        print("connected", flush=True)
        async for _ in ws:
            pass
asyncio.run(main())
"""


async def test_a_client_whose_machine_hangs_is_dropped_without_a_fin(start):
    relay = await start(heartbeat_interval="300ms", heartbeat_timeout="1s")
    binary = await relay.binary()
    uri = "ws://%s:%d/v1/client" % relay.address
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, uri, stdout=asyncio.subprocess.PIPE, cwd=sys.path[0]
    )
    try:
        assert await within(child.stdout.readline()) == b"connected\n"
        conn_id = (await binary.envelope())["conn_id"]
        child.send_signal(signal.SIGSTOP)
        assert await binary.frame() == notice(conn_id, 1001)
        await relay.counts(binaries=1, phones=0)
        await until(lambda: relay.descriptors() <= relay.descriptors_at_start + 1)
    finally:
        child.kill()
        await child.wait()


async def flood(phone):
    with contextlib.suppress(ConnectionClosed):
        while True:
            await phone.ws.send(text_of(50_000))


@pytest.mark.parametrize("buffered", [False, True])
async def test_a_client_that_stops_reading_is_dropped(start, buffered):
    relay = await start(**SHORT, grace="100ms")
    binary = await relay.raw_binary()
    phone = await relay.any_phone()
    await relay.counts(phones=1)
    sending = asyncio.create_task(flood(phone))
    if not buffered:
        sending.cancel()
    await relay.counts(binaries=0)
    assert (await phone.closed()) == (1000, "")
    sending.cancel()
    await relay.metric_becomes(0, "binaries_in_grace")
    assert await (await relay.any_phone()).closed() == NO_SERVER
    await binary.gone()
