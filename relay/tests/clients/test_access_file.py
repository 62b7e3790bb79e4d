"""The access file: which server-ids may be claimed, and with which tokens."""

import hashlib
import re
import signal
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from harness import BINARY, PHONE, until
from test_access import asked, hook  # noqa: F401: a fixture
from test_configuration import refused, run

README = (Path(__file__).parents[2] / "README.md").read_text()

TOKEN = "swordfish-7e21"
OTHER = "halibut-94b0"
# The token of the example in the README.
EXAMPLE = "a-token-for-the-example"


def sum_of(token):
    return hashlib.sha256(token.encode()).hexdigest()


def tokens(*allowed):
    return "".join(f"[[tokens]]\nname = \"of {token[:4]}\"\nsha256 = \"{sum_of(token)}\"\n" for token in allowed)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "access.toml"


@pytest.fixture
def started(start, file):
    async def started(text, **settings):
        file.write_text(text)
        return await start(access_file=file, log="trace", **settings)

    return started


def of(server_id, headers=BINARY, token=None):
    headers = headers | {"X-Pyrycode-Server": server_id}
    return headers if token is None else headers | {"Authorization": f"Bearer {token}"}


async def statuses(relay, server_id, token=None):
    """What a binary and a phone of this server-id get."""
    return [
        await relay.knock("/v1/server", of(server_id, token=token)),
        await relay.knock("/v1/client", of(server_id, PHONE)),
    ]


async def test_the_lists_apply_to_binaries_and_to_phones(started):
    relay = await started('allow = ["a", "lab-*"]\ndeny = ["lab-7", "lab-x?"]')
    for admitted in ("a", "lab-8", "lab-", "lab-x"):
        assert await statuses(relay, admitted) == [101, 101], admitted
    for other in ("b", "A", "aa", "my-lab-8", "lab-7", "lab-x1"):
        assert await statuses(relay, other) == [403, 403], other
    for endpoint in ("server", "client"):
        assert await relay.metric("upgrades_total", endpoint=endpoint, outcome="forbidden") == 6
    await until(lambda: relay.log().count("upgrade refused") == 12)
    lines = [line for line in relay.log().splitlines() if "upgrade refused" in line]
    assert sum('server_id="lab-7"' in line and "the access file denies the server-id" in line for line in lines) == 2
    assert sum('server_id="b"' in line and "does not allow the server-id" in line for line in lines) == 2


async def test_a_client_is_told_that_its_server_id_is_not_served(started):
    relay = await started('deny = ["a"]')
    with pytest.raises(InvalidStatus) as error:
        await relay.any_phone()
    response = error.value.response
    assert response.status_code == 403
    assert "WWW-Authenticate" not in response.headers
    assert response.body.decode() == "The relay does not serve this server-id. Ask its operator for access.\n"


async def test_a_binary_needs_one_of_the_tokens_and_a_phone_none(started):
    relay = await started(tokens(OTHER, TOKEN))
    binary = await relay.connect("/v1/server", of("a", token=TOKEN))
    await relay.phone(binary)
    await until(lambda: re.search(r'token accepted server_id="a" .* token="of swor"', relay.log()))
    wrong = [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), sum_of(TOKEN)]
    for token in wrong:
        status, headers, body = await asked(relay, headers=of("b", token=token))
        assert (status, headers["www-authenticate"]) == (401, "Bearer"), token
        assert body == "A binary needs a bearer token of the relay's operator. Send a valid one.\n"
    assert await relay.knock("/v1/server", of("b") | {"Authorization": f"Basic {TOKEN}"}) == 401
    assert await relay.knock("/v1/server", of("b") | {"X-Pyrycode-Token": TOKEN}) == 401
    assert await relay.knock("/v1/server", of("b", token=OTHER)) == 101
    assert await relay.metric("upgrades_total", endpoint="server", outcome="unauthorized") == len(wrong) + 2
    await until(lambda: relay.log().count("upgrade refused") == len(wrong) + 2)
    for secret in (TOKEN, OTHER, sum_of(TOKEN), TOKEN.upper()):
        assert secret not in relay.log()


