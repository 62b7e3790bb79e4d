"""Proxies that send a PROXY protocol header. The proxy is 127.0.0.2 here; other addresses send no header."""

import asyncio
import ssl
import subprocess
import time

import pytest

import tls
from harness import BINARY, LIMIT, NO_SERVER, PHONE, Raw, envelope, until, within
from test_proxies import accepts, free_port, installed

PROXY = "127.0.0.2"
CLIENT = "198.51.100.7"
FORGED = {"X-Forwarded-For": "203.0.113.9"}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(client=CLIENT, command=0x21, family=0x11, more=b""):
    addresses = bytes(int(it) for it in f"{client}.127.0.0.1".split("."))
    rest = addresses + (12345).to_bytes(2) + (443).to_bytes(2) + more
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2) + rest


@pytest.fixture(params=["plain", "tls"])
async def start_behind(request, start, files):
    """Starts a relay that expects headers of the proxy, without and with TLS."""

    async def start_behind(**settings):
        settings = {"proxy_protocol": "on", "trusted_proxies": PROXY, "log": "debug", "log_format": "json"} | settings
        if request.param == "tls":
            return await tls.start_with(start, files, **settings)
        return await start(**settings)

    return start_behind


def named(relay, message):
    """The addresses in the log's lines with this message."""
    return [event["address"] for event in relay.events() if event["message"] == message]


async def upgrade(relay, path="/v1/server", headers=BINARY, first=None):
    return await Raw.upgrade(relay, path, headers, source=PROXY, first=header() if first is None else first)


async def refused(relay, first, wait=0):
    """Sends bytes as the proxy, and expects that the relay closes the connection without a word."""
    reader, writer = await within(asyncio.open_connection(*relay.address, local_addr=(PROXY, 0)))
    for part in [first] if isinstance(first, bytes) else first:
        writer.write(part)
        await asyncio.sleep(wait)
    try:
        assert await within(reader.read()) == b""
    except ConnectionError:
        # The system resets a connection with unread bytes.
        pass
    writer.transport.abort()


async def test_the_client_is_the_one_that_the_header_names(start_behind):
    relay = await start_behind()
    binary = await upgrade(relay, headers=BINARY | FORGED)
    assert binary.status == 101
    await until(lambda: named(relay, "binary connected"))
    assert named(relay, "binary connected") == [CLIENT]
    # Frames arrive, and with extensions of the header, too.
    phone = await upgrade(relay, "/v1/client", PHONE, header("198.51.100.8", more=b"\x04\x03\xe8" + bytes(1000)))
    await phone.send(1, b'"hello"')
    assert b"hello" in (await binary.read())[1]
    await until(lambda: named(relay, "phone connected") == ["198.51.100.8"])


async def test_a_header_that_names_a_trusted_proxy_lets_it_speak_for_its_client(start_behind):
    relay = await start_behind()
    await upgrade(relay, headers=BINARY | FORGED, first=header(PROXY))
    await until(lambda: named(relay, "binary connected"))
    assert named(relay, "binary connected") == [FORGED["X-Forwarded-For"]]


async def test_a_proxy_may_connect_for_itself(start_behind):
    relay = await start_behind()
    await upgrade(relay, first=header(command=0x20))
    await until(lambda: named(relay, "binary connected"))
    assert named(relay, "binary connected") == [PROXY]


