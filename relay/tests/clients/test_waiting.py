"""A phone may come before its binary."""

import asyncio

import pytest

from harness import NO_SERVER, PHONE, SHUTTING_DOWN, Raw, envelope, frame_of, TEXT, text_of


async def test_a_phone_before_its_binary_is_connected_and_its_frames_arrive_in_order(start):
    relay = await start(wait_for_binary="1h")
    phone = await relay.any_phone()
    await relay.metric_becomes(1, "phones_waiting")
    for number in range(200):
        await phone.send(str(number))
    # The library measures how long the answer takes.
    await asyncio.wait_for(await phone.ws.ping(), 20)
    assert (await relay.health())["connected_phones"] == 0
    binary = await relay.binary()
    for number in range(200, 400):
        await phone.send(str(number))
    for number in range(400):
        received = await binary.envelope()
        assert received["frame"] == number
    await binary.send(envelope(received["conn_id"], '"welcome"'))
    assert await phone.frame() == b'"welcome"'
    await relay.counts(phones=1)
    assert await relay.metric("phone_waits_total", outcome="joined") == 1
    assert await relay.metric("phones_waiting") == 0


async def test_a_phone_whose_binary_does_not_come_is_closed_after_the_time_and_named_in_the_log(start):
    relay = await start(wait_for_binary="300ms", log="debug")
    clock = asyncio.get_running_loop().time
    began = clock()
    phone = await relay.any_phone("lonely")
    assert await phone.closed() == NO_SERVER
    assert clock() - began >= 0.3
    await relay.metric_becomes(1, "phone_waits_total", outcome="timed_out")
    assert await relay.metric("refusals_total", kind="no_server") == 1
    refusals = [line for line in relay.log().splitlines() if "phone disconnected" in line]
    assert len(refusals) == 1
    assert "client-lonely-" in refusals[0]
    assert 'by=relay code=4404 reason="no server with that id"' in refusals[0]


@pytest.mark.parametrize("manner", ["closes", "vanishes"])
async def test_a_phone_that_leaves_while_it_waits_leaves_nothing_behind(start, manner):
    relay = await start(wait_for_binary="1h")
    phone = await relay.any_phone()
    await relay.metric_becomes(1, "phones_waiting")
    await phone.send('"nobody reads this"')
    await asyncio.wait_for(await phone.ws.ping(), 20)
    if manner == "closes":
        await phone.close()
    else:
        phone.vanish()
    await relay.metric_becomes(1, "phone_waits_total", outcome="left")
    assert await relay.metric("frames_undelivered_total", direction="to_binary") == 1
    assert await relay.metric("phones_waiting") == 0
    # The first frame of the next phone is the first that the binary gets.
    await relay.pair()


async def test_a_phone_that_sends_more_than_its_share_while_it_waits_is_not_read_and_can_still_be_closed(start):
    relay = await start(wait_for_binary="1h", outbox=1 << 20, shutdown_timeout="1h")
    phone = await Raw.upgrade(relay, "/v1/client", PHONE)
    for _ in range(200):
        phone.write(frame_of(TEXT, text_of(128 * 1024).encode()))
    await phone.stalls()
    assert await relay.metric("phones_waiting") == 1
    relay.process.terminate()
    assert await phone.closed() == SHUTTING_DOWN
    phone.vanish()
    assert await relay.exit_code() == 0
