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


async def ready(relay, address=None):
    status, _, body = await relay.get("/readyz", address=address)
    return status, body


async def test_a_drain_closes_server_ids_one_after_the_other_and_admits_nobody(start):
    relay = await start(drain="2s", grace="1h")
    metrics = relay.address_in_log("serving metrics")
    assert await ready(relay) == await ready(relay, metrics) == (200, b'{"status":"ok"}')
    pairs = [await relay.pair(str(number)) for number in range(40)]
    (gone, orphan) = await relay.pair("gone")
    gone.vanish()
    await relay.counts(binaries=40, phones=41)

    ends = {}

    async def end(number, client):
        assert await client.closed() == SHUTTING_DOWN
        ends.setdefault(number, []).append(asyncio.get_running_loop().time())

    began = asyncio.get_running_loop().time()
    relay.signal(signal.SIGTERM)
    waiting = [end(number, client) for number, pair in enumerate(pairs) for client in pair]
    waiting = asyncio.gather(*waiting, end("orphan", orphan))
    await until(lambda: "draining" in relay.log())
    assert await ready(relay) == await ready(relay, metrics) == (503, b'{"status":"draining"}')
    assert (await relay.get("/healthz"))[0] == 200
    assert await relay.knock("/v1/server", BINARY | {"X-Pyrycode-Server": "late"}) == 503
    await relay.metric_becomes(1, "upgrades_total", outcome="draining")
    await within(waiting)
    assert await relay.exit_code() == 0

    # A binary and its phones come back together.
    assert all(max(times) - min(times) < 0.3 for times in ends.values())
    times = sorted(min(times) - began for times in ends.values())
    # Of 41 random times within 2 s, these are all but impossible: none in a whole second, or more than 25.
    for second in (0, 1):
        assert 0 < len([time for time in times if second <= time < second + 1]) <= 35
    assert "by_relay=81 by_peer=0 by_network=0 dropped=0" in relay.log()


async def test_a_second_signal_ends_the_drain_and_a_third_one_the_wait(start):
    relay = await start(drain="1h", shutdown_timeout="1h")
    binary, phone = await relay.pair()
    deaf = await relay.raw_binary("deaf", room=4096)
    relay.signal(signal.SIGTERM)
    await until(lambda: "draining" in relay.log())
    relay.signal(signal.SIGTERM)
    assert await binary.closed() == SHUTTING_DOWN
    assert await phone.closed() == SHUTTING_DOWN
    # It never answers the close frame.
    assert await deaf.closed() == SHUTTING_DOWN
    relay.signal(signal.SIGINT)
    assert await relay.exit_code() == 0
    last = relay.log().rstrip().splitlines()[-1]
    assert "by_relay=3 by_peer=0 by_network=0 dropped=1" in last
