"""Measures what a client without any right can make the relay hold: `guests.py`, with the program in SWITCHBOARD_RELAY."""

import asyncio
import os
import tempfile
from pathlib import Path

from harness import BINARY, PHONE, PING, TEXT, Raw, Relay, frame_of

TICKS = os.sysconf("SC_CLK_TCK")


def cpu(relay):
    fields = Path(f"/proc/{relay.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / TICKS


async def settle(relay):
    """Waits until the relay does nothing, and returns its memory in KiB."""
    before = None
    while before != (before := cpu(relay)):
        await asyncio.sleep(0.5)
    return relay.memory() * 1024


async def dial(relay, address=None):
    # A quick network: what the system holds for a client is not the relay's.
    return await Raw.dial(relay, address)


async def per_client(relay, count, one):
    before = await settle(relay)
    clients = [await one(number) for number in range(count)]
    held = (await settle(relay) - before) / count
    return held, clients


async def headers(relay):
    async def one(_, size):
        raw = await dial(relay)
        raw.write(b"GET /v1/client HTTP/1.1\r\nX-Long: " + b"x" * size)
        return raw

    for size in (15, 400):
        held, _ = await per_client(relay, 200, lambda number: one(number, size * 1024))
        print(f"headers of {size} KiB that do not end: {held:.0f} KiB a connection")


async def graces(relay):
    async def one(number):
        raw = await Raw.upgrade(relay, "/v1/server", BINARY | {"X-Pyrycode-Server": f"grace-{number}"})
        raw.vanish()
        return raw.status

    held, statuses = await per_client(relay, 3000, one)
    print(f"server-ids in grace: {held:.1f} KiB each, {statuses.count(101)} of {len(statuses)} accepted")


async def claims(relay):
    await Raw.upgrade(relay, "/v1/server", BINARY)
    challengers = [await dial(relay) for _ in range(1500)]
    before = cpu(relay)
    for raw in challengers:
        await raw.ask_for_upgrade("/v1/server", BINARY)
    await settle(relay)
    print(f"1,500 claims on a silent incumbent: {cpu(relay) - before:.2f} s of CPU, upgrades included")


async def readers(relay):
    address = relay.address_in_log("serving metrics")
    await asyncio.sleep(30)

    async def one(_):
        raw = await dial(relay, address)
        raw.writer.transport.pause_reading()
        raw.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return raw

    held, _ = await per_client(relay, 200, one)
    print(f"readers of the page that do not read: {held * 200:.0f} KiB for 200 of them, 30 s after the start")


async def messages(relay):
    binary = await Raw.upgrade(relay, "/v1/server", BINARY)

    async def read_all():
        while await binary.reader.read(1 << 16):
            pass

    # What waits for the binary would be the outbox's.
    reading = asyncio.create_task(read_all())
    size = 256 * 1024

    async def one(_, *frames):
        raw = await Raw.upgrade(relay, "/v1/client", PHONE)
        raw.writer.transport.pause_reading()
        for frame in frames:
            raw.write(frame)
            try:
                await asyncio.wait_for(raw.writer.drain(), 1)
            except TimeoutError:
                break
        return raw

    whole = frame_of(TEXT, b'"' + b"x" * (size - 2) + b'"')
    begun = whole[: size - 1000]
    # Fragments that make a buffer grow that doubles, and a header that promises more.
    fragments = [frame_of(TEXT, b"x" * 130_000, last=False), frame_of(0, b"x" * 40_000, last=False)]
    more = frame_of(0, b"x" * (size - 170_000), last=False)[:-1000]
    for name, frames in [
        ("nothing", []),
        ("a message, 16 KiB long", [frame_of(TEXT, b"x" * 16 * 1024)]),
        ("a message that is not complete", [begun]),
        ("fragments that are not complete", [*fragments, more]),
        ("the same after a whole message", [whole, *fragments, more]),
        ("pings, and reads nothing", [frame_of(PING, b"x" * 125) * 1000] * 40),
    ]:
        held, clients = await per_client(relay, 50, lambda number: one(number, *frames))
        print(f"a phone that sent {name}: {held:.0f} KiB a connection")
        for raw in clients:
            raw.vanish()
    reading.cancel()


async def main():
    settings = {"message_timeout": "1h", "header_timeout": "1h", "probe_timeout": "1h"}
    help_text = os.popen(f"{os.environ['SWITCHBOARD_RELAY']} --help").read()
    with tempfile.TemporaryDirectory() as directory:
        for measure, more in [
            (headers, {}),
            (graces, {"grace": "1h"}),
            (claims, {}),
            (readers, {}),
            (messages, {"max_phones": 1000, "heartbeat_interval": "1h", "write_timeout": "1h"}),
        ]:
            flags = settings | more | ({} if "--max-per-address" in help_text else {"max_per_address": None})
            relay = Relay(Path(directory), **flags)
            await relay.listens()
            await measure(relay)
            relay.process.kill()
            relay.process.wait()


asyncio.run(main())
