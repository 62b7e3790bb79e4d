"""Ten thousand connections that open and close at once."""

import asyncio
import sys

import pytest

from harness import envelope, until, within

CONNECTIONS, PROCESSES = 10_000, 4


async def storm(relay, number):
    """Opens them all, then ends them all."""
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "storm.py", str(relay.address[1]), str(CONNECTIONS // PROCESSES), f"127.0.{number}.{child}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=sys.path[0],
        )
        for child in range(1, PROCESSES + 1)
    ]
    try:
        for child in children:
            assert await within(child.stdout.readline(), 60) == b"open\n"
        yield
        for child in children:
            child.stdin.write(b"\n")
        for child in children:
            assert await within(child.wait(), 60) == 0
    finally:
        for child in children:
            if child.returncode is None:
                child.kill()


@pytest.mark.timeout(120)
async def test_a_storm_of_connections_leaves_nothing_behind(start):
    relay = await start(max_connections=CONNECTIONS + 100, grace="1s")
    binary, phone = await relay.pair("bystander")
    talked = 0

    async def talk():
        nonlocal talked
        while True:
            await phone.send(str(talked))
            assert (await binary.envelope())["frame"] == talked
            await binary.send(envelope(phone.conn_id, str(talked)))
            assert await phone.frame() == str(talked).encode()
            talked += 1
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(talk())
    memory = []
    for number in range(1, 4):
        async for _ in storm(relay, number):
            families = CONNECTIONS // PROCESSES // 16 * PROCESSES
            await relay.metric_becomes(families * 16 + 2, "connections")
            await relay.counts(binaries=families + 1, phones=families * 15 + 1)
        await relay.counts(binaries=1, phones=1)
        await relay.metric_becomes(2, "connections")
        await relay.metric_becomes(0, "binaries_in_grace")
        # The two that exchange frames.
        await until(lambda: relay.descriptors() <= relay.descriptors_at_start + 2)
        memory.append(relay.memory())
    talking.cancel()
    assert not talking.done() and talked > 0
    # In MiB: the memory that the allocator keeps after a storm is bounded, and suffices for the next ones.
    assert memory[0] < CONNECTIONS * 40 / 1024, memory
    assert memory[2] < memory[1] + 16, memory
