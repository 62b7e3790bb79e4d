"""The admin API: listing server-ids, and evicting them and their phones."""

import asyncio
import http.client
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest

from harness import NO_SERVER, PHONE, envelope, environment, notice, text_of, until
from test_configuration import refused, run

TOKEN = "correct-horse-battery-staple"
EVICTED = "evicted by operator"
STRANGE = ["a/b", "50%", "%2F", "é ü", "東京", 'say "hi"', "a\\b", "?x=1&y#z", "+", "a b", "<script>", "\u00ad", ".", "..", "a//b/"]


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


class Api:
    def __init__(self, relay):
        self.relay = relay
        self.address = relay.address_in_log("serving metrics")

    def request(self, method, path, *, token=TOKEN, headers=None, **query):
        """Returns status, headers and body."""
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        query = f"?{urlencode(query)}" if query else ""
        connection.request(method, path + query, headers=authorization | (headers or {}))
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers, body

    def json(self, path, **query):
        status, headers, body = self.request("GET", path, **query)
        assert status == 200, body
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
        return json.loads(body)

    def error(self, wanted, method, path, **options):
        status, headers, body = self.request(method, path, **options)
        assert status == wanted, (status, body)
        assert headers["content-type"] == "application/json"
        assert json.loads(body).keys() == {"error"}
        return headers, json.loads(body)["error"]

    def evict(self, *names, **query):
        status, _, body = self.request("DELETE", path(*names), **query)
        assert (status, body) == (204, b"")


def path(server_id, conn_id=None):
    phone = "" if conn_id is None else f"/phones/{quote(conn_id, safe='')}"
    return f"/servers/{quote(server_id, safe='')}{phone}"


@pytest.fixture
def started(start, token_file):
    async def started(**options):
        relay = await start(admin_token_file=token_file, **options)
        return relay, Api(relay)

    return started


def assert_is_recent(since):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", since)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(since)) < timedelta(minutes=1)


async def test_the_list_says_who_holds_a_server_id(started):
    relay, api = await started()
    assert api.json("/servers") == {"servers": [], "next": None}
    await relay.pair("b")
    gone, _ = await relay.pair("a")
    gone.vanish()
    await relay.counts(binaries=1)
    page = api.json("/servers")
    assert page["next"] is None
    first, second = page["servers"]
    assert (first["server_id"], first["status"], first["phones"]) == ("a", "grace", 1)
    assert (second["server_id"], second["status"], second["phones"]) == ("b", "present", 1)
    assert (second["version"], second["address"]) == ("1.0", "127.0.0.1")
    assert second["epoch"] != first["epoch"]
    assert second["conn_id"].startswith("server-b-")
    assert_is_recent(second["since"])
    assert second.keys() == {"server_id", "status", "since", "version", "address", "phones", "epoch", "conn_id"}


@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_pages_have_all_server_ids_whatever_their_names(started, limit):
    relay, api = await started()
    for name in STRANGE:
        await relay.any_binary(name)
    await relay.counts(binaries=len(STRANGE))
    seen, query = [], {}
    while True:
        page = api.json("/servers", limit=limit, **query)
        seen += [server["server_id"] for server in page["servers"]]
        if page["next"] is None:
            break
        assert len(page["servers"]) == limit
        assert page["next"] == seen[-1]
        query = {"after": page["next"]}
    assert seen == sorted(STRANGE, key=str.encode)
    assert api.json("/servers", after="\U0010ffff") == {"servers": [], "next": None}


@pytest.mark.parametrize("name", STRANGE)
async def test_any_server_id_can_be_named_in_a_path(started, name):
    relay, api = await started()
    binary, phone = await relay.pair(name)
    server = api.json(path(name))
    assert server["server_id"] == name
    [listed] = server["phone_list"]
    assert listed["conn_id"] == phone.conn_id
    api.evict(name, phone.conn_id)
    assert await phone.closed() == (1008, EVICTED)
    assert await binary.envelope() == {"conn_id": phone.conn_id, "close_code": 1001}
    api.evict(name)
    assert await binary.closed() == (1008, EVICTED)
    api.error(404, "GET", path(name))


