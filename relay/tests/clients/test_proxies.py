"""The relay behind nginx, HAProxy and Caddy, each with its file from relay/deploy."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness import LIMIT, NO_SERVER, PHONE, PROGRAM, Raw, envelope, until
from tls import context

DEPLOY = Path(__file__).parents[2] / "deploy"

# A client that is neither a proxy nor one of the relay's own machines. Those are 127.0.0.1.
STRANGER = "127.0.0.2"
FORGED = {"X-Forwarded-For": "203.0.113.9"}


def nginx(files):
    temporary = "".join(
        f"{name}_temp_path {files.cert.parent}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return {
        "listen 443": "listen {address}",
        "http://127.0.0.1:8080": "http://{relay}",
        "/etc/letsencrypt/live/relay.example/fullchain.pem": files.cert,
        "/etc/letsencrypt/live/relay.example/privkey.pem": files.key,
        "\nhttp {": f"\nhttp {{{{ access_log off; {temporary}",
        "worker_processes auto": "worker_processes 1",
        "90s": "1s",
    }


def haproxy(files):
    both = files.cert.parent / "both.pem"
    both.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    return {
        "bind :443": "bind {address}",
        "127.0.0.1:8080": "{relay}",
        "/etc/haproxy/relay.example.pem": both,
        "    log /dev/log local0\n    user haproxy\n    group haproxy\n": "",
        # Few systems of developers let it open files for more.
        "maxconn 20000": "maxconn 100",
        "inter 2s": "inter 100ms",
        "90s": "1s",
    }


def caddy(files):
    return {
        "\nrelay.example {": "\nhttps://:{port} {{\n\tbind 127.0.0.1",
        "127.0.0.1:8080": "{relay}",
        "# tls /etc/ssl/relay.example/fullchain.pem /etc/ssl/relay.example/privkey.pem": f"tls {files.cert} {files.key}",
        # Otherwise it would also listen on its port for administration and on port 80.
        "\n{\n": "\n{{\n\tadmin off\n\tauto_https disable_redirects\n",
    }


# The deployed file, the test's replacements in it, and the command that uses it.
PROXIES = {
    "nginx": ("nginx.conf", nginx, "nginx -e stderr -c {file} -g".split() + ["daemon off; pid {file}.pid;"]),
    "haproxy": ("haproxy.cfg", haproxy, "haproxy -db -f {file}".split()),
    "caddy": ("Caddyfile", caddy, "caddy run --adapter caddyfile --config {file}".split()),
}


def configured(deployed, replacements, **values):
    """A file from relay/deploy, with replacements of strings that it must contain."""
    text = (DEPLOY / deployed).read_text()
    for old, new in replacements.items():
        assert old in text, f"{deployed} does not contain {old!r}"
        text = text.replace(old, str(new).format(**values))
    return text


def free_port():
    """Below the ports that the system picks for other tests."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def accepts(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def installed(name):
    """The path of a program. Skips the test if it is missing."""
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"{name} is missing")
    return program


@pytest.fixture
async def behind(files, start, tmp_path):
    """Starts a relay and a proxy before it. The relay's clients then connect to the proxy."""
    started = []

    async def behind(name, **settings):
        deployed, replacements, command = PROXIES[name]
        program = installed(name)
        # The proxies' timeouts are 1 s here.
        defaults = {"trusted_proxies": "127.0.0.1", "heartbeat_interval": "300ms", "log_format": "json"}
        relay = await start(**defaults | settings)
        port = free_port()
        values = {"address": f"127.0.0.1:{port}", "port": port, "relay": "{}:{}".format(*relay.address)}
        file = tmp_path / deployed
        file.write_text(configured(deployed, replacements(files), **values))
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [program, *(word.format(file=file) for word in command[1:])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
            )
        started.append((process, relay, relay.address))

        def listens():
            assert process.poll() is None, (tmp_path / f"{name}.log").read_text()
            return accepts(port)

        await until(listens)
        relay.address, relay.ssl = ("127.0.0.1", port), context()
        return relay

    yield behind
    for process, relay, address in started:
        process.send_signal(signal.SIGTERM)
        process.wait()
        relay.address, relay.ssl = address, None


