"""What the log says, and what happens if nobody reads it."""

import asyncio
import re
import signal

import pytest

from harness import (
    ALREADY_CLAIMED,
    BINARY,
    CLOSE,
    HEARTBEAT_TIMEOUT,
    NOTHING_SAID,
    NO_SERVER,
    PHONE,
    RECLAIMED,
    SHUTTING_DOWN,
    TEXT,
    TOO_MANY_PHONES,
    UNDELIVERED,
    Raw,
    envelope,
    frame_of,
    until,
)

# More lines than the queue for stderr and a pipe hold.
LINES = 20_000


@pytest.mark.parametrize("log", ["debug", "trace"])
@pytest.mark.parametrize("piped", [["stderr"], ["stdout", "stderr"]])
async def test_a_log_without_a_reader_blocks_nothing(start, piped, log):
    relay = await start(piped=piped, log=log)
    binary, phone = await relay.pair()
    noisy = await relay.raw_binary("noisy")
    for _ in range(LINES // 100):
        # Each of these is logged.
        noisy.write(frame_of(TEXT, envelope("nobody", "1").encode()) * 100)
        await noisy.writer.drain()

    async def lines_are_dropped():
        return await relay.metric("log_lines_dropped_total") > 0

    await until(lines_are_dropped)
    for number in range(100):
        await phone.send(str(number))
        assert (await binary.envelope())["frame"] == number
        await binary.send(envelope(phone.conn_id, str(number)))
        assert await phone.frame() == str(number).encode()
    await relay.phone(binary)
    await relay.health()
    relay.signal(signal.SIGTERM)
    # Up to two seconds of this are for the last lines of the log.
    assert await relay.exit_code(limit=6) == 0
    relay.read_pipe_until()


class Day:
    """Clients behind a proxy, each with a label of its own, and how each of them ends."""

    def __init__(self, relay):
        self.relay = relay
        self.expected = {}

    def headers(self, label, phone):
        """`label` is the device name of a phone, or the version of a binary. It selects the address, too."""
        self.expected[label] = None
        if phone:
            headers = PHONE | {"X-Pyrycode-Device-Name": label}
        else:
            headers = BINARY | {"X-Pyrycode-Version": label}
        return headers | {"X-Pyrycode-Server": "home", "X-Forwarded-For": f"1.2.3.4, {self.address(label)}"}

    def address(self, label):
        return f"198.51.100.{list(self.expected).index(label)}"

    async def binary(self, label):
        return await self.relay.connect("/v1/server", self.headers(label, phone=False))

    async def phone(self, label):
        return await self.relay.connect("/v1/client", self.headers(label, phone=True))

    async def raw_phone(self, label):
        raw = await Raw.upgrade(self.relay, "/v1/client", self.headers(label, phone=True))
        assert raw.status == 101
        return raw

    def ends(self, label, by, code=None, reason=None, why=None):
        self.expected[label] = {"by": by, "code": code, "reason": reason or None, "why": why}

    async def closed(self, label, client, close, why=None):
        """The relay closes a client, and the log has what went over the wire."""
        assert await client.closed() == close
        self.ends(label, "relay", *close, why or close[1])

    async def gone(self, label):
        """Waits until the log has the end of a client."""
        await until(lambda: any(label in it.values() for it in self.ended()))

    def ended(self):
        return [it for it in self.relay.events() if it["message"].endswith("disconnected")]

    def agrees_with_the_log(self):
        ended = {it.get("version") or it.get("device"): it for it in self.ended()}
        assert len(ended) == len(self.ended())
        assert ended.keys() == self.expected.keys()
        for label, expected in self.expected.items():
            if expected["by"] == "network":
                expected["why"] = ended[label]["why"]
            assert {name: ended[label].get(name) for name in expected} == expected, label

        # Each line about a connection names it in the same way, from the first to the last.
        by_connection = {}
        for event in self.relay.events():
            if conn_id := event.get("conn_id"):
                by_connection.setdefault(conn_id, []).append(event)
        assert len(by_connection) == len(self.expected)
        for conn_id, events in by_connection.items():
            kind = re.fullmatch(r"(server|client)-home-[0-9a-f]{8}", conn_id)[1]
            label = events[-1].get("version" if kind == "server" else "device")
            assert events[-1]["message"].endswith("disconnected")
            for event in events:
                assert event["server_id"] == "home"
                assert event["address"] == self.address(label)
                assert (event.get("version"), event.get("device")) == (
                    (label, None) if kind == "server" else (None, label)
                )


async def test_the_log_of_a_day_says_who_was_there_and_why_each_connection_ended(start):
    relay = await start(
        log_format="json",
        log="debug",
        trusted_proxies="127.0.0.1",
        grace="1h",
        max_phones=2,
        probe_timeout="500ms",
        heartbeat_interval="200ms",
        heartbeat_timeout="3s",
    )
    day = Day(relay)
    await day.closed("too early", await day.phone("too early"), NO_SERVER)
    daemon = await day.binary("1.0")
    await relay.counts(binaries=1)

    # Phones that close, with a code and without one, and one that is cut off.
    phone = await day.phone("\"Zoë's\" tablet")
    await relay.counts(phones=1)
    await phone.close(4001, 'so "long"')
    day.ends("\"Zoë's\" tablet", "peer", 4001, 'so "long"')
    raw = await day.raw_phone("no code")
    await raw.send(CLOSE)
    day.ends("no code", "peer")
    raw = await day.raw_phone("cut off")
    await relay.counts(phones=1)
    raw.vanish()
    day.ends("cut off", "network")
    await relay.counts(phones=0)

    # Phones that are closed, by the binary and for what they do.
    for _ in range(3):
        await daemon.frame()
    phone = await day.phone("guest")
    await phone.send("1")
    conn_id = (await daemon.envelope())["conn_id"]
    await daemon.send(envelope(conn_id, close_code=4002))
    await day.closed("guest", phone, (4002, ""), "closed by its binary")
    phone = await day.phone("no JSON")
    await phone.send("{")
    await day.closed("no JSON", phone, (1000, ""), "frame is not JSON")
    silent = await day.raw_phone("silent")
    await day.closed("silent", silent, HEARTBEAT_TIMEOUT)
    silent.vanish()
    await relay.counts(phones=0)
    phones = [await day.phone(label) for label in ("first", "second")]
    await relay.counts(phones=2)
    await day.closed("third", await day.phone("third"), TOO_MANY_PHONES)

    # Binaries: one too many, one that is cut off and comes back, and one that hangs.
    await day.closed("1.1", await day.binary("1.1"), ALREADY_CLAIMED)
    daemon.vanish()
    day.ends("1.0", "network")
    await relay.counts(binaries=0)
    await phones[0].send("1")
    await day.closed("first", phones[0], UNDELIVERED, "frame undelivered")
    daemon = await day.binary("2.0")
    await day.closed("second", phones[1], RECLAIMED)
    phone = await day.phone("third time")
    await relay.counts(phones=1)
    daemon.ws.transport.pause_reading()
    successor = await day.binary("3.0")
    await day.closed("third time", phone, RECLAIMED)
    daemon.ws.transport.resume_reading()
    await day.closed("2.0", daemon, HEARTBEAT_TIMEOUT, "taken over by another binary")

    # At night the relay stops.
    phone = await day.phone("last")
    await relay.counts(phones=1)
    relay.signal(signal.SIGTERM)
    await day.closed("last", phone, SHUTTING_DOWN)
    await day.closed("3.0", successor, SHUTTING_DOWN)
    assert await relay.exit_code() == 0

    day.agrees_with_the_log()
    events = {it["message"]: it for it in relay.events()}
    assert events["server-id reclaimed"]["version"] == "2.0"
    assert events["server-id reclaimed"]["phones"] == 1
    assert events["server-id taken over"]["version"] == "3.0"
    ids = {it["version"]: it["conn_id"] for it in relay.events() if "version" in it}
    assert events["server-id taken over"]["incumbent"] == ids["2.0"]
    assert events["claim refused"]["version"] == "1.1"
    assert events["claim refused"]["incumbent"] == ids["1.0"]


async def test_the_log_says_which_phone_was_silent_and_which_one_said_nothing(start):
    relay = await start(
        log_format="json",
        trusted_proxies="127.0.0.1",
        max_phones=1,
        probe_timeout="300ms",
        first_frame_timeout="500ms",
    )
    day = Day(relay)
    daemon = await day.binary("1.0")
    await relay.counts(binaries=1)
    await day.closed("quiet", await day.phone("quiet"), NOTHING_SAID)
    await relay.counts(phones=0)
    ghost = await day.raw_phone("ghost")
    await ghost.send(TEXT, b"1")
    await relay.counts(phones=1)
    newcomer = await day.phone("newcomer")
    await newcomer.send("2")
    await day.closed("ghost", ghost, HEARTBEAT_TIMEOUT, "silent when another phone needed its place")
    ghost.vanish()
    assert [frame async for frame in frames(daemon, 2)] == [1, 2]
    await newcomer.close(1000)
    day.ends("newcomer", "peer", 1000)
    await day.gone("newcomer")
    await daemon.close(1000)
    day.ends("1.0", "peer", 1000)
    await day.gone("1.0")
    day.agrees_with_the_log()


async def frames(binary, number):
    """The next frames of phones, without the notices that they are gone."""
    while number:
        received = await binary.envelope()
        if "frame" in received:
            number -= 1
            yield received["frame"]


async def test_the_log_tells_a_claim_that_may_not_wait_from_one_whose_incumbent_answered(start):
    relay = await start(log_format="json", trusted_proxies="127.0.0.1", probe_timeout="1h")
    day = Day(relay)
    daemon = await day.binary("1.0")
    await relay.counts(binaries=1)
    daemon.ws.transport.pause_reading()
    # One more than may wait. Those that connect first need not be the first to wait.
    claims = {label: await day.binary(label) for label in [f"2.{number}" for number in range(9)]}
    ends = {label: asyncio.ensure_future(claim.closed()) for label, claim in claims.items()}
    await asyncio.wait(ends.values(), return_when=asyncio.FIRST_COMPLETED)
    [refused] = [label for label, end in ends.items() if end.done()]
    daemon.ws.transport.resume_reading()
    for label, end in ends.items():
        assert await end == ALREADY_CLAIMED
        why = "too many other binaries wait for an answer of the incumbent" if label == refused else ALREADY_CLAIMED[1]
        day.ends(label, "relay", *ALREADY_CLAIMED, why)
        await day.gone(label)
    await daemon.close(1000)
    day.ends("1.0", "peer", 1000)
    await day.gone("1.0")
    day.agrees_with_the_log()
    [incumbent] = {it["conn_id"] for it in relay.events() if it.get("version") == "1.0"}
    assert [it["incumbent"] for it in relay.events() if it["message"] == "claim refused"] == [incumbent] * 9


async def test_an_expired_grace_is_the_end_of_its_phones(start):
    relay = await start(log_format="json", grace="200ms", trusted_proxies="127.0.0.1")
    day = Day(relay)
    binary = await day.binary("1.0")
    await relay.counts(binaries=1)
    phone = await day.phone("a phone")
    await relay.counts(phones=1)
    await binary.close(1000)
    day.ends("1.0", "peer", 1000)
    await day.closed("a phone", phone, (1000, ""), "binary did not come back")
    await day.gone("a phone")
    [expired] = [it for it in relay.events() if it["message"] == "grace expired"]
    assert (expired["server_id"], expired["phones"]) == ("home", 1)
    day.agrees_with_the_log()


async def test_a_close_frame_that_could_not_be_sent_is_not_in_the_log(start):
    relay = await start(log_format="json", write_timeout="300ms")
    binary = await relay.binary()
    phone = await relay.raw_phone(binary, room=4096)
    # More than the buffers of two sockets hold, and less than its outbox.
    frame = envelope(phone.conn_id, f'"{"x" * 100_000}"')
    for _ in range(20):
        await binary.send(frame)
    [ended] = await until(lambda: [it for it in relay.events() if it["message"] == "phone disconnected"])
    assert (ended["by"], ended["why"]) == ("relay", "phone write failed")
    assert "code" not in ended and "reason" not in ended


async def test_text_from_clients_is_short_and_escaped(start):
    relay = await start()
    long = "x" * 1000
    await relay.connect("/v1/server", BINARY | {"X-Pyrycode-Version": f"\u202e\t\u009b31m{long}"})
    await until(lambda: "binary connected" in relay.log())
    [line] = [it for it in relay.log().splitlines() if "binary connected" in it]
    assert re.search(r'version="\\u\{202e\}\\t\\u\{9b\}31mx+" ', line), line
    assert len(line) < 400


@pytest.mark.parametrize("limit", [{"rate_burst": 1, "rate_interval": "1h"}, {"max_per_address": 1}])
async def test_a_refused_upgrade_names_the_client_behind_the_proxy(start, limit):
    relay = await start(log_format="json", log="debug", trusted_proxies="127.0.0.1", **limit)
    headers = BINARY | {"X-Forwarded-For": "198.51.100.7"}
    assert await relay.knock("/v1/server", headers | {"X-Pyrycode-Server": "b"}) == 101
    assert await relay.knock("/v1/server", headers) == 429
    [refused] = await until(lambda: [it for it in relay.events() if it["message"] == "upgrade refused"])
    assert (refused["server_id"], refused["address"], refused["status"]) == ("a", "198.51.100.7", 429)
    assert refused["endpoint"] == "server"
