"""Many clients in one process: `storm.py PORT COUNT NAME`. Opens them all, prints a line, waits for a line on its input, then
ends them in every possible way."""

import asyncio
import sys

from harness import BINARY, CLOSE, PHONE, TEXT, Raw, frame_of

PHONES = 15


class Address:
    ssl = None
    clients = []


async def main(port, count, name):
    Address.address = ("127.0.0.1", port)
    at_once = asyncio.Semaphore(100)

    async def one(path, headers, server_id):
        async with at_once:
            raw = await Raw.upgrade(Address, path, headers | {"X-Pyrycode-Server": server_id}, source=name)
        assert raw.status == 101, raw.status
        return raw

    async def family(number):
        server_id = f"{name}-{number}"
        binary = await one("/v1/server", BINARY, server_id)
        phones = [await one("/v1/client", PHONE, server_id) for _ in range(PHONES)]
        for phone in phones:
            phone.write(frame_of(TEXT, b'"hello"'))
        return [binary, *phones]

    families = await asyncio.gather(*(family(number) for number in range(count // (PHONES + 1))))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    everybody = [raw for family in families for raw in family]
    for number, raw in enumerate(everybody):
        match number % 5:
            case 0:
                raw.write(frame_of(CLOSE, b"\x03\xe8"))
            case 1:
                raw.writer.write_eof()
            case 2:
                raw.write(frame_of(TEXT, b'"half a frame"')[:9])
                raw.vanish()
            case 3:
                raw.write(frame_of(TEXT, b"1", masked=False))
            case 4:
                raw.vanish()
    for raw in everybody:
        await raw.gone()
        raw.vanish()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
