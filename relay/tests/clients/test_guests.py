"""What a client without any right can make the relay hold or do."""

import asyncio

import pytest

from harness import BINARY, HEARTBEAT_TIMEOUT, NOTHING_SAID, PHONE, PING, PONG, TEXT, TOO_MANY_PHONES, Raw, until


async def unheard(relay, reason):
    return await relay.metric("requests_unheard_total", reason=reason)


async def line_with(relay, words):
    """The first line of the log with these words, once it is complete."""
    lines = await until(lambda: [it for it in relay.log().rpartition("\n")[0].splitlines() if words in it])
    return lines[0]


async def one_is_refused(raws):
    """The answer to one of these connections, and then drops all. Those accepted first need not be served first."""
    answers = [asyncio.ensure_future(raw.rest()) for raw in raws]
    done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    for answer in waiting:
        answer.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for raw in raws:
        raw.vanish()
    return done.pop().result()


async def test_headers_that_never_end_are_answered_at_16_kib(start):
    relay = await start(log="debug")
    raw = await Raw.dial(relay)
    raw.write(b"GET /v1/client HTTP/1.1\r\nHost: relay\r\n")
    for number in range(16):
        raw.write(b"X-Header-%d: %s\r\n" % (number, b"x" * 1024))
    answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 431 ")
    raw.vanish()
    assert await unheard(relay, "headers_too_large") == 1
    assert "address=127.0.0.1" in await line_with(relay, "headers too large")


async def test_connections_before_their_upgrade_are_capped_for_each_address(start):
    relay = await start(max_per_address=4, header_timeout="1h", log="debug")
    silent = [await Raw.dial(relay, source="127.0.0.2") for _ in range(5)]
    # Another address has its own.
    assert await relay.knock("/v1/server", BINARY, source="127.0.0.3") == 101
    assert (await one_is_refused(silent)).startswith(b"HTTP/1.1 429 ")
    assert await unheard(relay, "too_many_from_address") == 1
    assert "address=127.0.0.2" in await line_with(relay, "from this address")