async def test_the_detail_says_what_is_queued_for_each_phone(started):
    relay, api = await started(heartbeat_timeout="1h", write_timeout="1h")
    binary = await relay.binary()
    slow = await relay.raw_phone(binary, room=4096)
    quick = await relay.connect("/v1/client", PHONE | {"X-Pyrycode-Device-Name": "Fairphone"})
    await quick.send("1")
    quick.conn_id = (await binary.envelope())["conn_id"]
    frame = text_of(10_000)
    for _ in range(30):
        await binary.send(envelope(slow.conn_id, frame))
    await binary.send(envelope(quick.conn_id, "2"))
    assert await quick.frame() == b"2"
    server = api.json("/servers/a")
    assert (server["server_id"], server["phones"]) == ("a", 2)
    first, second = server["phone_list"]
    assert (first["conn_id"], first["device"], first["address"]) == (slow.conn_id, None, "127.0.0.1")
    assert (second["conn_id"], second["device"]) == (quick.conn_id, "Fairphone")
    assert first.keys() == {"conn_id", "address", "device", "since", "queued_bytes"}
    assert_is_recent(first["since"])
    # Whole frames, and the system holds some of them.
    assert 0 < first["queued_bytes"] <= 30 * (10_000 + 64)
    assert first["queued_bytes"] % (10_000 + 64) == 0

    async def has_flushed():
        return api.json("/servers/a")["phone_list"][1]["queued_bytes"] == 0

    await until(has_flushed)


async def test_an_evicted_server_id_is_free_at_once_and_has_no_grace(started):
    relay, api = await started(grace="1h")
    binary, first = await relay.pair()
    second = await relay.phone(binary)
    other, its_phone = await relay.pair("b")
    api.evict("a", code=4321)
    for peer in (binary, first, second):
        assert await peer.closed() == (4321, EVICTED)
    assert await relay.metric("binaries_in_grace") == 0
    assert await relay.metric("evictions_total", kind="server_id") == 1
    api.error(404, "GET", "/servers/a")
    api.error(404, "DELETE", "/servers/a")
    assert await (await relay.any_phone()).closed() == NO_SERVER
    await relay.binary()
    await its_phone.send("1")
    assert (await other.envelope())["frame"] == 1
    [line] = [line for line in relay.log().splitlines() if "server-id evicted" in line]
    assert " INFO " in line and 'server_id="a"' in line and "code=4321" in line and "phones=2" in line
    assert "operator=127.0.0.1" in line and 'conn_id="server-a-' in line


async def test_a_server_id_in_grace_can_be_evicted(started):
    relay, api = await started(grace="1h")
    binary, phone = await relay.pair()
    await binary.close()
    await relay.metric_becomes(1, "binaries_in_grace")
    api.evict("a")
    assert await phone.closed() == (1008, EVICTED)
    await relay.metric_becomes(0, "binaries_in_grace")
    await relay.metric_becomes(0, "connections")
    assert api.json("/servers")["servers"] == []


async def test_a_phone_is_evicted_and_its_binary_is_told(started):
    relay, api = await started()
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    api.evict("a", phone.conn_id, code=3000)
    assert await phone.closed() == (3000, EVICTED)
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await relay.counts(phones=1)
    api.error(404, "DELETE", path("a", phone.conn_id))
    api.error(404, "DELETE", path("nobody", sibling.conn_id))
    [listed] = api.json("/servers/a")["phone_list"]
    assert listed["conn_id"] == sibling.conn_id
    await sibling.send("1")
    assert (await binary.envelope())["frame"] == 1
    assert await relay.metric("evictions_total", kind="phone") == 1
    [line] = [line for line in relay.log().splitlines() if "phone evicted" in line]
    assert " INFO " in line and f'conn_id="{phone.conn_id}"' in line and "code=3000" in line


async def test_a_phone_that_reads_nothing_can_be_evicted(started):
    relay, api = await started(heartbeat_timeout="1h", write_timeout="200ms")
    binary = await relay.binary()
    phone = await relay.raw_phone(binary, room=4096)
    for _ in range(30):
        await binary.send(envelope(phone.conn_id, text_of(10_000)))
    api.evict("a", phone.conn_id)
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await relay.counts(phones=0)


