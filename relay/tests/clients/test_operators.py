"""The operator's view: health, metrics, logs."""

import re

from harness import BINARY, PHONE, Raw, envelope, notice

SERIES = [
    ("connected_binaries", {}),
    ("connected_phones", {}),
    ("binaries_in_grace", {}),
    ("connections", {}),
    ("phones_waiting", {}),
    ("grace_expiries_total", {}),
    ("reclaims_total", {}),
    ("takeovers_total", {}),
    ("outbox_overflows_total", {}),
]
for direction in ("to_binary", "to_phone"):
    SERIES += [(f"{what}_forwarded_total", {"direction": direction}) for what in ("frames", "bytes")]
for endpoint in ("server", "client"):
    SERIES += [("heartbeat_timeouts_total", {"endpoint": endpoint})]
    for outcome in ("accepted", "rate_limited", "over_capacity", "bad_request", "failed"):
        SERIES += [("upgrades_total", {"endpoint": endpoint, "outcome": outcome})]
SERIES += [("phone_waits_total", {"outcome": it}) for it in ("joined", "timed_out", "left")]
SERIES += [("refusals_total", {"kind": kind}) for kind in ("server_id_claimed", "no_server", "too_many_phones")]
SERIES += [("envelopes_dropped_total", {"reason": it}) for it in ("malformed", "unknown_phone", "push_wake")]


async def test_health_has_a_fixed_order(start):
    relay = await start()
    await relay.pair("a")
    gone, _ = await relay.pair("b")
    gone.vanish()
    await relay.counts(binaries=1)
    status, headers, body = await relay.get("/healthz")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    version = r"\d+\.\d+\.\d+[^\"]*"
    pattern = rf'{{"status":"ok","version":"{version}","connected_binaries":1,"connected_phones":2,"uptime_seconds":\d+}}'
    assert re.fullmatch(pattern, body.decode())


async def test_health_without_details_says_nothing_but_ok(start):
    # The harness reads the details on the other listener.
    relay = await start(healthz_details="off")
    await relay.pair()
    status, headers, body = await relay.get("/healthz")
    assert (status, body) == (200, b'{"status":"ok"}')
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"


async def test_every_series_is_there_from_the_start_and_zero(start):
    relay = await start()
    for name, labels in SERIES:
        assert await relay.metric(name, **labels) == 0, (name, labels)
    for name, family in (await relay.metrics()).items():
        if not name.startswith("process_"):
            assert name.startswith("switchboard_"), name
            is_count = not name.endswith("_info") and name != "switchboard_max_connections"
            assert not is_count or set(family.values()) == {0}, name


async def test_the_metrics_of_the_process_agree_with_the_system(start):
    relay = await start()
    [memory] = (await relay.metrics())["process_resident_memory_bytes"].values()
    assert 0.5 < memory / 2**20 / relay.memory() < 2
    [files] = (await relay.metrics())["process_open_fds"].values()
    assert abs(files - relay.descriptors()) < 10


