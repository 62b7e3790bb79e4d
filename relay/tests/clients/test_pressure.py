"""A slow peer harms only itself, or its own phones."""

import asyncio
import contextlib
import json
import time

from websockets.exceptions import ConnectionClosed

from harness import (
    BACKLOG_FULL,
    CLOSE,
    LIMIT,
    PHONE,
    RECLAIMED,
    TEXT,
    UNDELIVERED,
    Raw,
    close_payload,
    envelope,
    frame_of,
    notice,
    text_of,
    until,
    within,
)

# Together, these are more than the buffers of two sockets and of a client hold.
FRAMES, LENGTH = 400, 128 * 1024


async def slow_phone(relay, binary):
    return await relay.phone(binary, max_queue=1)


async def test_a_phone_that_never_reads_is_closed_and_its_siblings_are_not_delayed(start):
    relay = await start(outbox=1 << 20)
    binary = await relay.binary()
    slow = await slow_phone(relay, binary)
    siblings = [await relay.phone(binary) for _ in range(2)]
    large = text_of(LENGTH)
    sent = 0
    told = asyncio.create_task(binary.frame())
    while not told.done():
        assert sent < FRAMES, "its backlog must be full by now"
        sent += 1
        await binary.send(envelope(slow.conn_id, large))
        for sibling in siblings:
            await binary.send(envelope(sibling.conn_id, str(sent)))
            assert await sibling.frame() == str(sent).encode()
    assert await told == notice(slow.conn_id, 1001)
    received, closed = await slow.closed_at_last()
    assert closed == BACKLOG_FULL
    assert received < sent
    await relay.metric_becomes(1, "outbox_overflows_total")


async def test_a_phone_that_keeps_up_gets_far_more_than_its_outbox_holds(start):
    relay = await start(outbox=1 << 18)
    binary, phone = await relay.pair()
    large = text_of(1 << 16)
    for _ in range(100):
        await binary.send(envelope(phone.conn_id, large))
        assert len(await phone.frame()) == 1 << 16


async def test_a_write_that_takes_too_long_ends_the_phone(start):
    relay = await start(write_timeout="300ms", outbox=1 << 28)
    binary = await relay.binary()
    slow = await slow_phone(relay, binary)
    sibling = await relay.phone(binary)
    for _ in range(FRAMES):
        await binary.send(envelope(slow.conn_id, text_of(LENGTH)))
    assert await binary.frame() == notice(slow.conn_id, 1001)
    await binary.send(envelope(sibling.conn_id, "1"))
    assert await sibling.frame() == b"1"
    assert await relay.metric("outbox_overflows_total") == 0


async def test_a_slow_binary_slows_its_own_phones_and_loses_nothing(start):
    relay = await start(outbox=1 << 20)
    slow = await relay.binary("slow", max_queue=1)
    phones = [await relay.phone(slow, "slow") for _ in range(2)]
    quick, other = await relay.pair("quick")

    async def send_all(phone):
        for number in range(FRAMES):
            await phone.send(f"[{number},{text_of(LENGTH)}]")

    # Without the time limit of a single send: these wait for the binary.
    sending = [asyncio.create_task(send_all(phone)) for phone in phones]
    for number in range(500):
        await other.send(str(number))
        assert (await quick.envelope())["frame"] == number
    assert not any(it.done() for it in sending)
    numbers = {phone.conn_id: iter(range(FRAMES)) for phone in phones}
    for _ in range(2 * FRAMES):
        got = await slow.envelope()
        assert got["frame"][0] == next(numbers[got["conn_id"]])
    await asyncio.wait_for(asyncio.gather(*sending), LIMIT)


async def test_a_binary_that_never_reads_is_closed_and_so_are_phones_whose_frames_are_lost(start):
    relay = await start(write_timeout="300ms", outbox=1 << 20)
    stuck = await relay.binary(max_queue=1)
    talking = [await relay.phone(stuck) for _ in range(2)]
    silent = await relay.phone(stuck)

    async def talk(phone):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await phone.ws.send(text_of(LENGTH))

    flood = [asyncio.create_task(talk(it)) for it in talking]
    await relay.counts(binaries=0, phones=1)
    for phone in talking:
        assert await phone.closed() == UNDELIVERED
    await within(asyncio.gather(*flood))
    # Each phone has one frame that fills its eighth of the outbox, and another one that waits for room.
    await relay.metric_becomes(4, "frames_undelivered_total", direction="to_binary")
    binary = await relay.binary()
    assert await silent.closed() == RECLAIMED
    await relay.phone(binary)


