"""The access hook, written with Python's `http.server`."""

import base64
import contextlib
import json
import signal
import socket
import ssl as tls_library
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import BINARY, NO_SERVER, PHONE, TOO_MANY_PHONES, Raw, until
from test_configuration import refused, run
from tls import AUTHORITY

ACCESS_EXPIRED = (4401, "access expired")

# No other test sends it, so that the log can be searched for it.
TOKEN = "swordfish-1c9d"
GOOD = {"Authorization": f"Bearer {TOKEN}"}


class Hook:
    """Answers with `status`, `headers` and `body`, after `delay` seconds. `only` is an `Authorization` to insist on."""

    def __init__(self, ssl=None):
        self.status, self.headers, self.body = 200, {}, b""
        self.only, self.gate = None, None
        self.questions, self.ports, self.requests, self.connections = [], set(), [], []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                hook.connections.append(self.connection)

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.questions.append(question)
                hook.ports.add(self.client_address[1])
                hook.requests.append((self.path, self.headers))
                if hook.gate:
                    hook.gate.wait(10)
                status, headers, body = hook.status, hook.headers, hook.body
                if hook.only and question["headers"].get("authorization") != hook.only:
                    status, headers, body = 401, {"WWW-Authenticate": 'Bearer realm="relay"'}, b"who are you?"
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        if ssl:
            self.server.socket = ssl.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"{'https' if ssl else 'http'}://{self.address}/ask"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answers(self, status=200, body=None, **headers):
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""

    def stop(self):
        if self.gate:
            self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        # The relay keeps its connections open, and a test ends when it has none left.
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.stop()


async def start_with(start, hook, **settings):
    return await start(access_url=hook.url, log="trace", **settings)


async def asked(relay, path="/v1/server", headers=BINARY):
    """Status, headers and body of the response to an upgrade, and drops the connection."""
    raw = await Raw.upgrade(relay, path, headers)
    body = b"" if raw.status == 101 else await raw.rest()
    raw.vanish()
    return raw.status, raw.headers, body.decode()


async def test_the_hook_is_asked_once_for_each_upgrade_over_one_connection(start, hook):
    relay = await start_with(start, hook)
    binary = await relay.connect("/v1/server", BINARY | GOOD | {"X-Other": "not for the hook"})
    phone = await relay.connect("/v1/client", PHONE | {"X-Pyrycode-Token": TOKEN})
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    assert hook.questions == [
        {
            "endpoint": "server",
            "server_id": "a",
            "address": "127.0.0.1",
            "headers": {"authorization": f"Bearer {TOKEN}"},
        },
        {"endpoint": "client", "server_id": "a", "address": "127.0.0.1", "headers": {"x-pyrycode-token": TOKEN}},
    ]
    for _ in range(5):
        assert await relay.knock("/v1/client", PHONE) == 101
    assert len(hook.ports) == 1, "the connection to the hook is kept"
    assert all(headers["Content-Type"] == "application/json" for _, headers in hook.requests)
    assert await relay.metric("access_requests_total", outcome="admitted") == 7


async def test_requests_that_are_refused_anyway_and_other_paths_are_not_asked_about(start, hook):
    relay = await start_with(start, hook, allowed_origins="https://app.example")
    assert await relay.knock("/v1/server", BINARY | {"Origin": "https://evil.example"}) == 403
    assert await relay.knock("/v1/server", BINARY | {"Sec-WebSocket-Key": "short"}) == 400
    assert await relay.knock("/v1/client", {"User-Agent": "app"}) == 400
    assert await relay.knock("/v1/server", BINARY | {"Upgrade": "h2c"}) == 426
    assert (await relay.get("/healthz"))[0] == 200
    assert hook.questions == []