async def test_the_metrics_agree_with_health_and_with_what_the_clients_counted(start):
    relay = await start()
    binaries = [await relay.binary(server_id) for server_id in "ab"]
    phones = [await relay.phone(binary, server_id) for binary, server_id in zip(binaries, "ab") for _ in range(3)]
    # Each phone has sent "hello".
    up, down = 6, 0
    for number in range(120):
        phone = phones[number % 6]
        await phone.send(str(number))
        await binaries[number % 6 // 3].send(envelope(phone.conn_id, f'"{number}"'))
        up, down = up + 1, down + 1
    for binary in binaries:
        for _ in range((up - 6) // 2):
            await binary.envelope()
    for number in range(120):
        await phones[number % 6].frame()
    assert await relay.metric("frames_forwarded_total", direction="to_binary") == up
    assert await relay.metric("frames_forwarded_total", direction="to_phone") == down
    payload = sum(len(str(number)) for number in range(120))
    assert await relay.metric("bytes_forwarded_total", direction="to_phone") >= payload + 2 * 120
    assert await relay.metric("bytes_forwarded_total", direction="to_binary") >= payload + 6 * len('"hello"')
    health = await relay.health()
    assert await relay.metric("connected_binaries") == health["connected_binaries"] == 2
    assert await relay.metric("connected_phones") == health["connected_phones"] == 6
    assert await relay.metric("connections") == 8

    await phones[0].close()
    assert await binaries[0].frame() == notice(phones[0].conn_id, 1000)
    await relay.metric_becomes(5, "connected_phones")
    await relay.metric_becomes(7, "connections")
    binaries[1].vanish()
    await relay.metric_becomes(1, "binaries_in_grace")
    await relay.metric_becomes(1, "connected_binaries")


async def test_upgrades_are_counted_by_endpoint_and_outcome(start):
    relay = await start(rate_burst=6, rate_interval="1h", max_connections=2, grace="0s")
    first = await relay.raw_binary("a")
    second = await Raw.upgrade(relay, "/v1/client", PHONE)
    assert await relay.knock("/v1/server", BINARY) == 503
    first.vanish()
    second.vanish()
    await relay.metric_becomes(0, "connections")
    assert await relay.knock("/v1/client", {}) == 400
    assert await relay.knock("/v1/client", {}) == 400
    assert await relay.knock("/v1/server", {}) == 400
    assert await relay.knock("/v1/server", {}) == 429
    for endpoint, outcome, count in [
        ("server", "accepted", 1),
        ("client", "accepted", 1),
        ("server", "over_capacity", 1),
        ("client", "bad_request", 2),
        ("server", "bad_request", 1),
        ("server", "rate_limited", 1),
    ]:
        assert await relay.metric("upgrades_total", endpoint=endpoint, outcome=outcome) == count
    assert await relay.metric("upgrades_total") == 7


async def test_the_metrics_are_on_a_listener_of_their_own(start):
    relay = await start()
    assert (await relay.get("/metrics"))[0] == 404
    status, headers, body = await relay.get("/metrics", address=relay.address_in_log("serving metrics"))
    assert status == 200
    assert headers["content-type"].split(";")[0] in ("text/plain", "application/openmetrics-text")
    assert b"# TYPE switchboard_connected_binaries gauge" in body


async def test_metrics_can_be_disabled(start):
    relay = await start(metrics_listen="off")
    await relay.pair()
    assert "serving metrics" not in relay.log()


async def test_no_token_and_no_frame_is_ever_logged(start):
    relay = await start(log="trace", probe_timeout="200ms", heartbeat_interval="200ms")
    headers = PHONE | {"X-Pyrycode-Token": "SECRET-token", "X-Pyrycode-Device-Name": "a device"}
    binary = await relay.binary()
    phone = await relay.connect("/v1/client", headers)
    await phone.send('"SECRET-up"')
    conn_id = (await binary.envelope())["conn_id"]
    await binary.send(envelope(conn_id, '"SECRET-down"'))
    assert await phone.frame() == b'"SECRET-down"'
    await binary.send('{"conn_id":"SECRET-unknown","frame":"SECRET-stray"}')
    await binary.send('{"frame":"SECRET-malformed"')
    await binary.send('{"conn_id":["SECRET-type"],"frame":"SECRET-type"}')
    await binary.send('{"push_wake":"SECRET-wake"}')
    await phone.send("SECRET-not-json")
    assert await phone.closed() == (1000, "")
    assert await binary.frame() == notice(conn_id, 1001)
    refused = await relay.connect("/v1/client", headers | {"X-Pyrycode-Server": "nobody"})
    await refused.closed()
    large = await relay.connect("/v1/client", headers)
    await large.send('"SECRET' + "x" * (1 << 18) + '"')
    assert (await large.closed())[0] == 1009
    assert await binary.envelope()
    leaving = await relay.connect("/v1/client", headers)
    await relay.counts(phones=1)
    await leaving.close(4000, "a reason")
    assert (await binary.envelope())["close_code"] == 4000
    assert await relay.knock("/v1/client", {"X-Pyrycode-Token": "SECRET-token", "User-Agent": "u"}) == 400
    await relay.ends_well()
    assert "server-a-" in relay.log()
    assert "secret" not in relay.log().lower()
