"""Admission: the checks of an upgrade, and their order."""

import time

import pytest

from harness import BINARY, KEY, PHONE, TEXT, UPGRADE, Raw, frame_of, until

ENDPOINTS = [("/v1/server", BINARY), ("/v1/client", PHONE)]


@pytest.mark.parametrize(("path", "headers"), ENDPOINTS)
async def test_each_required_header_must_be_there_and_not_empty(start, path, headers):
    relay = await start()
    assert await relay.knock(path, headers) == 101
    for name in headers:
        without = {it: value for it, value in headers.items() if it != name}
        for bad in (without, headers | {name: ""}, headers | {name: "  "}):
            raw = await Raw.upgrade(relay, path, bad)
            assert raw.status == 400, bad
            assert name in (await raw.reader.read(1000)).decode()


@pytest.mark.parametrize(("path", "headers"), ENDPOINTS)
async def test_a_server_id_is_utf8_of_at_most_256_bytes(start, path, headers):
    relay = await start()
    for server_id, status in [
        (b"a" * 256, 101),
        ("é".encode() * 128, 101),
        (b"a" * 257, 400),
        ("é".encode() * 128 + b"a", 400),
        (b"\xff", 400),
        (b"a\xc3", 400),
    ]:
        assert await relay.knock(path, headers | {"X-Pyrycode-Server": server_id}) == status, server_id


async def test_a_server_id_may_contain_characters_that_json_must_escape(start):
    relay = await start()
    for server_id in ['quo"te', "back\\slash", "{}", "two words", "ünïcødé", '","frame":0,"x":"']:
        binary, phone = await relay.pair(server_id)
        assert phone.conn_id.startswith(f"client-{server_id}-")
        await binary.close()


async def test_a_token_is_never_inspected_and_a_device_name_is_allowed(start):
    relay = await start()
    binary = await relay.binary()
    for token in (b"t", b"\xff\xfe", b"a b", b"x" * 4000):
        headers = PHONE | {"X-Pyrycode-Token": token, "X-Pyrycode-Device-Name": "Jane's phone"}
        raw = await Raw.upgrade(relay, "/v1/client", headers)
        assert raw.status == 101
        await raw.send(1, b"1")
        assert (await binary.envelope())["frame"] == 1


async def ask(relay, path, headers, **options):
    """Sends exactly these headers, and returns the response."""
    raw = await Raw.dial(relay)
    await raw.request(path, headers, **options)
    raw.vanish()
    return raw


def lines(headers, name, *values):
    """The headers of an upgrade, with these lines for that name."""
    return [it for it in (UPGRADE | headers).items() if it[0] != name] + [(name, value) for value in values]


async def test_a_plain_request_is_told_to_upgrade_after_its_headers_were_checked(start):
    relay = await start()
    for path, headers in ENDPOINTS:
        answer = await ask(relay, path, {"Host": "relay"} | headers)
        assert answer.status == 426
        assert answer.headers["upgrade"] == "websocket"
        assert "upgrade" in answer.headers["connection"].lower()
        for name in headers:
            without = {it: value for it, value in headers.items() if it != name}
            assert (await ask(relay, path, {"Host": "relay"} | without)).status == 400
    assert (await relay.health())["connected_binaries"] == 0


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"])
async def test_only_get_is_allowed(start, method):
    relay = await start(rate_burst=1, rate_interval="1h")
    for path, headers in ENDPOINTS:
        for asked in ({"Host": "relay"}, UPGRADE, UPGRADE | headers):
            answer = await ask(relay, path, asked, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert await relay.knock(*ENDPOINTS[0]) == 101, "it has cost nothing"


@pytest.mark.parametrize("values", [["7"], ["8", "13"], ["13", "13"], ["8, 13"], ["13, 8"], ["+13"], [""], []])
async def test_another_version_is_told_the_supported_one(start, values):
    relay = await start()
    for path, headers in ENDPOINTS:
        answer = await ask(relay, path, lines(headers, "Sec-WebSocket-Version", *values))
        assert answer.status == 426
        assert answer.headers["sec-websocket-version"] == "13"
        assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Sec-WebSocket-Key", []),
        ("Sec-WebSocket-Key", [""]),
        ("Sec-WebSocket-Key", ["c2hvcnQ="]),
        ("Sec-WebSocket-Key", ["dGhlIHNhbXBsZSBub25jZQ"]),
        ("Sec-WebSocket-Key", ["dGhlIHNhbXBsZSBub25jZSE="]),
        ("Sec-WebSocket-Key", ["?" * 24]),
        ("Sec-WebSocket-Key", [KEY, KEY]),
        ("Host", []),
        ("Host", [""]),
        ("Host", ["relay", "relay"]),
        ("Host", ["a b@/"]),
        ("Host", ["user@host"]),
        ("Content-Length", ["5"]),
        ("Transfer-Encoding", ["chunked"]),
        ("X-Pyrycode-Server", ["a", "a"]),
        ("X-Pyrycode-Server", ["a", "b"]),
    ],
)
async def test_an_invalid_upgrade_is_a_bad_request(start, name, values):
    relay = await start()
    for path, headers in ENDPOINTS:
        assert (await ask(relay, path, lines(headers, name, *values))).status == 400
    health = await relay.health()
    assert (health["connected_binaries"], health["connected_phones"]) == (0, 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Connection", ["keep-alive", "Upgrade"]),
        ("Connection", ["Upgrade", "keep-alive"]),
        ("Connection", ["keep-alive, upgrade"]),
        ("Connection", ["keep-alive,\tUPGRADE\t"]),
        ("Upgrade", ["websocket", "websocket"]),
        ("Upgrade", ["websocket", "h2c"]),
        ("Upgrade", ["websocket, h2c"]),
        ("Upgrade", ["websocket, websocket"]),
        ("Upgrade", ["h2c,\tWebSocket"]),
        ("Upgrade", ["\twebsocket\t"]),
        ("Sec-WebSocket-Version", ["\t13 "]),
        ("Host", ["relay:8080"]),
        ("Host", ["[::1]:8080"]),
        ("Content-Length", ["0"]),
    ],
)
async def test_a_valid_upgrade_may_be_written_in_many_ways(start, name, values):
    relay = await start()
    for path, headers in ENDPOINTS:
        raw = await ask(relay, path, lines(headers, name, *values))
        assert raw.status == 101
        assert raw.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def test_websocket_needs_http_1_1(start):
    relay = await start()
    for path, headers in ENDPOINTS:
        answer = await ask(relay, path, UPGRADE | headers, version="HTTP/1.0")
        assert answer.status == 426
        assert "sec-websocket-version" not in answer.headers


