"""A binary that goes away may come back."""

import pytest

from harness import NO_SERVER, RECLAIMED, TOO_MANY_PHONES, envelope


@pytest.mark.parametrize("manner", ["vanishes", "closes"])
async def test_phones_stay_and_may_come_while_their_binary_is_away(start, manner):
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
    for it in (phone, late):
        await it.send('"nobody reads this"')
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


async def test_the_binary_that_comes_back_hears_nothing_of_the_old_phones(start):
    relay = await start()
    old, phone = await relay.pair()
    leaving = await relay.phone(old)
    old.vanish()
    await relay.counts(binaries=0)
    await leaving.close(4000)
    new = await relay.binary()
    assert await phone.closed() == RECLAIMED
    # Whose first frame is the next that it gets.
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


async def test_who_came_back_in_time_does_not_expire(start):
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


async def test_without_a_grace_the_phones_go_with_their_binary(start):
    relay = await start(grace="0s")
    binary, phone = await relay.pair()
    binary.vanish()
    assert await phone.closed() == (1000, "")