@pytest.mark.parametrize("query", [
    {"code": code} for code in ("999", "1004", "1005", "1006", "1015", "2999", "5000", "70000", "x", "", "+1000", "1e3", "1000.0")
] + [{"kode": "1000"}, {"code": "1000", "limit": "1"}])
async def test_a_code_that_must_not_be_sent_evicts_nobody(started, query):
    relay, api = await started()
    binary, phone = await relay.pair()
    for names in (("a",), ("a", phone.conn_id)):
        api.error(400, "DELETE", path(*names), **query)
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1


async def test_a_bad_request_gets_an_error_in_json(started):
    relay, api = await started(log="debug")
    for limit in ("0", "1001", "-1", "x", "", "1.5", "99999999999999999999"):
        _, error = api.error(400, "GET", "/servers", limit=limit)
        assert "limit" in error
    api.error(400, "GET", "/servers?limit=1&limit=2")
    api.error(400, "GET", "/servers?after=%FF")
    api.error(400, "GET", "/servers?page=2")
    api.error(400, "GET", "/servers/a?code=1000")
    for method in ("GET", "DELETE"):
        api.error(400, method, "/servers/%FF")
    for allowed, where in (
        ("GET,HEAD", "/servers"), ("GET,HEAD,DELETE", "/servers/a"), ("DELETE", path("a", "p")), ("GET,HEAD", "/openapi.json")
    ):
        for method in ("POST", "PUT", "PATCH", "OPTIONS"):
            headers, _ = api.error(405, method, where)
            assert headers["allow"] == allowed
    assert await relay.metric("admin_requests_total", outcome="bad_request") == 13 + 3 * 4
    assert await relay.metric("admin_requests_total", outcome="failed") == 0
    await until(lambda: "admin request refused" in relay.log())
    assert re.search(r'DEBUG .* admin request refused address=127.0.0.1 method=GET path="/servers" status=400 why="limit ', relay.log())


@pytest.mark.parametrize("headers", [
    {}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Bearer {TOKEN.upper()}"},
])
async def test_without_the_token_nothing_is_told_or_done(started, headers):
    relay, api = await started(log="trace")
    binary, phone = await relay.pair()
    requests = [("GET", "/servers"), ("GET", "/servers/a"), ("GET", "/servers/nobody"), ("DELETE", "/servers/a"),
                ("DELETE", path("a", phone.conn_id)), ("POST", "/servers"), ("GET", "/servers?limit=x")]
    for method, where in requests:
        answer, _ = api.error(401, method, where, token=None, headers=headers)
        assert answer["www-authenticate"] == "Bearer"
    assert await relay.metric("admin_requests_total", outcome="unauthorized") == len(requests)
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    # The document needs no token.
    assert api.request("GET", "/openapi.json", token=None)[0] == 200


async def test_the_host_is_checked_before_the_token(started):
    relay, api = await started()
    for where in ("/servers", "/openapi.json"):
        assert api.request("GET", where, headers={"Host": "evil.example"})[0] == 421
    assert await relay.metric("page_refusals_total", reason="wrong_host") == 2
    assert await relay.metric("admin_requests_total") == 0


async def test_without_the_flag_there_is_no_api(start):
    relay = await start()
    await relay.pair()
    api = Api(relay)
    for method, where in (("GET", "/servers"), ("GET", "/servers/a"), ("DELETE", "/servers/a"), ("GET", "/openapi.json")):
        assert api.request(method, where)[0] == 404


async def test_the_api_is_not_on_the_listener_of_the_peers(started):
    relay, _ = await started()
    for where in ("/servers", "/openapi.json"):
        assert (await relay.get(where))[0] == 404