async def test_http_2_is_dropped_at_once(start):
    relay = await start(header_timeout="1h")
    raw = await Raw.dial(relay)
    raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    try:
        # HTTP/2 frames would begin with a length.
        assert (await raw.rest())[:4] in (b"", b"HTTP")
    except ConnectionResetError:
        pass
    raw.vanish()


async def test_a_request_that_is_not_an_upgrade_does_not_count_against_the_rate_limit(start):
    relay = await start(rate_burst=None, rate_interval="1h")
    for number in range(100):
        path, headers = ENDPOINTS[number % 2]
        plain = {"Host": "relay"} | (headers if number % 4 < 2 else {})
        assert (await ask(relay, path, plain)).status == (426 if number % 4 < 2 else 400)
    assert [await relay.knock("/v1/client", PHONE) for _ in range(21)] == [101] * 20 + [429]


@pytest.mark.parametrize(("name", "status"), [("Sec-WebSocket-Key", 400), ("Sec-WebSocket-Version", 426), ("Host", 400)])
async def test_an_invalid_upgrade_counts_against_the_rate_limit_like_a_valid_one(start, name, status):
    relay = await start(rate_burst=2, rate_interval="1h")
    path, headers = ENDPOINTS[1]
    statuses = [(await ask(relay, path, lines(headers, name, "bad @"))).status for _ in range(3)]
    assert statuses == [status, status, 429]
    assert await relay.knock(path, headers) == 429


@pytest.mark.parametrize(
    ("proxies", "second"),
    [
        ("127.0.0.0/8", 101),
        ("::ffff:127.0.0.0/104", 101),
        ("::ffff:127.0.0.1", 101),
        ("::ffff:10.0.0.0/104, 10.0.0.0/8", 429),
    ],
)
async def test_a_trusted_network_may_be_written_as_ipv6_that_maps_ipv4(start, proxies, second):
    relay = await start(rate_burst=1, rate_interval="1h", trusted_proxies=proxies)
    for address, status in (("192.0.2.1", 101), ("192.0.2.2", second), ("192.0.2.1", 429)):
        assert await relay.knock("/v1/client", PHONE | {"X-Forwarded-For": address}) == status


async def test_an_address_gets_a_burst_for_both_endpoints_and_then_429(start):
    relay = await start(rate_burst=3, rate_interval="1h")
    statuses = [await relay.knock(*ENDPOINTS[number % 2]) for number in range(5)]
    assert statuses == [101, 101, 101, 429, 429]
    refused = await Raw.upgrade(relay, "/v1/client", PHONE)
    assert 3590 <= int(refused.headers["retry-after"]) <= 3600
    for _ in range(30):
        await relay.health()
    assert await relay.knock(*ENDPOINTS[0], source="127.0.0.2") == 101
    assert await relay.knock(*ENDPOINTS[0]) == 429


