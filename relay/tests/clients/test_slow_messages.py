"""A message that has begun must be complete in time."""

import asyncio
import json

import pytest

from harness import (
    CLOSE,
    MESSAGE_TOO_SLOW,
    PHONE,
    PING,
    PONG,
    TEXT,
    Raw,
    close_payload,
    envelope,
    frame_of,
    text_of,
)


def single_bytes(data):
    return [bytes([byte]) for byte in data]


def fragments():
    yield frame_of(TEXT, b'"', last=False)
    while True:
        yield frame_of(0, b"x", last=False)


def fragments_between_pings():
    for fragment in fragments():
        yield fragment + frame_of(PING, b"alive")


# Endless messages, sent in parts. Each part alone would be in time.
ENDLESS = {
    "a byte at a time": lambda: single_bytes(frame_of(TEXT, text_of(60_000).encode())),
    "fragments": fragments,
    "fragments between pings": fragments_between_pings,
    "the first byte": lambda: [b"\x81"],
    "a header without its last byte": lambda: single_bytes(frame_of(TEXT, bytes(70_000))[:13]),
    "a ping": lambda: single_bytes(frame_of(PING, bytes(125))),
    "a close frame": lambda: single_bytes(b"\x88\xfd" + bytes(126)),
}


async def drip(raw, parts):
    for part in parts:
        raw.write(part)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("endpoint", ["phone", "binary"])
@pytest.mark.parametrize("manner", ENDLESS)
async def test_a_message_that_takes_too_long_closes_its_sender(start, manner, endpoint):
    relay = await start(message_timeout="500ms", heartbeat_interval="100ms", heartbeat_timeout="10s", grace="1h")
    binary, sibling = await relay.pair()
    if endpoint == "phone":
        raw = await Raw.upgrade(relay, "/v1/client", PHONE)
    else:
        raw = await relay.raw_binary("b")
    dripping = asyncio.create_task(drip(raw, ENDLESS[manner]()))
    while (it := await raw.read())[0] != CLOSE:
        # Within another frame, it would not be a pong.
        if it[0] == PING and "fragments" in manner:
            raw.write(frame_of(PONG, it[1]))
    assert it[1] == close_payload(*MESSAGE_TOO_SLOW)
    dripping.cancel()
    if endpoint == "phone":
        gone = await binary.envelope()
        assert gone["close_code"] == 1001 and "frame" not in gone
    else:
        await relay.metric_becomes(1, "binaries_in_grace")
    await relay.metric_becomes(1, "messages_rejected_total", reason="too_slow")
    await sibling.send("1")
    assert (await binary.envelope())["frame"] == 1


@pytest.mark.parametrize("endpoint", ["phone", "binary"])
async def test_a_message_that_is_slow_and_in_time_passes_and_the_next_one_has_its_own_time(start, endpoint):
    relay = await start(message_timeout="2s")
    if endpoint == "phone":
        receiver = await relay.binary()
        sender = await relay.raw_phone(receiver)
        frame, expected = b'"slow"', envelope(sender.conn_id, '"slow"').encode()
    else:
        sender = await relay.raw_binary()
        receiver = await relay.any_phone()
        await receiver.send("1")
        conn_id = json.loads(await sender.read_until(TEXT))["conn_id"]
        frame, expected = envelope(conn_id, '"slow"').encode(), b'"slow"'
    half = len(frame) // 2
    # Together, the messages take longer.
    for whole in [frame_of(TEXT, frame), frame_of(TEXT, frame[:half], last=False) + frame_of(0, frame[half:])] * 2:
        size = len(whole) // 8 + 1
        for at in range(0, len(whole), size):
            await asyncio.sleep(0.08)
            sender.write(whole[at : at + size])
        assert await receiver.frame() == expected


async def test_a_phone_that_waits_for_its_slow_binary_is_not_timed_out(start):
    relay = await start(message_timeout="300ms", write_timeout="1h")
    binary = await relay.raw_binary(room=8192)
    phone = await Raw.upgrade(relay, "/v1/client", PHONE)
    numbers = range(100)
    for number in numbers:
        phone.write(frame_of(TEXT, f"[{number},{text_of(64 * 1024)}]".encode()))
    await phone.stalls()
    # Three times as long as a message may take.
    clock = await relay.binary("clock")
    for _ in range(3):
        late = await relay.raw_phone(clock, "clock")
        late.write(b"\x81")
        assert await late.closed() == MESSAGE_TOO_SLOW
        await clock.frame()
    for number in numbers:
        assert b'"frame":[%d,' % number in (await binary.read_until(TEXT))[:100]
    await phone.send(PING)
    assert await phone.read() == (PONG, b"")
