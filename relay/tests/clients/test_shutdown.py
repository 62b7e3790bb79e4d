"""Shutdown: orderly, and in bounded time."""

import asyncio
import signal

import pytest
from websockets.exceptions import ConnectionClosed

from harness import BINARY, SHUTTING_DOWN, UPGRADE, Raw, envelope, until, within


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_everybody_and_the_exit_code_is_0(start, number):
    relay = await start()
    binary, phone = await relay.pair("a")
    gone, orphan = await relay.pair("b")
    gone.vanish()
    await relay.counts(binaries=1, phones=2)
    relay.signal(number)
    for client in (binary, phone, orphan):
        assert await client.closed() == SHUTTING_DOWN
    assert await relay.exit_code() == 0
    with pytest.raises(ConnectionError):
        await Raw.dial(relay)


async def test_a_shutdown_under_load_closes_everybody(start):
    relay = await start()
    binaries = [await relay.binary(str(number)) for number in range(4)]
    phones = [await relay.phone(binary, str(number)) for number, binary in enumerate(binaries) for _ in range(4)]

    async def talk(client, message):
        try:
            while True:
                await client.ws.send(message)
                await asyncio.sleep(0)
        except Exception:
            pass

    received = 0

    async def listen(client):
        nonlocal received
        try:
            while await client.frame():
                received += 1
        except ConnectionClosed:
            return await client.closed()

    load = [talk(phone, '"from the phone"') for phone in phones]
    load += [talk(binaries[number // 4], envelope(phone.conn_id, "1")) for number, phone in enumerate(phones)]
    load = [asyncio.create_task(it) for it in load]
    ends = [asyncio.create_task(listen(client)) for client in binaries + phones]
    await until(lambda: received > 1000)
    relay.signal(signal.SIGTERM)
    assert await within(asyncio.gather(*ends)) == [SHUTTING_DOWN] * len(ends)
    assert await relay.exit_code() == 0
    await within(asyncio.gather(*load))


async def test_a_shutdown_does_not_wait_for_clients_that_do_not_answer(start):
    relay = await start(shutdown_timeout="500ms")
    binary = await relay.raw_binary()
    await Raw.upgrade(relay, "/v1/client", {"X-Pyrycode-Server": "a", "X-Pyrycode-Token": "t", "User-Agent": "u"})
    await relay.counts(phones=1)
    relay.signal(signal.SIGTERM)
    assert await binary.closed() == SHUTTING_DOWN
    assert await relay.exit_code() == 0


UNFINISHED = {
    "nothing": b"",
    "half a header": b"GET /v1/server HTTP/1.1\r\nHost",
    "half an upgrade": "\r\n".join(["GET /v1/server HTTP/1.1", *map(": ".join, UPGRADE.items())]).encode(),
    "half a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nS",
    "a body that does not come": b"POST /healthz HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("listener", ["relay", "metrics"])
@pytest.mark.parametrize("sent", UNFINISHED)
async def test_a_shutdown_does_not_wait_for_requests_that_never_come(start, listener, sent):
    relay = await start(header_timeout="1h", shutdown_timeout="1h")
    address = None if listener == "relay" else relay.address_in_log("serving metrics")
    raws = [await Raw.dial(relay, address) for _ in range(3)]
    for raw in raws:
        raw.write(UNFINISHED[sent])
    # By then the relay has read the bytes.
    await relay.health()
    await relay.metrics()
    relay.signal(signal.SIGTERM)
    assert await relay.exit_code(limit=3) == 0
    for raw in raws:
        raw.vanish()


async def test_during_a_shutdown_nobody_is_admitted(start):
    relay = await start(shutdown_timeout="2s")
    silent = await relay.raw_binary()
    relay.signal(signal.SIGTERM)
    assert await silent.closed() == SHUTTING_DOWN

    async def refused():
        try:
            raw = await Raw.dial(relay)
        except ConnectionError:
            return True
        raw.vanish()

    await until(refused)
    assert await relay.exit_code() == 0


async def test_a_client_admitted_as_the_shutdown_begins_is_told_too(start):
    relay = await start()
    knocking = True
    told = []

    async def knock(number):
        while knocking:
            try:
                raw = await Raw.upgrade(relay, "/v1/server", BINARY | {"X-Pyrycode-Server": str(number)})
            except (OSError, EOFError):
                return
            if raw.status == 101:
                told.append(await raw.closed())
            raw.vanish()

    knockers = [asyncio.create_task(knock(number)) for number in range(50)]
    await relay.counts(binaries=50)
    relay.signal(signal.SIGTERM)
    assert await relay.exit_code() == 0
    knocking = False
    await within(asyncio.gather(*knockers))
    assert told == [SHUTTING_DOWN] * len(told)
    assert len(told) >= 50


async def test_a_shutdown_does_not_wait_for_a_page_that_is_open(start):
    relay = await start(shutdown_timeout="1h")
    page = await Raw.dial(relay, await until(lambda: relay.address_in_log("serving metrics")))
    await page.request("/events", {"Host": "localhost"})
    assert page.status == 200
    relay.signal(signal.SIGTERM)
    assert await relay.exit_code(limit=3) == 0
    page.vanish()