async def test_the_burst_is_20_by_default(start):
    relay = await start(rate_burst=None)
    statuses = [await relay.knock("/v1/client", PHONE) for _ in range(20)]
    assert statuses == [101] * 20
    assert 429 in [await relay.knock("/v1/client", PHONE) for _ in range(5)]


async def test_an_address_gets_one_more_each_interval(start):
    relay = await start(rate_burst=1, rate_interval="2s")
    began = time.monotonic()
    assert await relay.knock("/v1/client", PHONE) == 101
    refused = 0

    async def let_in():
        nonlocal refused
        status = await relay.knock("/v1/client", PHONE)
        refused += status == 429
        return status == 101

    await until(let_in)
    assert refused > 0
    assert time.monotonic() - began >= 2
    assert await relay.knock("/v1/client", PHONE) == 429


async def test_the_rate_comes_before_the_cap_and_the_cap_before_the_headers(start):
    relay = await start(rate_burst=3, rate_interval="1h", max_connections=1)
    await relay.raw_binary()
    assert await relay.knock("/v1/client", PHONE) == 503
    assert await relay.knock("/v1/client", {}) == 503
    assert await relay.knock("/v1/client", {}) == 429
    await relay.health()


async def test_a_refusal_for_headers_counts_against_the_rate_limit(start):
    relay = await start(rate_burst=2, rate_interval="1h")
    statuses = [await relay.knock("/v1/server", headers) for headers in ({}, {}, BINARY)]
    assert statuses == [400, 400, 429]


async def test_above_the_cap_nobody_is_admitted_until_somebody_leaves(start):
    relay = await start(max_connections=3)
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    for endpoint in ENDPOINTS * 2:
        assert await relay.knock(*endpoint) == 503
    await phone.send("1")
    await binary.frame()
    await sibling.close()
    await binary.frame()

    async def let_in():
        return await relay.knock("/v1/client", PHONE) == 101

    await until(let_in)
    await phone.send("2")
    while (await binary.envelope()).get("frame") != 2:
        pass


async def test_only_a_trusted_proxy_may_name_the_client(start):
    settings = {"rate_burst": 1, "rate_interval": "1h"}
    direct = await start(**settings)
    proxied = await start(**settings, trusted_proxies="127.0.0.1")
    for relay, second in ((direct, 429), (proxied, 101)):
        for address, status in (("192.0.2.1", 101), ("192.0.2.2", second), ("192.0.2.1", 429)):
            assert await relay.knock("/v1/client", PHONE | {"X-Forwarded-For": address}) == status


async def test_frames_sent_together_with_the_upgrade_are_not_lost(start):
    relay = await start()
    binary = await relay.binary()
    phone = await Raw.dial(relay)
    relay.clients.append(phone)
    phone.early = frame_of(TEXT, b"1") + frame_of(TEXT, b"2")
    await phone.ask_for_upgrade("/v1/client", PHONE)
    assert phone.status == 101
    assert [(await binary.envelope())["frame"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("wrong", [{"Upgrade": "h2c"}, {"Connection": "close"}, {"Connection": "keep-alive"}])
async def test_an_upgrade_to_another_protocol_is_told_to_use_websocket(start, wrong):
    relay = await start(rate_burst=1, rate_interval="1h")
    for path, headers in ENDPOINTS:
        answer = await ask(relay, path, UPGRADE | headers | wrong)
        assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert await relay.knock(*ENDPOINTS[0]) == 101, "it has cost nothing"


async def test_only_pages_of_allowed_origins_may_connect(start):
    relay = await start(allowed_origins="https://app.example, http://localhost:3000")
    for origin, status in [
        (None, 101),
        ("https://app.example", 101),
        ("HTTPS://APP.example", 101),
        ("http://localhost:3000", 101),
        ("https://evil.example", 403),
        ("https://app.example.evil.example", 403),
        ("http://app.example", 403),
        ("https://app.example:8443", 403),
        ("http://localhost", 403),
        ("null", 403),
        ("", 403),
    ]:
        headers = PHONE if origin is None else PHONE | {"Origin": origin}
        assert await relay.knock("/v1/client", headers) == status, origin
    raw = await Raw.dial(relay)
    twice = [("Origin", "https://app.example"), ("Origin", "https://evil.example")]
    await raw.request("/v1/client", [*UPGRADE.items(), *PHONE.items(), *twice])
    assert raw.status == 403
    await relay.metric_becomes(8, "upgrades_total", outcome="forbidden")
    phone = await relay.connect("/v1/client", PHONE, origin="https://app.example")
    assert await phone.closed() == (4404, "no server with that id")


async def test_without_allowed_origins_all_pages_may_connect(start):
    relay = await start()
    assert await relay.knock("/v1/client", PHONE | {"Origin": "https://any.example"}) == 101