async def test_no_token_is_ever_logged(started, token_file):
    relay, api = await started(log="trace")
    binary, phone = await relay.pair()
    api.json("/servers")
    api.error(400, "GET", f"/servers?token={TOKEN}")
    api.error(400, "GET", f"/servers?{TOKEN}")
    api.error(401, "GET", "/servers", token=f"wrong-{TOKEN}")
    api.evict("a", phone.conn_id)
    api.evict("a")
    relay.signal(signal.SIGHUP)
    await until(lambda: relay.log().count("admin token loaded") == 2)
    token_file.write_text("too short")
    relay.signal(signal.SIGHUP)
    await until(lambda: "the old admin token stays in use" in relay.log())
    await relay.ends_well()
    assert TOKEN not in relay.log() and "too short" not in relay.log()


async def test_a_new_token_is_read_on_sighup_and_a_bad_file_keeps_the_old_one(started, token_file):
    relay, api = await started()
    for bad in (b"", b" \n", b"too short\n", b"two lines of 16 bytes\nand more\n", b"x" * 5000, None):
        token_file.write_bytes(bad) if bad is not None else token_file.unlink()
        before = relay.log().count("stays in use")
        relay.signal(signal.SIGHUP)
        await until(lambda: relay.log().count("stays in use") > before)
        assert relay.log().count("ERROR") == before + 1
        api.json("/servers")
    token_file.write_text("another-token-of-16-bytes")
    relay.signal(signal.SIGHUP)
    await until(lambda: relay.log().count("admin token loaded") == 2)
    api.error(401, "GET", "/servers")
    assert api.request("GET", "/servers", token="another-token-of-16-bytes")[0] == 200


@pytest.mark.parametrize(("text", "problem"), [
    (b"", "it is empty"),
    (b" \n\n", "it is empty"),
    (b"fifteen-bytes--\n", "shorter than 16 bytes"),
    (b"two lines, of which\neach is long enough\n", "other characters"),
    (b"not-ascii-\xff-not-ascii", "other characters"),
    (b"x" * 4097, "longer than 4096 bytes"),
    (None, "No such file"),
])
def test_a_file_that_cannot_be_used_is_named(token_file, text, problem):
    token_file.write_bytes(text) if text is not None else token_file.unlink()
    result = run(f"--admin-token-file={token_file}", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
    sentence = refused(result, 2, "--admin-token-file")
    assert problem in sentence and str(token_file) in sentence
    assert "which" not in sentence and "fifteen" not in sentence


def test_the_api_needs_the_metrics_listener(token_file):
    result = run(f"--admin-token-file={token_file}", "--listen=127.0.0.1:0", "--metrics-listen=off")
    assert "--metrics-listen" in refused(result, 2, "--admin-token-file")


async def test_the_document_describes_each_path_and_its_methods(started):
    _, api = await started()
    status, headers, body = api.request("GET", "/openapi.json", token=None)
    assert (status, headers["content-type"]) == (200, "application/json")
    document = json.loads(body)
    assert set(document["paths"]) == {
        "/openapi.json", "/servers", "/servers/{server_id}", "/servers/{server_id}/phones/{conn_id}"
    }
    for where, operations in document["paths"].items():
        documented = {method.upper() for method in operations if method != "parameters"}
        headers, _ = api.error(405, "PATCH", where.replace("{server_id}", "a").replace("{conn_id}", "p"))
        assert set(headers["allow"].split(",")) - {"HEAD"} == documented


async def test_schemathesis_finds_nothing(started, tmp_path):
    """It derives requests from the document, valid and invalid ones, and checks the answers against it."""
    relay, api = await started()
    # Enough to evict. Its HTTP library cannot send "." and "..".
    names = [*STRANGE, *map(str, range(40))]
    names = [name for name in names if name not in (".", "..")]
    for name in names:
        await relay.any_binary(name)
    await relay.counts(binaries=len(names))
    for name in names:
        await relay.any_phone(name)
    await relay.counts(phones=len(names))
    found = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "schemathesis.cli", "run", "http://%s:%d/openapi.json" % api.address,
         "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--mode", "all", "--max-examples", "20",
         "--seed", "1", "--no-color"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    # It has reached more than refusals.
    assert await relay.metric("admin_requests_total", outcome="accepted") > 50
    assert await relay.metric("admin_requests_total", outcome="bad_request") > 50
    assert await relay.metric("evictions_total", kind="server_id") > 0
    assert await relay.metric("evictions_total", kind="phone") > 0
