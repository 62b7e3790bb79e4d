"""A binary that goes away may come back."""

import pytest

from harness import (
    CLOSE,
    NO_SERVER,
    PHONE,
    PING,
    PONG,
    RECLAIMED,
    TEXT,
    TOO_MANY_PHONES,
    UNDELIVERED,
    Raw,
    close_payload,
    envelope,
    frame_of,
    text_of,
    until,
)


@pytest.mark.parametrize("manner", ["vanishes", "closes"])
async def test_phones_stay_and_may_register_while_their_binary_is_away(start, manner):
    relay = await start(max_phones=2)
    binary, phone = await relay.pair()
    if manner == "closes":
        await binary.close()
    else:
        binary.vanish()
    await relay.counts(binaries=0, phones=1)
    late = await relay.any_phone()
    await relay.counts(binaries=0, phones=2)
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    await relay.metric_becomes(1, "binaries_in_grace")
    assert await relay.metric("connected_binaries") == 0

    binary = await relay.binary()
    assert await phone.closed() == RECLAIMED
    assert await late.closed() == RECLAIMED
    phone = await relay.phone(binary)
    await binary.send(envelope(phone.conn_id, "1"))
    assert await phone.frame() == b"1"
    await relay.metric_becomes(1, "reclaims_total")
    await relay.metric_becomes(0, "binaries_in_grace")
    assert await relay.metric("takeovers_total") == 0


@pytest.mark.parametrize("manner", ["closes", "vanishes", "hangs"])
async def test_a_phone_that_sends_while_nobody_reads_is_closed_at_once_and_a_silent_one_stays(start, manner):
    relay = await start(grace="1h", heartbeat_interval="300ms", heartbeat_timeout="300ms")
    binary = await relay.raw_binary()
    silent, talking = [await relay.any_phone() for _ in range(2)]
    await relay.counts(phones=2)
    if manner == "closes":
        await binary.send(CLOSE, close_payload(1001))
    elif manner == "vanishes":
        binary.vanish()
    await relay.counts(binaries=0, phones=2)
    for number in (1, 2):
        await talking.send('"nobody reads this"')
        assert await talking.closed() == UNDELIVERED
        await relay.counts(phones=1)
        assert await relay.metric("frames_undelivered_total", direction="to_binary") == number
        talking = await relay.any_phone()
        await relay.counts(phones=2)
    assert await relay.metric("frames_undelivered_total", direction="to_phone") == 0
    await relay.binary()
    assert await silent.closed() == RECLAIMED
    assert await talking.closed() == RECLAIMED


@pytest.mark.parametrize("manner", ["closes", "vanishes", "hangs"])
async def test_a_phone_whose_frame_is_queued_when_the_binary_goes_is_closed_and_a_silent_one_stays(start, manner):
    relay = await start(grace="1h", write_timeout="1s" if manner == "hangs" else "1h")
    binary = await relay.raw_binary(room=8192)
    greedy, honest = [await Raw.upgrade(relay, "/v1/client", PHONE) for _ in range(2)]
    silent = await relay.any_phone()
    for _ in range(200):
        greedy.write(frame_of(TEXT, text_of(128 * 1024).encode()))
    await greedy.stalls()
    # Queued behind those.
    for _ in range(3):
        await honest.send(TEXT, b'"hello?"')
    await honest.send(PING, b"after them")
    assert await honest.read_until(PONG) == b"after them"
    if manner == "closes":
        await binary.send(CLOSE, close_payload(1000))
    elif manner == "vanishes":
        binary.vanish()
    for phone in (greedy, honest):
        assert await phone.closed() == UNDELIVERED
    await relay.counts(binaries=0, phones=1)

    # Some frames of the greedy phone, too.
    async def are_counted():
        return await relay.metric("frames_undelivered_total", direction="to_binary") > 3

    await until(are_counted)
    await relay.binary()
    assert await silent.closed() == RECLAIMED


async def test_a_binary_that_comes_back_gets_nothing_about_the_old_phones(start):
    relay = await start()
    old, phone = await relay.pair()
    leaving = await relay.phone(old)
    old.vanish()
    await relay.counts(binaries=0)
    await leaving.close(4000)
    new = await relay.binary()
    assert await phone.closed() == RECLAIMED
    # The first frame of this phone is the next that the binary gets.
    await relay.phone(new)


async def test_after_the_grace_the_phones_are_closed_and_the_server_id_is_free(start):
    relay = await start(grace="300ms")
    binary, phone = await relay.pair()
    binary.vanish()
    assert await phone.closed() == (1000, "")
    assert await (await relay.any_phone()).closed() == NO_SERVER
    await relay.metric_becomes(1, "grace_expiries_total")
    assert await relay.metric("binaries_in_grace") == 0
    await relay.pair()
    assert await relay.metric("reclaims_total") == 0


async def test_a_binary_that_came_back_in_time_does_not_expire(start):
    relay = await start(grace="1s")
    first = await relay.binary("a")
    clock, watch = await relay.pair("clock")
    first.vanish()
    await relay.counts(binaries=1)
    binary, phone = await relay.pair("a")
    clock.vanish()
    assert await watch.closed() == (1000, ""), "a second after the first had gone, and more"
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    await relay.metric_becomes(1, "grace_expiries_total")


async def test_without_a_grace_the_phones_are_closed_with_their_binary(start):
    relay = await start(grace="0s")
    binary, phone = await relay.pair()
    binary.vanish()
    assert await phone.closed() == (1000, "")