async def test_a_stranger_without_a_token_cannot_claim_a_server_id_nor_end_a_grace(start, hook):
    hook.only = f"Bearer {TOKEN}"
    relay = await start_with(start, hook, grace="1h")
    owner = await relay.connect("/v1/server", BINARY | GOOD)
    phone = await relay.connect("/v1/client", PHONE | GOOD)
    await phone.send("1")
    await owner.frame()
    await owner.close()
    await relay.counts(binaries=0)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Pyrycode-Token": TOKEN}):
        status, response, body = await asked(relay, headers=BINARY | headers)
        assert (status, response["www-authenticate"]) == (401, 'Bearer realm="relay"')
        assert body == "The operator's access service asks for valid credentials. Send them and try again.\n"
    # Two tokens are not one of them.
    twice = [*UPGRADE_LINES, *BINARY.items(), ("Authorization", "Bearer x"), *GOOD.items()]
    raw = await Raw.dial(relay)
    await raw.request("/v1/server", twice)
    assert raw.status == 401
    raw.vanish()
    health = await relay.health()
    assert (health["connected_binaries"], health["connected_phones"]) == (0, 1)
    assert await relay.metric("reclaims_total") == 0
    assert await relay.metric("upgrades_total", endpoint="server", outcome="unauthorized") == 4
    owner = await relay.connect("/v1/server", BINARY | GOOD)
    assert (await phone.closed())[0] == 4404, "the owner has come back"


