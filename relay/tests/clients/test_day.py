"""A typical day of a daemon and its phones."""

from harness import (
    ALREADY_CLAIMED,
    HEARTBEAT_TIMEOUT,
    NO_SERVER,
    RECLAIMED,
    SHUTTING_DOWN,
    envelope,
    notice,
)


async def talk(binary, phone, word):
    await phone.send(f'{{"ask": "{word}"}}')
    assert await binary.envelope() == {"conn_id": phone.conn_id, "frame": {"ask": word}}
    await binary.send(envelope(phone.conn_id, f'{{"answer": "{word}"}}'))
    assert await phone.frame() == f'{{"answer": "{word}"}}'.encode()


async def test_a_day_in_the_life(start):
    relay = await start(probe_timeout="500ms", heartbeat_interval="200ms", heartbeat_timeout="5s")

    # In the morning the phone is up first.
    assert await (await relay.any_phone("home")).closed() == NO_SERVER
    daemon = await relay.binary("home")
    phone, tablet = [await relay.phone(daemon, "home") for _ in range(2)]
    for word in ("one", "two"):
        await talk(daemon, phone, word)
        await talk(daemon, tablet, word)

    # The phone leaves; the daemon closes the tablet.
    await phone.close(1000)
    assert await daemon.frame() == notice(phone.conn_id, 1000)
    await daemon.send(envelope(tablet.conn_id, '"good bye"', close_code=4001))
    assert await tablet.frame() == b'"good bye"'
    assert await tablet.closed() == (4001, "")

    # The daemon drops silently, and comes back while its phone waits.
    phone = await relay.phone(daemon, "home")
    daemon.vanish()
    await relay.counts(binaries=0, phones=1)
    daemon = await relay.binary("home")
    assert await phone.closed() == RECLAIMED
    phone = await relay.phone(daemon, "home")
    await talk(daemon, phone, "three")

    # Somebody starts it a second time.
    assert await (await relay.any_binary("home")).closed() == ALREADY_CLAIMED
    await talk(daemon, phone, "four")

    # Its network hangs, and another machine takes over.
    daemon.ws.transport.pause_reading()
    successor = await relay.any_binary("home")
    assert await phone.closed() == RECLAIMED
    daemon.ws.transport.resume_reading()
    assert await daemon.closed() == HEARTBEAT_TIMEOUT
    phone = await relay.phone(successor, "home")
    await talk(successor, phone, "five")

    # At night the relay stops.
    relay.process.terminate()
    assert await successor.closed() == SHUTTING_DOWN
    assert await phone.closed() == SHUTTING_DOWN
    assert await relay.exit_code() == 0