async def test_the_lists_come_before_the_tokens(started):
    relay = await started('deny = ["b"]\n' + tokens(TOKEN))
    assert await statuses(relay, "b", TOKEN) == [403, 403]
    assert await statuses(relay, "b") == [403, 403]
    assert await statuses(relay, "a", TOKEN) == [101, 101]


async def reload(relay, words):
    before = relay.log().count(words)
    relay.signal(signal.SIGHUP)
    await until(lambda: relay.log().count(words) > before)


async def test_the_file_is_read_again_on_sighup_and_connections_stay(started, file):
    relay = await started(tokens(TOKEN))
    binary = await relay.connect("/v1/server", of("a", token=TOKEN))
    phone = await relay.phone(binary)
    file.write_text('deny = ["a"]\n' + tokens(OTHER))
    await reload(relay, "access file loaded")
    assert await statuses(relay, "a", OTHER) == [403, 403]
    assert await statuses(relay, "b", TOKEN) == [401, 101]
    assert await statuses(relay, "b", OTHER) == [101, 101]
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1


async def test_an_invalid_file_on_sighup_keeps_the_old_rules(started, file):
    relay = await started('deny = ["b"]\n' + tokens(TOKEN))
    for bad in ("", "deny = [", 'dany = ["b"]', f'tokens = ["{OTHER}"]', None):
        file.unlink() if bad is None else file.write_text(bad)
        await reload(relay, "the old access rules stay in use")
        assert await statuses(relay, "a") == [401, 101]
        assert await statuses(relay, "b", TOKEN) == [403, 403]
    assert await relay.knock("/v1/server", of("a", token=TOKEN)) == 101
    assert relay.log().count("ERROR") == 5
    assert "line 1, column" in relay.log()
    assert OTHER not in relay.log()


@pytest.mark.parametrize(("text", "problem"), [
    (None, "No such file"),
    (b"", "neither allow, deny nor tokens"),
    (b"deny = ['\xff']", "not UTF-8"),
    (b"#" * (1 << 20) + b"#", "longer than 1 MiB"),
    (b"deny = ['a']\nalow = ['b']", "line 2, column 1: unknown field"),
    (b"[[tokens]]\nsha256 = 'swordfish'", "line 2, column 10: not a SHA-256 sum"),
])
def test_an_invalid_file_is_an_error_at_the_start(file, text, problem):
    if text is not None:
        file.write_bytes(text)
    sentence = refused(run(f"--access-file={file}", "--listen=127.0.0.1:0", "--metrics-listen=off"), 2, "--access-file")
    assert str(file) in sentence and problem in sentence
    assert "swordfish" not in sentence


async def test_the_hook_is_asked_only_about_clients_that_the_file_admits(started, hook):  # noqa: F811
    relay = await started('deny = ["b"]\n' + tokens(TOKEN), access_url=hook.url)
    assert await statuses(relay, "b", TOKEN) == [403, 403]
    assert (await asked(relay, headers=of("a", token=OTHER)))[0] == 401
    assert hook.questions == []
    assert await statuses(relay, "a", TOKEN) == [101, 101]
    assert [question["endpoint"] for question in hook.questions] == ["server", "client"]
    hook.answers(403)
    assert await statuses(relay, "a", TOKEN) == [403, 403]


async def test_the_example_of_the_readme_works(started):
    [example] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    relay = await started(example)
    assert await statuses(relay, "office", EXAMPLE) == [101, 101]
    assert await statuses(relay, "lab-8", EXAMPLE) == [101, 101]
    assert await statuses(relay, "lab-8", OTHER) == [401, 101]
    for denied in ("lab-7", "lab-old-1", "home"):
        assert await statuses(relay, denied, EXAMPLE) == [403, 403]
