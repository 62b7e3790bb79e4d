"""Claims, and places for phones."""

import asyncio
import re

import pytest

from harness import (
    ALREADY_CLAIMED,
    BINARY,
    CLOSE,
    HEARTBEAT_TIMEOUT,
    NO_SERVER,
    PHONE,
    PING,
    PONG,
    RECLAIMED,
    SHUTTING_DOWN,
    TEXT,
    TOO_MANY_PHONES,
    Raw,
    close_payload,
    envelope,
    frame_of,
    text_of,
)


async def test_a_second_binary_is_refused_while_the_first_answers(start):
    relay = await start()
    binary, phone = await relay.pair()
    for _ in range(3):
        assert await (await relay.any_binary()).closed() == ALREADY_CLAIMED
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    await relay.metric_becomes(3, "refusals_total", kind="server_id_claimed")
    assert await relay.metric("takeovers_total") == 0


async def test_a_silent_binary_is_taken_over_and_its_phones_are_closed(start):
    relay = await start(probe_timeout="300ms")
    silent = await relay.raw_binary()
    phones = [await relay.any_phone() for _ in range(3)]
    await relay.counts(phones=3)
    binary = await relay.any_binary()
    await silent.read_until(PING)
    assert await silent.closed() == HEARTBEAT_TIMEOUT
    for phone in phones:
        assert await phone.closed() == RECLAIMED
    phone = await relay.phone(binary)
    await binary.send(envelope(phone.conn_id, '"welcome"'))
    assert await phone.frame() == b'"welcome"'
    await relay.metric_becomes(1, "takeovers_total")
    assert await relay.metric("connected_binaries") == 1


async def test_a_slow_answer_to_the_probe_keeps_the_server_id(start):
    relay = await start(probe_timeout="1h")
    incumbent = await relay.raw_binary()
    challenger = await relay.any_binary()
    payload = await incumbent.read_until(PING)
    await asyncio.sleep(0.3)
    await incumbent.send(PONG, payload)
    assert await challenger.closed() == ALREADY_CLAIMED
    assert await relay.metric("takeovers_total") == 0


async def test_a_binary_that_leaves_during_the_probe_makes_room(start):
    relay = await start(probe_timeout="1h")
    incumbent = await relay.raw_binary()
    phone = await relay.any_phone()
    await relay.counts(phones=1)
    binary = await relay.any_binary()
    await incumbent.read_until(PING)
    incumbent.vanish()
    assert await phone.closed() == RECLAIMED
    await relay.phone(binary)


async def test_of_many_challengers_of_a_silent_binary_one_gets_the_server_id(start):
    relay = await start(probe_timeout="300ms")
    await relay.raw_binary()
    challengers = [await relay.any_binary() for _ in range(8)]
    ends = [asyncio.create_task(it.closed()) for it in challengers]
    async with asyncio.timeout(15):
        for done in asyncio.as_completed(ends):
            assert await done == ALREADY_CLAIMED
            if sum(it.done() for it in ends) == 7:
                break
    [winner] = [it for it, end in zip(challengers, ends) if not end.done()]
    next(it for it in ends if not it.done()).cancel()
    await asyncio.sleep(0)
    await relay.phone(winner)
    assert await relay.metric("takeovers_total") == 1


async def test_eight_challengers_share_a_probe_and_the_next_one_is_refused_at_once(start):
    relay = await start(probe_timeout="1h")
    incumbent = await relay.raw_binary()
    challengers = [await relay.any_binary() for _ in range(8)]
    payload = await incumbent.read_until(PING)
    for _ in range(3):
        assert await (await relay.any_binary()).closed() == ALREADY_CLAIMED
    await relay.metric_becomes(3, "refusals_total", kind="too_many_claims")
    # One that leaves makes room, and joins the same probe.
    challengers.pop().vanish()
    await relay.metric_becomes(8, "connections")
    challengers.append(await relay.any_binary())
    await incumbent.send(PONG, payload)
    for challenger in challengers:
        assert await challenger.closed() == ALREADY_CLAIMED
    assert await relay.metric("probes_total") == 1
    await relay.metric_becomes(8, "refusals_total", kind="server_id_claimed")


async def test_a_challenger_that_leaves_during_the_probe_leaves_nothing_behind(start):
    relay = await start(probe_timeout="300ms")
    incumbent = await relay.raw_binary()
    challenger = await relay.any_binary()
    payload = await incumbent.read_until(PING)
    challenger.vanish()
    await incumbent.send(PONG, payload)
    phone = await relay.any_phone()
    await phone.send("1")
    assert b'"frame":1' in await incumbent.read_until(TEXT)


LEAVES = {
    "with a close frame": lambda raw: raw.write(frame_of(CLOSE, close_payload(1000))),
    "with a FIN": lambda raw: raw.writer.write_eof(),
    "with a reset": lambda raw: raw.vanish(),
}