UPGRADE_LINES = [
    ("Host", "relay"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


async def test_the_hook_may_forbid(start, hook):
    relay = await start_with(start, hook)
    hook.answers(403, b"no JSON")
    status, headers, body = await asked(relay)
    assert (status, "www-authenticate" in headers) == (403, False)
    assert body == "The operator's access service does not allow this. Ask the operator for access.\n"
    assert await relay.metric("upgrades_total", endpoint="server", outcome="forbidden") == 1
    assert await relay.metric("access_requests_total", outcome="refused") == 1


@pytest.mark.parametrize(("status", "body", "why"), [
    (500, b"", "status 500"),
    (404, b"", "status 404"),
    (302, b"", "status 302"),
    (307, b"", "status 307"),
    (200, b"{", "line 1, column 1"),
    (200, b'{"max_phones":"' + TOKEN.encode() + b'"}', "not a JSON object"),
    (200, b" " * (64 * 1024 + 1), "too long"),
])
async def test_anything_else_admits_nobody(start, hook, status, body, why):
    relay = await start_with(start, hook)
    hook.answers(status, body, Location=f"http://{hook.address}/elsewhere", Cache_Control="max-age=60")
    for _ in range(2):
        code, _, text = await asked(relay)
        assert (code, text) == (503, "The operator's access service cannot be asked now. Try again later.\n")
    assert [path for path, _ in hook.requests] == ["/ask", "/ask"], "neither followed nor remembered"
    assert await relay.metric("upgrades_total", outcome="access_unknown") == 2
    assert await relay.metric("access_requests_total", outcome="failed") == 2
    await until(lambda: relay.log().count("upgrade refused") == 2)
    warnings = [line for line in relay.log().splitlines() if " WARN " in line and "access hook failed" in line]
    assert len(warnings) == 1
    assert why in warnings[0]
    assert TOKEN not in relay.log()
    hook.answers()
    assert (await asked(relay))[0] == 101


async def test_a_hook_that_does_not_answer_or_is_not_there_admits_nobody(start, hook):
    relay = await start_with(start, hook, access_timeout="200ms")
    hook.gate = threading.Event()
    before = time.monotonic()
    assert (await asked(relay))[0] == 503
    assert 0.2 <= time.monotonic() - before < 5
    await until(lambda: "it was not answered within --access-timeout" in relay.log())
    hook.gate.set()
    hook.gate = None
    assert (await asked(relay))[0] == 101
    relay = await start(access_url="http://127.0.0.1:1/", log="debug")
    assert (await asked(relay))[0] == 503
    await until(lambda: "Connection refused" in relay.log())


async def test_an_answer_is_remembered_for_its_max_age_and_for_its_question_only(start, hook):
    relay = await start_with(start, hook)
    hook.answers(Cache_Control="max-age=3600")

    async def knocks(headers, path="/v1/client"):
        statuses = [await relay.knock(path, headers) for _ in range(3)]
        assert len(set(statuses)) == 1
        return statuses[0], len(hook.questions)

    assert await knocks(PHONE) == (101, 1)
    assert await knocks(PHONE | {"X-Pyrycode-Token": "other"}) == (101, 2)
    assert await knocks(PHONE | {"X-Pyrycode-Server": "b"}) == (101, 3)
    assert await knocks(PHONE | {"X-Pyrycode-Version": "1"}, "/v1/server") == (101, 4)
    hook.answers(401, Cache_Control="max-age=3600", WWW_Authenticate="Bearer")
    assert await knocks(PHONE | GOOD) == (401, 5)
    assert (await asked(relay, "/v1/client", PHONE | GOOD))[1]["www-authenticate"] == "Bearer"
    hook.answers(403, Cache_Control="private, max-age=3600")
    assert await knocks(PHONE | {"Authorization": "x"}) == (403, 6)
    for number, control in enumerate(["no-store, max-age=3600", "max-age=3600, no-cache", "max-age=0", "public"]):
        before = len(hook.questions)
        hook.answers(Cache_Control=control)
        assert await knocks(PHONE | {"Authorization": f"y{number}"}) == (101, before + 3)
    assert await relay.metric("access_requests_total", outcome="remembered") == 13
    before = len(hook.questions)
    hook.answers(Cache_Control="max-age=1")
    await knocks(PHONE | {"Authorization": "z"})

    async def forgotten():
        await relay.knock("/v1/client", PHONE | {"Authorization": "z"})
        return len(hook.questions) > before + 1

    await until(forgotten)


async def test_a_connection_is_closed_when_its_access_expires(start, hook):
    relay = await start_with(start, hook, grace="1h", wait_for_binary="1h")
    hook.answers(body={"expires_in": 1}, Cache_Control="max-age=3600")
    waiting = await relay.any_phone("b")
    binary = await relay.any_binary()
    hook.answers()
    phone = await relay.phone(binary)
    assert await binary.closed() == ACCESS_EXPIRED
    assert await waiting.closed() == ACCESS_EXPIRED
    assert await relay.metric("refusals_total", kind="access_expired") == 2
    await until(lambda: 'why="access expired"' in relay.log())
    # The grace is as usual, and the answer is not used beyond its own end.
    await relay.metric_becomes(1, "binaries_in_grace")
    questions = len(hook.questions)
    back = await relay.any_binary()
    assert len(hook.questions) == questions + 1
    assert (await phone.closed())[0] == 4404
    hook.answers(body={"expires_in": 1})
    phone = await relay.phone(back)
    assert await phone.closed() == ACCESS_EXPIRED
    assert (await back.envelope())["conn_id"] == phone.conn_id


async def test_a_binary_whose_access_expires_while_it_waits_for_an_incumbent_takes_nothing_over(start, hook):
    relay = await start_with(start, hook, probe_timeout="1h")
    silent = await relay.raw_binary()
    hook.answers(body={"expires_in": 1})
    late = await relay.any_binary()
    assert await late.closed() == ACCESS_EXPIRED
    assert (await relay.health())["connected_binaries"] == 1
    assert await relay.metric("takeovers_total") == 0
    silent.vanish()


async def test_the_hook_may_lower_the_limit_of_phones_and_not_raise_it(start, hook):
    relay = await start_with(start, hook, max_phones=2, probe_timeout="1s")
    binary = await relay.binary()
    hook.answers(body={"max_phones": 0})
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    hook.answers(body={"max_phones": 1})
    one = await relay.phone(binary)
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    hook.answers(body={"max_phones": 99})
    two = await relay.phone(binary)
    assert await (await relay.any_phone()).closed() == TOO_MANY_PHONES
    assert (await relay.health())["connected_phones"] == 2
    hook.answers(body={"max_phones": 1})
    assert await (await relay.any_phone("nobody")).closed() == NO_SERVER
    for phone in (one, two):
        await phone.send("1")
        assert (await binary.envelope())["frame"] == 1


async def test_the_place_of_a_grace_is_kept_until_the_hook_admits(start, hook):
    relay = await start_with(start, hook, grace="1h", max_connections=1)
    await (await relay.binary()).close()
    await relay.metric_becomes(1, "binaries_in_grace")
    hook.answers(401)
    assert await relay.knock("/v1/server", BINARY) == 401
    hook.answers(500)
    assert await relay.knock("/v1/server", BINARY) == 503
    assert len(hook.questions) == 3
    assert await relay.knock("/v1/server", BINARY | {"X-Pyrycode-Server": "b"}) == 503
    assert len(hook.questions) == 3, "the relay is full"
    assert await relay.metric("connections") == 1
    hook.answers()
    await relay.binary()
    assert await relay.metric("reclaims_total") == 1


async def test_a_client_that_leaves_while_the_hook_is_asked_leaves_nothing_behind(start, hook):
    hook.gate = threading.Event()
    relay = await start_with(start, hook, access_timeout="1h", max_connections=1)
    raw = await Raw.dial(relay)
    lines = [b"GET /v1/server HTTP/1.1"]
    lines += [f"{name}: {value}".encode() for name, value in [*UPGRADE_LINES, *BINARY.items()]]
    raw.write(b"\r\n".join([*lines, b"", b""]))
    await until(lambda: hook.questions)
    assert await relay.metric("connections") == 1
    raw.vanish()
    await relay.metric_becomes(0, "connections")
    hook.gate.set()
    hook.gate = None
    await relay.binary()


async def test_a_shutdown_that_begins_while_the_hook_is_asked_refuses(start, hook):
    hook.gate = threading.Event()
    relay = await start_with(start, hook, access_timeout="1h", drain="2s")
    hook.gate.set()
    binary = await relay.binary("other")
    hook.gate.clear()
    raw = await Raw.dial(relay)
    lines = [b"GET /v1/server HTTP/1.1"]
    lines += [f"{name}: {value}".encode() for name, value in [*UPGRADE_LINES, *BINARY.items()]]
    raw.write(b"\r\n".join([*lines, b"", b""]))
    await until(lambda: len(hook.questions) == 2)
    relay.signal(signal.SIGTERM)
    assert (await raw.rest()).startswith(b"HTTP/1.1 503 ")
    await binary.closed()
    assert await relay.exit_code() == 0
    assert 'error=The relay is shutting down' in relay.log()


async def test_a_header_that_is_not_utf_8_is_refused(start, hook):
    relay = await start_with(start, hook)
    status, _, body = await asked(relay, headers=BINARY | {"Authorization": b"Bearer \xff"})
    assert (status, body) == (400, "Header authorization is not valid UTF-8.\n")
    assert hook.questions == []


async def test_no_token_and_no_password_of_the_hook_is_logged_at_any_level(start, hook):
    url = f"http://me:{TOKEN}@{hook.address}/ask?key={TOKEN}"
    hook.answers(body={"user": TOKEN, "expires_in": 3600})
    relay = await start(access_url=url, log="trace", access_headers="authorization,x-pyrycode-token,x-a")
    binary = await relay.connect("/v1/server", BINARY | GOOD | {"X-A": TOKEN})
    phone = await relay.connect("/v1/client", PHONE | {"X-Pyrycode-Token": TOKEN})
    await phone.send("1")
    await binary.frame()
    basic = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    assert hook.requests[0][1]["Authorization"] == basic
    assert hook.questions[0]["headers"] == {"authorization": f"Bearer {TOKEN}", "x-a": TOKEN}
    for status in (401, 403, 500):
        hook.answers(status, TOKEN.encode(), WWW_Authenticate=f'Bearer realm="{TOKEN}"')
        assert await relay.knock("/v1/client", PHONE | GOOD) in (401, 403, 503)
    hook.stop()
    assert await relay.knock("/v1/client", PHONE | GOOD) == 503
    await until(lambda: relay.log().count("upgrade refused") == 4)
    for secret in (TOKEN, basic.split()[1]):
        assert secret not in relay.log()


def hook_with_tls(tmp_path, host):
    issued = AUTHORITY.issue_cert(host)
    context = tls_library.SSLContext(tls_library.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    ca = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(ca)
    return Hook(context), ca


async def test_the_hook_may_use_tls_with_a_certificate_of_the_given_authority(start, tmp_path):
    hook, ca = hook_with_tls(tmp_path, "127.0.0.1")
    relay = await start_with(start, hook, access_ca=ca)
    assert await relay.knock("/v1/client", PHONE) == 101
    assert len(hook.questions) == 1
    stranger = await start_with(start, hook)
    assert await stranger.knock("/v1/client", PHONE) == 503
    await until(lambda: "invalid peer certificate" in stranger.log())
    hook.stop()
    hook, ca = hook_with_tls(tmp_path, "127.0.0.2")
    relay = await start_with(start, hook, access_ca=ca)
    assert await relay.knock("/v1/client", PHONE) == 503
    assert hook.questions == []
    hook.stop()


@pytest.mark.parametrize(("content", "problem"), [
    (None, "No such file"),
    ("", "it contains no certificate in PEM"),
])
def test_authorities_that_cannot_be_used_are_an_error_at_the_start(tmp_path, content, problem):
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    listeners = ["--listen=127.0.0.1:0", "--metrics-listen=off"]
    result = run(*listeners, "--access-url=https://hook.example/", f"--access-ca={ca}")
    assert problem in refused(result, 2, "--access-ca")