async def get(relay, path, source):
    """Status and body."""
    raw = await Raw.dial(relay, source=source)
    await raw.request(path, {"Host": "relay.example", "Connection": "close"})
    body = await raw.rest()
    raw.vanish()
    return raw.status, body


def addresses(relay, message):
    return {event["address"] for event in relay.events() if event["message"] == message}


@pytest.mark.parametrize("name", PROXIES)
async def test_a_typical_day_behind_a_proxy(behind, name):
    relay = await behind(name)
    binary = await relay.binary(local_addr=(STRANGER, 0))
    phone = await relay.phone(binary, local_addr=(STRANGER, 0))
    for _ in range(2):
        await phone.send('{"ask":1}')
        assert await binary.envelope() == {"conn_id": phone.conn_id, "frame": {"ask": 1}}
        await binary.send(envelope(phone.conn_id, '{"answer":2}'))
        assert await phone.frame() == b'{"answer":2}'
        # Nothing but pings, for longer than the proxy waits.
        with pytest.raises(TimeoutError):
            await phone.frame(limit=1.5)
    # The binary closes the phone, and the relay a phone without a binary.
    await binary.send(envelope(phone.conn_id, close_code=4321))
    assert (await phone.closed())[0] == 4321
    assert await (await relay.any_phone("nobody")).closed() == NO_SERVER


@pytest.mark.parametrize("name", PROXIES)
async def test_the_log_has_the_clients_address_and_none_that_the_client_made_up(behind, name):
    relay = await behind(name)
    binary = await relay.binary(local_addr=(STRANGER, 0))
    raw = await Raw.upgrade(relay, "/v1/client", PHONE | FORGED, source=STRANGER)
    assert raw.status == 101
    await until(lambda: addresses(relay, "phone connected"))
    assert addresses(relay, "binary connected") == addresses(relay, "phone connected") == {STRANGER}
    await binary.close()


@pytest.mark.parametrize("name", PROXIES)
async def test_healthz_is_for_ones_own_machines(behind, name):
    relay = await behind(name)
    status, body = await get(relay, "/healthz", "127.0.0.1")
    assert (status, b"connected_binaries" in body) == (200, True)
    status, body = await get(relay, "/healthz", STRANGER)
    assert (status, b"connected_binaries" in body) == (403, False)
    assert await get(relay, "/readyz", STRANGER) == (200, b'{"status":"ok"}')


async def test_haproxy_sends_nothing_new_to_a_relay_that_drains(behind):
    relay = await behind("haproxy", drain="1h")
    binary = await relay.binary()
    relay.signal(signal.SIGTERM)

    async def is_down():
        _, body = await get(relay, "/v1/client", STRANGER)
        return b"No server is available" in body

    await until(is_down)
    # Its connection continues.
    await binary.send(envelope("unknown", "1"))
    await relay.metric_becomes(1, "envelopes_dropped_total", reason="unknown_phone")


async def test_the_containers_health_check_succeeds_while_the_relay_serves(start, files):
    written = (DEPLOY / "Containerfile").read_text()
    words = json.loads(re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", written, re.MULTILINE)[1])
    relay = await start(tls_cert=files.cert, tls_key=files.key, ssl=context())
    _, port = relay.address_in_log("serving metrics")
    assert "SWITCHBOARD_METRICS_LISTEN=0.0.0.0:9090" in written and words[2] == "http://127.0.0.1:9090/healthz"
    assert f"ENTRYPOINT [\"{words[0]}\"]" in written
    words[0], words[2] = PROGRAM, words[2].replace(":9090", f":{port}")
    assert subprocess.run(words, timeout=LIMIT).returncode == 0
    relay.signal(signal.SIGTERM)
    await relay.exit_code()
    stopped = subprocess.run(words, timeout=LIMIT, stderr=subprocess.PIPE, text=True)
    assert stopped.returncode == 1 and stopped.stderr.startswith("error: the relay is not healthy: ")
    assert len(stopped.stderr.splitlines()) == 1