@pytest.mark.parametrize("frames", [0, 1, 300])
@pytest.mark.parametrize("manner", LEAVES)
async def test_a_challenger_that_sent_frames_and_left_takes_nothing_over(start, manner, frames):
    relay = await start(probe_timeout="1s")
    silent = await relay.raw_binary()
    phone = await relay.any_phone()
    await relay.counts(phones=1)
    challenger = await Raw.upgrade(relay, "/v1/server", BINARY)
    await silent.read_until(PING)
    for number in range(frames):
        await challenger.send(TEXT, envelope(f"client-a-{number:08}", text_of(1000)).encode())
    LEAVES[manner](challenger)
    await relay.metric_becomes(2, "connections")
    # Another challenger starts a probe of the same length later.
    watch = await relay.raw_binary("watch")
    successor = await relay.any_binary("watch")
    assert await watch.closed() == HEARTBEAT_TIMEOUT
    await relay.metric_becomes(1, "takeovers_total")
    await phone.send("1")
    assert b'"frame":1' in await silent.read_until(TEXT)
    await relay.phone(successor, "watch")


async def test_a_challenger_that_sent_frames_and_stays_takes_over(start):
    relay = await start(probe_timeout="300ms")
    silent = await relay.raw_binary()
    challenger = await relay.any_binary()
    for number in range(300):
        await challenger.send(envelope(f"client-a-{number:08}", text_of(1000)))
    assert await silent.closed() == HEARTBEAT_TIMEOUT
    await relay.phone(challenger)
    assert await relay.metric("envelopes_dropped_total", reason="unknown_phone") == 300


async def test_a_binary_that_has_its_response_holds_its_server_id(start):
    relay = await start()

    async def pair(number):
        server_id = {"X-Pyrycode-Server": f"number {number}"}
        binary, phone = [await Raw.dial(relay) for _ in range(2)]
        await binary.ask_for_upgrade("/v1/server", BINARY | server_id)
        await phone.ask_for_upgrade("/v1/client", PHONE | server_id)
        await phone.send(TEXT, b"1")
        await phone.send(PING)
        assert await phone.read() == (PONG, b"")
        assert b'"frame":1' in await binary.read_until(TEXT)
        phone.vanish()
        binary.vanish()

    for number in range(0, 400, 8):
        await asyncio.gather(*(pair(number + one) for one in range(8)))


async def test_a_shutdown_does_not_wait_for_a_probe(start):
    relay = await start(probe_timeout="1h", shutdown_timeout="1h")
    incumbent = await relay.raw_binary()
    challenger = await relay.any_binary()
    await incumbent.read_until(PING)
    relay.process.terminate()
    assert await incumbent.closed() == SHUTTING_DOWN
    assert await challenger.closed() == SHUTTING_DOWN
    assert await relay.exit_code() == 0


async def test_a_phone_without_a_binary_is_refused(start):
    relay = await start()
    binary = await relay.binary("a")
    assert await (await relay.any_phone("b")).closed() == NO_SERVER
    assert await (await relay.any_phone("A")).closed() == NO_SERVER
    await relay.phone(binary)
    await relay.metric_becomes(2, "refusals_total", kind="no_server")


async def test_the_17th_phone_is_refused_until_one_leaves(start):
    relay = await start()
    binary = await relay.binary("a")
    other = await relay.binary("b")
    phones = [await relay.phone(binary) for _ in range(16)]
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    await relay.phone(other, "b")
    await phones[3].close()
    await binary.frame()
    phones[3] = await relay.phone(binary)
    for phone in phones:
        await phone.send("1")
        assert (await binary.envelope())["conn_id"] == phone.conn_id
    await relay.metric_becomes(1, "refusals_total", kind="too_many_phones")


async def test_conn_ids_end_in_8_hex_digits_and_differ(start):
    relay = await start(log="debug")
    binary = await relay.binary()
    conn_ids = {(await relay.phone(binary)).conn_id for _ in range(16)}
    assert len(conn_ids) == 16
    assert all(re.fullmatch(r"client-a-[0-9a-f]{8}", it) for it in conn_ids)
    assert re.search(r"\bserver-a-[0-9a-f]{8}\b", relay.log())


async def test_two_server_ids_do_not_affect_each_other(start):
    relay = await start()
    a, phone_of_a = await relay.pair("a")
    b, phone_of_b = await relay.pair("b")
    await a.send(envelope(phone_of_b.conn_id, '"stray"', close_code=4000))
    await b.send(envelope(phone_of_b.conn_id, '"right"'))
    assert await phone_of_b.frame() == b'"right"'
    await phone_of_a.send("1")
    assert (await a.envelope())["conn_id"] == phone_of_a.conn_id
    await relay.metric_becomes(1, "envelopes_dropped_total", reason="unknown_phone")
