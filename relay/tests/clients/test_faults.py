"""Faults of clients and of the system must not harm the relay."""

import asyncio
import signal
import sys

from harness import PING, TEXT, Raw, envelope, frame_of, until, within

CHILD = """
import asyncio, sys
from harness import *

class Address:
    address, ssl, clients = (sys.argv[1], int(sys.argv[2])), None, []

async def main():
    raw = await Raw.upgrade(Address, sys.argv[3], BINARY if sys.argv[3] == "/v1/server" else PHONE)
    whole = frame_of(BYTES, text_of(100_000).encode())
    raw.write(whole[: len(whole) // 2])
    await raw.writer.drain()
    print("half a frame", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


async def child_in_mid_frame(relay, path):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, *map(str, relay.address), path, stdout=asyncio.subprocess.PIPE, cwd=sys.path[0]
    )
    assert await within(child.stdout.readline()) == b"half a frame\n"
    return child


async def kill(child):
    child.send_signal(signal.SIGKILL)
    await child.wait()


async def test_a_binary_killed_in_mid_frame_is_in_grace_and_can_come_back(start):
    relay = await start()
    other, bystander = await relay.pair("b")
    child = await child_in_mid_frame(relay, "/v1/server")
    await relay.counts(binaries=2)
    phone = await relay.any_phone()
    await relay.counts(phones=2)
    await kill(child)
    await relay.counts(binaries=1, phones=2)
    binary = await relay.binary()
    assert (await phone.closed())[0] == 4404
    await relay.phone(binary)
    await bystander.send("1")
    assert (await other.envelope())["frame"] == 1


async def test_a_phone_killed_in_mid_frame_leaves_with_a_notice_and_without_half_a_frame(start):
    relay = await start()
    binary, sibling = await relay.pair()
    child = await child_in_mid_frame(relay, "/v1/client")
    await relay.counts(phones=2)
    await kill(child)
    gone = await binary.envelope()
    assert gone == {"conn_id": gone["conn_id"], "close_code": 1001}
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


async def test_a_client_that_never_finishes_its_headers_is_disconnected(start):
    relay = await start(header_timeout="500ms")
    binary, phone = await relay.pair()
    silent, halting, dripping, again = [await Raw.dial(relay) for _ in range(4)]
    halting.write(b"GET /v1/server HTTP/1.1\r\nHost: relay\r\nX-Pyry")
    again.write(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
    await again.reader.readuntil(b"}")
    again.write(b"GET /healthz")

    async def drip():
        dripping.write(b"GET /v1/server HTTP/1.1\r\n")
        while True:
            dripping.write(b"X-Drop: 1\r\n")
            await asyncio.sleep(0.05)

    dripping_on = asyncio.create_task(drip())
    for raw in (halting, dripping, again, silent):
        await raw.gone()
        raw.vanish()
    dripping_on.cancel()
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1


async def test_a_connection_is_not_cut_off_after_its_upgrade(start):
    relay = await start(header_timeout="300ms")
    clock = await Raw.dial(relay)
    binary, phone = await relay.pair()
    late = await Raw.dial(relay)
    await clock.gone()
    await late.gone()
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    for raw in (clock, late):
        raw.vanish()


async def test_headers_without_end_are_refused(start):
    relay = await start()
    endless = await Raw.dial(relay)
    endless.write(b"GET /v1/server HTTP/1.1\r\n" + b"X-Header: " + b"x" * (2 << 20))
    await endless.gone()
    endless.vanish()
    await relay.pair()


async def test_no_kind_of_disconnect_leaves_anything_behind(start):
    relay = await start()
    binary, sibling = await relay.pair()
    half = frame_of(TEXT, b'"' + b"x" * 1000 + b'"')
    for data in [
        b"",
        half[:1],
        half[:3],
        half[:500],
        frame_of(TEXT, b'"half', last=False),
        frame_of(TEXT, b'"half', last=False) + half,
        frame_of(8, b"\x03\xe8"),
        frame_of(9, b"ping") * 100,
        b"\x81\xff" + b"\x7f" + bytes(11),
        bytes(1000),
        b"GET / HTTP/1.1\r\n\r\n",
    ]:
        for graceful in (True, False):
            phone = await relay.raw_phone(binary)
            phone.write(data)
            if graceful:
                phone.writer.write_eof()
            else:
                phone.vanish()
            gone = await binary.envelope()
            assert gone["conn_id"] == phone.conn_id and "frame" not in gone, data
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id
    await relay.counts(binaries=1, phones=1)
    await relay.metric_becomes(2, "connections")


async def test_without_descriptors_the_relay_goes_on_and_recovers(start):
    relay = await start(descriptors=64)
    binary, phone = await relay.pair()
    crowd = []
    for _ in range(100):
        raw = await Raw.dial(relay)
        raw.write(b"GET /v1/client HTTP/1.1\r\n")
        crowd.append(raw)
    await until(lambda: relay.descriptors() == 64)
    for number in range(100):
        await phone.send(str(number))
        assert (await binary.envelope())["frame"] == number
        await binary.send(envelope(phone.conn_id, str(number)))
        assert await phone.frame() == str(number).encode()
    for raw in crowd:
        raw.vanish()
    await relay.phone(binary)
    # Failed attempts are not all logged: at most one warning every 10 seconds.
    assert len(relay.log().splitlines()) < 1000


async def test_pings_of_a_phone_that_does_not_read_do_not_fill_the_memory(start):
    relay = await start(write_timeout="1h")
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)
    before = relay.memory()
    # 60 MiB of pings; the pongs would be as much again.
    flood = frame_of(PING, bytes(125)) * 1000
    for _ in range(480):
        phone.write(flood)
        await within(phone.writer.drain())
    # The last frame that the relay reads.
    await phone.send(TEXT, b"1")
    assert (await binary.envelope())["frame"] == 1
    assert relay.memory() - before < 20
