"""Slow is not dead."""

import asyncio
import itertools
import json
import time

import pytest

from harness import (
    ALREADY_CLAIMED,
    HEARTBEAT_TIMEOUT,
    PHONE,
    PING,
    PONG,
    TEXT,
    Raw,
    envelope,
    frame_of,
    notice,
    text_of,
)
from tls import start_with

# As short as heartbeats can be on a busy machine. A slow peer needs many times as long.
HASTY = {"heartbeat_interval": "300ms", "heartbeat_timeout": "300ms", "write_timeout": "300ms"}

# The size of the small buffers of a slow peer.
ROOM = 16 * 1024
FRAME = 16 * 1024


async def read_slowly(raw, count, rate):
    """Reads that many text messages at that many bytes a second, and answers pings. Returns the messages."""
    messages = []
    began, taken = time.monotonic(), 0
    while len(messages) < count:
        opcode, payload = await raw.read()
        if opcode == TEXT:
            messages.append(payload)
        elif opcode == PING:
            raw.write(frame_of(PONG, payload))
        else:
            raise AssertionError(f"{opcode} after {len(messages)} messages: {payload}")
        taken += len(payload)
        await asyncio.sleep(began + taken / rate - time.monotonic())
    return messages


@pytest.mark.parametrize("is_secure", [False, True])
async def test_a_phone_that_reads_slowly_gets_all_that_waits_for_it(start, files, is_secure):
    # With TLS, the library buffers up to a quarter of a MiB before it reads any more. That takes 1.3 seconds to read.
    limit, count = ("4s", 120) if is_secure else ("500ms", 70)
    hasty = {"heartbeat_interval": "500ms", "heartbeat_timeout": limit, "write_timeout": limit}
    relay = await (start_with(start, files, **hasty) if is_secure else start(**hasty))
    binary = await relay.binary()
    phone = await relay.raw_phone(binary, room=ROOM)
    # This takes longer than ten timeouts without TLS, and longer than two with TLS.
    for number in range(count):
        await binary.send(envelope(phone.conn_id, f"[{number},{text_of(FRAME)}]"))
    messages = await read_slowly(phone, count, rate=200_000)
    assert [json.loads(it)[0] for it in messages] == list(range(count))
    await phone.send(TEXT, b"1")
    assert (await binary.envelope())["frame"] == 1
    assert await relay.metric("heartbeat_timeouts_total") == await relay.metric("write_failures_total") == 0


@pytest.mark.parametrize("endpoint", ["phone", "binary"])
async def test_a_slow_upload_that_delays_pongs_does_not_close_its_sender(start, endpoint):
    relay = await start(**HASTY)
    if endpoint == "phone":
        receiver = await relay.binary()
        sender = await relay.raw_phone(receiver)
        frame = text_of(200_000)
        message = frame
    else:
        sender = await relay.raw_binary()
        receiver = await relay.any_phone()
        await receiver.send("1")
        frame = text_of(200_000)
        message = envelope(json.loads(await sender.read_until(TEXT))["conn_id"], frame)
    data = frame_of(TEXT, message.encode())
    for at in range(0, len(data), 4000):
        sender.write(data[at : at + 4000])
        # Two seconds in total.
        await asyncio.sleep(0.04)
    received = await receiver.frame()
    assert frame.encode() in received


async def backlog(relay, binary):
    """Phones of a binary that reads nothing. They send until nothing moves any more."""
    phones = [await Raw.upgrade(relay, "/v1/client", PHONE, room=ROOM) for _ in range(2)]
    for phone in phones:
        for number in range(500):
            phone.write(frame_of(TEXT, f"[{number},{text_of(FRAME)}]".encode()))
    for phone in phones:
        await phone.stalls()
    return phones


async def test_a_binary_that_reads_slowly_keeps_its_server_id(start):
    relay = await start(probe_timeout="500ms", write_timeout="1h", heartbeat_interval="1h")
    slow = await relay.raw_binary(room=ROOM)
    phones = await backlog(relay, slow)
    challenger = await relay.any_binary()

    async def read():
        # It reads what it is sent, and answers no ping.
        while True:
            opcode, payload = await slow.read()
            assert opcode in (TEXT, PING)
            await asyncio.sleep(len(payload) / 500_000)

    reading = asyncio.create_task(read())
    assert await challenger.closed() == ALREADY_CLAIMED
    assert not reading.done()
    reading.cancel()
    assert await relay.metric("takeovers_total") == 0
    for phone in phones:
        phone.vanish()


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_binary_that_reads_nothing_is_taken_over(start, is_full):
    relay = await start(probe_timeout="500ms", write_timeout="1h", heartbeat_interval="1h")
    dead = await relay.raw_binary(room=ROOM)
    phones = await backlog(relay, dead) if is_full else []
    binary = await relay.any_binary()
    for phone in phones:
        code, _ = await phone.closed()
        assert code in (1000, 4404)
    await relay.metric_becomes(1, "takeovers_total")
    await relay.phone(binary)