async def test_others_send_no_header_and_are_not_believed(start_behind):
    relay = await start_behind()
    assert await (await relay.any_phone("nobody")).closed() == NO_SERVER
    raw = await within(Raw.dial(relay, relay.address))
    raw.write(header() + b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
    try:
        answer = await raw.rest()
    except ConnectionError:
        answer = b""
    raw.vanish()
    assert b"200" not in answer
    assert CLIENT not in relay.log()


BAD = {
    "missing": b"GET /v1/server HTTP/1.1\r\nHost: relay\r\n\r\n",
    "version 1": b"PROXY TCP4 198.51.100.7 127.0.0.1 12345 443\r\n",
    "malformed": header(command=0x23),
    "without room": SIGNATURE + bytes([0x21, 0x11, 0, 4, 1, 2, 3, 4]),
    # Its end never comes.
    "oversized": SIGNATURE + bytes([0x21, 0x11, 0xff, 0xff]) + bytes(100),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_connection_without_a_valid_header_is_closed(start_behind, name):
    relay = await start_behind(header_timeout="1h")
    await refused(relay, BAD[name])
    await relay.metric_becomes(1, "requests_unheard_total", reason="proxy_header")
    await until(lambda: named(relay, "connection refused"))
    assert named(relay, "connection refused") == [PROXY]


async def test_a_header_that_trickles_is_given_up_and_delays_nobody(start_behind):
    relay = await start_behind(header_timeout="500ms")
    began = time.monotonic()
    trickle = asyncio.create_task(refused(relay, [header()[at : at + 1] for at in range(14)], wait=0.1))
    silent = asyncio.create_task(refused(relay, b""))
    assert (await upgrade(relay)).status == 101
    assert time.monotonic() - began < 0.5
    await silent
    await trickle
    # The trickle takes 1.4 s.
    assert time.monotonic() - began < 3
    await relay.metric_becomes(2, "requests_unheard_total", reason="proxy_header")
    assert named(relay, "connection refused") == [PROXY] * 2


async def test_a_header_that_comes_in_parts_is_read(start):
    relay = await start(proxy_protocol="on", trusted_proxies=PROXY)
    raw = await Raw.dial(relay, source=PROXY)
    relay.clients.append(raw)
    for byte in header():
        raw.write(bytes([byte]))
        await asyncio.sleep(0.002)
    await raw.ask_for_upgrade("/v1/server", BINARY)
    assert raw.status == 101


async def test_the_limits_for_an_address_are_those_of_the_client(start_behind):
    relay = await start_behind(max_per_address=2)
    # Before the upgrade.
    waiting = [await Raw.dial(relay, source=PROXY, first=header()) for _ in range(2)]
    if relay.ssl is None:
        third = await Raw.dial(relay, source=PROXY, first=header())
        await third.request("/readyz", {"Host": "relay"})
        assert third.status == 429
        third.vanish()
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Raw.dial(relay, source=PROXY, first=header())
    await relay.metric_becomes(1, "requests_unheard_total", reason="too_many_from_address")
    await until(lambda: named(relay, "connection refused"))
    assert named(relay, "connection refused") == [CLIENT]
    assert (await upgrade(relay, first=header("198.51.100.8"))).status == 101
    for raw in waiting:
        raw.vanish()

    # And after it.
    async def is_admitted():
        try:
            return (await upgrade(relay, "/v1/client", PHONE)).status == 101
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            return False

    await until(is_admitted)
    assert (await upgrade(relay, "/v1/client", PHONE)).status == 101
    assert (await upgrade(relay, "/v1/client", PHONE)).status == 429
    assert await relay.metric("upgrades_total", outcome="address_over_capacity") == 1


async def test_connections_whose_header_is_awaited_have_places(start_behind):
    relay = await start_behind(max_connections=1, header_timeout="1h")
    # A quarter of --max-connections, and 256.
    waiting = [await asyncio.open_connection(*relay.address, local_addr=(PROXY, 0)) for _ in range(257)]
    await relay.metric_becomes(1, "requests_unheard_total", reason="too_many")
    for _, writer in waiting:
        writer.transport.abort()


async def test_a_shutdown_does_not_wait_for_a_header(start_behind):
    relay = await start_behind(header_timeout="1h", shutdown_timeout="1h")
    _, writer = await asyncio.open_connection(*relay.address, local_addr=(PROXY, 0))
    writer.write(SIGNATURE)
    await asyncio.sleep(0.1)
    relay.signal(15)
    assert await relay.exit_code() == 0
    writer.transport.abort()


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen clients
    bind 127.0.0.1:{port}
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host relay.example
    server relay {relay} source 127.0.0.2 send-proxy-v2 check inter 100ms fall 1 rise 1 check-send-proxy {check}
"""


async def test_haproxy(start_behind, tmp_path):
    program = installed("haproxy")
    relay = await start_behind()
    direct, port = relay.address, free_port()
    file = tmp_path / "haproxy.cfg"
    check = "check-ssl verify none" if relay.ssl else ""
    file.write_text(HAPROXY.format(port=port, relay="{}:{}".format(*direct), check=check))
    process = subprocess.Popen([program, "-db", "-f", file], stdin=subprocess.DEVNULL)
    try:
        await until(lambda: accepts(port))
        relay.address = ("127.0.0.1", port)
        binary = await relay.any_binary(local_addr=("127.0.0.3", 0))
        phone = await relay.phone(binary, local_addr=("127.0.0.4", 0))
        await binary.send(envelope(phone.conn_id, '"back"'))
        assert await phone.frame() == b'"back"'
        await until(lambda: named(relay, "phone connected"))
        assert named(relay, "binary connected") == ["127.0.0.3"]
        assert named(relay, "phone connected") == ["127.0.0.4"]
        # Its checks connect for itself: LOCAL. They would fail twice by now.
        await asyncio.sleep(0.3)
        assert await (await relay.any_phone("nobody")).closed() == NO_SERVER
        assert await relay.metric("requests_unheard_total", reason="proxy_header") == 0
    finally:
        relay.address = direct
        process.terminate()
        process.wait(LIMIT)