async def test_connections_before_their_upgrade_are_capped_in_all(start):
    relay = await start(max_connections=1, header_timeout="1h")
    silent = [await Raw.dial(relay) for _ in range(257)]
    assert (await one_is_refused(silent)).startswith(b"HTTP/1.1 503 ")
    assert await unheard(relay, "too_many") >= 1

    async def is_served():
        raw = await Raw.dial(relay)
        raw.write(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
        answer = await raw.reader.read(100)
        raw.vanish()
        return answer.startswith(b"HTTP/1.1 200 ")

    await until(is_served)


@pytest.mark.parametrize("proxy", [None, "127.0.0.9"])
async def test_upgraded_connections_are_capped_for_each_address(start, proxy):
    relay = await start(max_per_address=3, trusted_proxies=proxy)
    through = {"source": proxy} if proxy else {}

    def client(number):
        return {"X-Forwarded-For": f"198.51.100.{number}"} if proxy else {}

    connections = [
        await Raw.upgrade(relay, "/v1/server", BINARY | client(1) | {"X-Pyrycode-Server": str(number)}, **through)
        for number in range(3)
    ]
    assert [raw.status for raw in connections] == [101] * 3
    assert await relay.knock("/v1/client", PHONE | client(1), **through) == 429
    await relay.metric_becomes(1, "upgrades_total", endpoint="client", outcome="address_over_capacity")
    if proxy:
        assert await relay.knock("/v1/server", BINARY | client(2), **through) == 101


async def test_a_binary_comes_back_to_the_place_that_its_grace_holds(start):
    relay = await start(max_connections=1, grace="1h")
    stranger = {"X-Pyrycode-Server": "b"}
    for number in range(3):

        async def is_back():
            return await relay.knock("/v1/server", BINARY) == 101

        await until(is_back)
        await relay.metric_becomes(1, "binaries_in_grace")
        assert await relay.knock("/v1/server", BINARY | stranger) == 503
        assert await relay.knock("/v1/client", PHONE) == 503
        assert await relay.metric("reclaims_total") == number
    assert await relay.metric("connections") == 1


async def page(relay):
    return await until(lambda: relay.address_in_log("serving metrics"))


async def test_the_page_serves_32_readers(start):
    relay = await start(write_timeout="1h")
    address = await page(relay)
    readers = [await Raw.dial(relay, address) for _ in range(32)]
    for reader in readers:
        await reader.request("/events", {"Host": "localhost"})
        assert reader.status == 200
    refused = await Raw.dial(relay, address)
    assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")
    for raw in [*readers, refused]:
        raw.vanish()

    async def refusals():
        try:
            return await relay.metric("page_refusals_total", reason="too_many")
        except (ConnectionError, AssertionError):
            # The places of the readers are not free yet.
            return 0

    assert await until(refusals) >= 1


@pytest.mark.parametrize("path", ["/", "/events", "/metrics", "/healthz"])
async def test_the_page_is_served_under_its_own_names_only(start, path):
    relay = await start(metrics_host="relay.example", log="debug")
    address = await page(relay)
    for host, status in [
        ("localhost:9090", 200),
        ("127.0.0.1", 200),
        ("[::1]:9090", 200),
        ("relay.example:9090", 200),
        ("rebound.example:9090", 421),
    ]:
        raw = await Raw.dial(relay, address)
        await raw.request(path, {"Host": host})
        raw.vanish()
        assert raw.status == status, host
    assert await relay.metric("page_refusals_total", reason="wrong_host") >= 1
    assert "address=127.0.0.1" in await line_with(relay, "rebound.example")


async def test_a_phone_that_says_nothing_is_closed_and_one_that_spoke_stays(start):
    relay = await start(first_frame_timeout="1s")
    binary = await relay.binary()
    talks = await relay.phone(binary)
    silent = await relay.any_phone()
    assert await silent.closed() == NOTHING_SAID
    assert (await binary.envelope())["close_code"] == 1001
    assert await relay.metric("refusals_total", kind="nothing_said") == 1
    await talks.send("1")
    assert (await binary.envelope())["frame"] == 1


async def test_silent_phones_of_a_full_server_id_make_room(start):
    relay = await start(max_phones=3, probe_timeout="300ms")
    binary = await relay.binary()
    alive = await relay.phone(binary)
    ghosts = [await relay.raw_phone(binary) for _ in range(2)]
    newcomers = [await relay.any_phone() for _ in range(2)]
    for newcomer in newcomers:
        # Held meanwhile.
        await newcomer.send('"new"')
    for ghost in ghosts:
        assert await ghost.closed() == HEARTBEAT_TIMEOUT
    seen = [await binary.envelope() for _ in range(4)]
    assert {it["conn_id"] for it in seen if "close_code" in it} == {ghost.conn_id for ghost in ghosts}
    assert [it["frame"] for it in seen if "frame" in it] == ["new", "new"]
    await alive.send("1")
    assert (await binary.envelope())["frame"] == 1
    assert await relay.metric("probes_total", outcome="silent") == 2
    assert await relay.metric("refusals_total", kind="too_many_phones") == 0


async def test_a_server_id_whose_phones_answer_has_no_room_and_eight_wait_for_the_answers(start):
    relay = await start(max_phones=2, probe_timeout="1h")
    binary = await relay.binary()
    await relay.phone(binary)
    slow = await relay.raw_phone(binary)
    newcomers = [await relay.any_phone() for _ in range(8)]
    payload = await slow.read_until(PING)
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    await slow.send(PONG, payload)
    for newcomer in newcomers:
        assert await newcomer.closed() == TOO_MANY_PHONES
    await relay.metric_becomes(9, "refusals_total", kind="too_many_phones")
    await slow.send(TEXT, b"1")
    assert (await binary.envelope())["frame"] == 1