async def test_a_ping_passes_what_waits_for_a_slow_peer(start):
    relay = await start(probe_timeout="1h", heartbeat_interval="1h")
    slow = await relay.raw_binary(room=ROOM)
    phones = await backlog(relay, slow)
    challenger = await relay.any_binary()
    await relay.metric_becomes(4, "connections")
    passed = 0
    while (it := await slow.read())[0] != PING:
        passed += len(it[1])
    # Only the data that the system already holds or is about to get is ahead of the ping. Megabytes are queued.
    assert passed < 300_000
    await slow.send(PONG, it[1])
    assert await challenger.closed() == ALREADY_CLAIMED
    for phone in phones:
        phone.vanish()


@pytest.mark.parametrize("to", ["phone", "binary"])
async def test_a_peer_that_reads_an_endless_stream_gets_its_pings_too(start, to):
    relay = await start(heartbeat_interval="100ms", heartbeat_timeout="2s")
    if to == "phone":
        sender = await relay.binary()
        reader = await relay.raw_phone(sender)
        message = envelope(reader.conn_id, text_of(1000))
    else:
        reader = await relay.raw_binary()
        sender = await relay.any_phone()
        message = text_of(1000)

    # There is always something to write, and never too much.
    under_way = asyncio.Semaphore(200)

    async def stream():
        while True:
            await under_way.acquire()
            await sender.send(message)

    streaming = asyncio.create_task(stream())
    pings = 0
    while pings < 10:
        opcode, payload = await reader.read()
        if opcode == PING:
            pings += 1
            await reader.send(PONG, payload)
        else:
            assert opcode == TEXT, payload
            under_way.release()
    streaming.cancel()


async def test_a_busy_binary_that_answers_keeps_its_server_id(start):
    relay = await start(probe_timeout="3s", heartbeat_interval="1h")
    busy = await relay.raw_binary()
    phones = [await relay.any_phone() for _ in range(3)]

    async def stream(phone):
        while True:
            await phone.send(text_of(1000))

    async def answer():
        while True:
            opcode, payload = await busy.read()
            if opcode == PING:
                await busy.send(PONG, payload)

    tasks = [asyncio.create_task(it) for it in (answer(), *map(stream, phones))]
    for _ in range(3):
        assert await (await relay.any_binary()).closed() == ALREADY_CLAIMED
    for task in tasks:
        task.cancel()
    assert await relay.metric("takeovers_total") == 0


def counted(pings):
    """As if pings were numbered."""
    for number in itertools.cycle(range(30)):
        yield number.to_bytes(8)


def counted_in_little_endian(pings):
    for number in itertools.cycle(range(30)):
        yield number.to_bytes(8, "little")


def empty(pings):
    while True:
        yield b""


def repeated(pings):
    while True:
        yield pings[0]


@pytest.mark.parametrize("guess", [counted, counted_in_little_endian, empty, repeated])
@pytest.mark.parametrize("endpoint", ["phone", "binary"])
async def test_unsolicited_pongs_keep_nobody_alive(start, guess, endpoint):
    relay = await start(heartbeat_interval="200ms", heartbeat_timeout="500ms", grace="1h")
    binary = await relay.binary("b")
    if endpoint == "phone":
        raw = await relay.raw_phone(binary, "b")
    else:
        raw = await relay.raw_binary()
    pings = [await raw.read_until(PING)]
    raw.write(frame_of(PONG, pings[0]))

    async def pong():
        for payload in guess(pings):
            # Far more bytes than count as trickling.
            raw.write(frame_of(PONG, payload) * 100)
            await asyncio.sleep(0.01)

    ponging = asyncio.create_task(pong())
    assert await raw.closed() == HEARTBEAT_TIMEOUT
    ponging.cancel()
    await relay.metric_becomes(1, "heartbeat_timeouts_total")


async def test_ping_payloads_cannot_be_guessed(start):
    relay = await start(heartbeat_interval="20ms", heartbeat_timeout="1h")
    raws = [await relay.raw_binary(str(number)) for number in range(4)]
    payloads = [await raw.read_until(PING) for raw in raws for _ in range(8)]
    assert len(set(payloads)) == len(payloads)
    assert all(len(it) >= 8 for it in payloads)


async def test_a_peer_that_only_trickles_is_dropped_eventually(start):
    relay = await start(heartbeat_interval="100ms", heartbeat_timeout="200ms")
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)

    async def trickle():
        phone.write(frame_of(TEXT, bytes(100_000))[:14])
        while True:
            phone.write(b"x")
            await asyncio.sleep(0.05)

    began = time.monotonic()
    trickling = asyncio.create_task(trickle())
    assert await phone.closed() == HEARTBEAT_TIMEOUT
    trickling.cancel()
    # Ten times as long as for a silent peer.
    assert time.monotonic() - began > 1.5
    assert await binary.frame() == notice(phone.conn_id, 1001)
