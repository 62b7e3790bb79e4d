"""Peers that the network cuts off: no FIN, no reset, no reply."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from harness import BINARY, PHONE

NEAR, FAR = "10.213.77.1", "10.213.77.2"

# On the far host: a binary and its phone. They exchange one frame, and then answer pings.
PEERS = """
import asyncio, json, sys
from websockets.asyncio.client import connect

async def main(uri, binary, phone):
    async with connect(uri + "/v1/server", additional_headers=binary, proxy=None) as binary:
        async with connect(uri + "/v1/client", additional_headers=phone, proxy=None) as phone:
            await phone.send("1")
            print(await binary.recv(), flush=True)
            await asyncio.Future()

asyncio.run(main(sys.argv[1], *map(json.loads, sys.argv[2:])))
"""


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def cable():
    """A host in a network namespace, and the cable to it. `ip link set CABLE down` over there cuts it."""
    host, near, far = (f"sb{os.getpid()}{end}" for end in ("", "n", "f"))
    if os.geteuid() != 0 or not shutil.which("ip"):
        assert os.environ.get("CI") != "true", "needs root, and Debian's iproute2"
        pytest.skip("needs root, and Debian's iproute2")
    ip("netns", "add", host)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", host)
        ip("address", "add", f"{NEAR}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", host, "address", "add", f"{FAR}/30", "dev", far)
        ip("-n", host, "link", "set", far, "up")
        yield host, far
    finally:
        # Takes effect at once, unlike the removal of a namespace. The next test uses the same addresses.
        ip("link", "del", near)
        ip("netns", "del", host)


async def test_the_heartbeat_detects_peers_that_the_network_cut_off(cable, start):
    host, far = cable
    relay = await start(listen=f"{NEAR}:0", heartbeat_interval="200ms", heartbeat_timeout="1s", grace="1h")
    uri = f"ws://{NEAR}:{relay.address[1]}"
    peers = subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, "-c", PEERS, uri, json.dumps(BINARY), json.dumps(PHONE)],
        stdout=subprocess.PIPE,
    )
    try:
        assert b'"frame":1' in peers.stdout.readline()
        await relay.counts(binaries=1, phones=1)
        ip("-n", host, "link", "set", far, "down")
        await relay.counts(binaries=0, phones=0)
        assert await relay.metric("heartbeat_timeouts_total", endpoint="server") == 1
        assert await relay.metric("heartbeat_timeouts_total", endpoint="client") == 1
        assert await relay.metric("binaries_in_grace") == 1
    finally:
        peers.kill()
        peers.wait()