async def test_a_slow_binary_gets_the_notice_of_a_phone_after_all_its_frames(start):
    relay = await start(outbox=1 << 20, write_timeout="1h")
    slow = await relay.raw_binary()
    phone = await Raw.upgrade(relay, "/v1/client", PHONE)
    for number in range(FRAMES):
        phone.write(frame_of(TEXT, f"[{number},{text_of(LENGTH)}]".encode()))
    await phone.stalls()
    phone.vanish()
    received = 0
    while b'"frame":[%d,' % received in (payload := await slow.read_until(TEXT))[:100]:
        received += 1
    assert 0 < received < FRAMES
    assert payload.endswith(b',"close_code":1001}')


async def test_a_phone_that_has_left_holds_no_place_even_if_a_slow_binary_has_no_notice_yet(start):
    relay = await start(max_connections=6, write_timeout="1h")
    slow = await relay.raw_binary(room=8192)
    greedy = await Raw.upgrade(relay, "/v1/client", PHONE)
    for number in range(100):
        greedy.write(frame_of(TEXT, f"[{number},{text_of(LENGTH)}]".encode()))
    await greedy.stalls()
    rounds = range(8)
    for number in rounds:
        phones = [await Raw.upgrade(relay, "/v1/client", PHONE) for _ in range(4)]
        for phone in phones:
            assert phone.status == 101
            await phone.send(TEXT, b'"number %d"' % number)
            await phone.send(CLOSE, close_payload(4000 + number))
        for phone in phones:
            assert await phone.closed() == (4000 + number, "")
        await relay.metric_becomes(2, "connections")
    said = {}
    while len(said) < 4 * len(rounds) or not all(len(it) == 2 for it in said.values()):
        it = json.loads(await slow.read_until(TEXT))
        if "frame" not in it or isinstance(it["frame"], str):
            said.setdefault(it["conn_id"], []).append(it.get("frame", it.get("close_code")))
    assert sorted(said.values()) == sorted([f"number {number}", 4000 + number] for number in rounds for _ in range(4))
    greedy.vanish()


async def test_a_phone_that_sends_little_does_not_wait_for_phones_that_send_much(start):
    relay = await start(write_timeout="1h", heartbeat_interval="1h")
    slow = await relay.raw_binary(room=64 * 1024)
    greedy = [await Raw.upgrade(relay, "/v1/client", PHONE, room=64 * 1024) for _ in range(8)]
    each = 15
    for phone in greedy:
        for number in range(each):
            # The largest frame allowed.
            phone.write(frame_of(TEXT, f"[{number},{text_of(256 * 1024 - 3 - len(str(number)))}]".encode()))
    for phone in greedy:
        await phone.stalls()
    honest = await Raw.upgrade(relay, "/v1/client", PHONE)
    numbers, delays, passed, sent = {}, [], [], None
    while len(delays) < 3 or any(it < each for it in numbers.values()):
        if sent is None and len(delays) < 3:
            sent = time.monotonic()
            passed.append(0)
            await honest.send(TEXT, b'"honest"')
        payload = await slow.read_until(TEXT)
        if payload.endswith(b'"honest"}'):
            delays.append(time.monotonic() - sent)
            sent = None
            continue
        conn_id = json.loads(payload[: payload.index(b",")] + b"}")["conn_id"]
        numbers[conn_id] = numbers.get(conn_id, 0)
        assert b'"frame":[%d,' % numbers[conn_id] in payload[:100]
        numbers[conn_id] += 1
        if sent is not None:
            passed[-1] += 1
        if len(delays) < 3:
            # One megabyte a second.
            await asyncio.sleep(len(payload) / (1 << 20))
    assert len(numbers) == 8
    # Only the frames that were in transit, not one from each phone.
    assert max(passed) < 6 and max(delays) < 2, (passed, delays)
    for phone in greedy:
        phone.vanish()
