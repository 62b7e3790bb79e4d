"""Push notifications: what the gateway of the example gets, and what happens when it does not answer as it should."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import BINARY, until

EXAMPLE = Path(__file__).parents[3] / "examples/push-gateway/gateway.py"


def wake(token="SECRET-token", platform="fcm", **fields):
    return json.dumps(fields | {"push_wake": {"platform": platform, "token": token}})


async def binary_of(relay, server_id="a"):
    return await relay.connect("/v1/server", BINARY | {"X-Pyrycode-Server": server_id})


@pytest.fixture
def example(tmp_path):
    log = tmp_path / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, EXAMPLE, "0"], stdout=out, stderr=subprocess.STDOUT)
    yield log
    process.kill()
    process.wait()


class Gateway(ThreadingHTTPServer):
    """Answers with `status`, after `hold` is set. Keeps the requests and counts connections."""

    def __init__(self, status=204, location=None, held=False):
        self.requests, self.connections, self.release = [], [], threading.Event()
        if not held:
            self.release.set()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                gateway.connections.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gateway.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                gateway.release.wait()
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.request_queue_size = 64
        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/wake"


@pytest.fixture
def gateway():
    gateways = []

    def new(**how):
        gateways.append(Gateway(**how))
        return gateways[-1]

    yield new
    for each in gateways:
        each.release.set()
        each.shutdown()
        each.server_close()
        # The relay keeps them open.
        for connection in each.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


async def test_the_example_wakes_a_phone(start, example):
    port = (await until(lambda: re.search(r"port (\d+)", example.read_text())))[1]
    relay = await start(push_url=f"http://127.0.0.1:{port}/wake", log="trace")
    binary = await binary_of(relay, "läptop")
    await binary.send(wake(conn_id=None))
    await binary.send(wake(platform="apns"))
    await until(lambda: example.read_text().count("wake a phone of 'läptop'") == 2)
    await relay.metric_becomes(2, "push_wakes_total", outcome="sent")
    await binary.send(wake(platform="pigeon"))
    await relay.metric_becomes(1, "push_wakes_total", outcome="failed")
    assert await relay.metric("envelopes_dropped_total", reason="push_wake") == 0
    await until(lambda: "the gateway answered with status 400" in relay.log())
    assert "SECRET" not in relay.log()


async def test_the_gateway_gets_what_the_binary_sent(start, gateway):
    push = gateway()
    relay = await start(push_url=push.url)
    binary = await binary_of(relay)
    for number in range(3):
        await binary.send(wake(f"t{number}"))
        await relay.metric_becomes(number + 1, "push_wakes_total", outcome="sent")
    bodies = [{"server_id": "a", "platform": "fcm", "token": f"t{number}"} for number in range(3)]
    assert push.requests == [("/wake", "application/json", body) for body in bodies]
    assert len(push.connections) == 1


async def test_a_server_id_has_a_burst_of_six_and_another_one_its_own(start, gateway):
    push = gateway()
    relay = await start(push_url=push.url)
    binaries = [await binary_of(relay, server_id) for server_id in "ab"]
    for _ in range(8):
        for binary in binaries:
            await binary.send(wake())
    await relay.metric_becomes(12, "push_wakes_total", outcome="sent")
    await relay.metric_becomes(4, "push_wakes_total", outcome="rate_limited")
    assert len(push.requests) == 12
    # A binary that comes back has no new burst.
    await binaries[0].close()
    await relay.counts(binaries=1)
    await (await binary_of(relay)).send(wake())
    await relay.metric_becomes(5, "push_wakes_total", outcome="rate_limited")


async def test_a_gateway_that_does_not_answer_holds_up_nothing(start, gateway):
    push = gateway(held=True)
    relay = await start(push_url=push.url)
    binaries = [await binary_of(relay, f"s{number}") for number in range(6)]
    for binary in binaries:
        for _ in range(6):
            await binary.send(wake())
    # 32 of 36 are under way.
    await relay.metric_becomes(4, "push_wakes_total", outcome="too_many")
    await until(lambda: len(push.requests) == 32)
    phone = await relay.phone(binaries[0], server_id="s0")
    await phone.send("1")
    assert (await binaries[0].envelope())["frame"] == 1
    relay.signal(15)
    assert await relay.exit_code(limit=5) == 0
    assert relay.log().count("the relay is shutting down") == 32


async def test_a_failure_is_counted_and_nothing_is_asked_again(start, gateway):
    elsewhere = gateway()
    push = gateway(status=307, location=elsewhere.url)
    relay = await start(push_url=push.url)
    await (await binary_of(relay)).send(wake())
    await relay.metric_becomes(1, "push_wakes_total", outcome="failed")
    await asyncio.sleep(0.2)
    assert (len(push.requests), len(elsewhere.requests)) == (1, 0)

    relay = await start(push_url="http://user:SECRET@127.0.0.1:1/SECRET", log="trace")
    await (await binary_of(relay)).send(wake())
    await relay.metric_becomes(1, "push_wakes_total", outcome="failed")
    await until(lambda: "cannot reach the gateway" in relay.log())
    assert "SECRET" not in relay.log()


async def test_a_malformed_push_wake_is_dropped(start, gateway):
    push = gateway()
    relay = await start(push_url=push.url)
    binary = await binary_of(relay)
    for bad in ("1", "{}", '{"platform":"fcm"}', '{"platform":"fcm","token":""}'):
        await binary.send(f'{{"push_wake":{bad}}}')
    await relay.metric_becomes(4, "envelopes_dropped_total", reason="malformed")
    assert push.requests == []
