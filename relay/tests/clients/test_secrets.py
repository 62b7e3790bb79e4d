"""Claim secrets: a server-id is given only to who has the secret of its binary."""

import hashlib

import pytest

from harness import ALREADY_CLAIMED, BINARY, HEARTBEAT_TIMEOUT, PING, RECLAIMED, UPGRADE, Raw, envelope

SECRET = "swordfish and chips"


def with_secret(secret, server_id="a"):
    headers = BINARY | {"X-Pyrycode-Server": server_id}
    return headers if secret is None else headers | {"X-Switchboard-Claim-Secret": secret}


@pytest.fixture
def binary(start):
    async def connect(relay, secret=SECRET):
        return await relay.connect("/v1/server", with_secret(secret))

    return connect


async def test_a_stranger_cannot_take_a_server_id_in_grace_and_its_phones_stay(start, binary):
    relay = await start(grace="1h")
    owner = await binary(relay)
    phone = await relay.phone(owner)
    owner.vanish()
    await relay.counts(binaries=0, phones=1)
    for secret in (None, "Swordfish and chips", SECRET + "!", "x"):
        assert await (await binary(relay, secret)).closed() == ALREADY_CLAIMED
    await relay.counts(binaries=0, phones=1)
    await relay.metric_becomes(4, "refusals_total", kind="wrong_claim_secret")
    assert await relay.metric("reclaims_total") == 0

    owner = await binary(relay)
    assert await phone.closed() == RECLAIMED
    phone = await relay.phone(owner)
    await owner.send(envelope(phone.conn_id, "1"))
    assert await phone.frame() == b"1"


async def test_a_stranger_does_not_even_ask_a_silent_binary_whether_it_is_alive(start, binary):
    relay = await start(probe_timeout="300ms")
    silent = await Raw.upgrade(relay, "/v1/server", with_secret(SECRET))
    await relay.counts(binaries=1)
    assert await (await binary(relay, None)).closed() == ALREADY_CLAIMED
    assert await (await binary(relay, "guess")).closed() == ALREADY_CLAIMED
    assert await relay.metric("probes_total") == 0

    owner = await binary(relay)
    await silent.read_until(PING)
    assert await silent.closed() == HEARTBEAT_TIMEOUT
    await relay.phone(owner)
    assert await relay.metric("takeovers_total") == 1


async def test_a_binary_without_a_secret_is_replaced_by_anybody(start, binary):
    relay = await start(grace="1h")
    unprotected = await binary(relay, None)
    unprotected.vanish()
    await relay.metric_becomes(1, "binaries_in_grace")
    owner = await binary(relay)
    await relay.counts(binaries=1)
    # From now on it is protected.
    assert await (await binary(relay, None)).closed() == ALREADY_CLAIMED
    await relay.phone(owner)


async def test_a_server_id_that_is_free_again_takes_any_secret(start, binary):
    relay = await start(grace="100ms")
    (await binary(relay)).vanish()
    await relay.metric_becomes(1, "grace_expiries_total")
    owner = await binary(relay, "another")
    await relay.phone(owner)


async def test_a_stranger_does_not_get_the_place_of_a_grace_in_a_full_relay(start, binary):
    relay = await start(grace="1h", max_connections=1)
    (await binary(relay)).vanish()
    await relay.metric_becomes(1, "binaries_in_grace")
    assert await relay.knock("/v1/server", with_secret("guess")) == 503
    assert await relay.metric("connections") == 1
    owner = await binary(relay)
    await relay.counts(binaries=1)
    await owner.close()


async def test_the_secret_may_be_required(start):
    relay = await start(require_claim_secret="on")
    assert await relay.knock("/v1/server", with_secret(None)) == 400
    assert await relay.knock("/v1/server", with_secret("")) == 400
    assert await relay.knock("/v1/server", with_secret(SECRET)) == 101


@pytest.mark.parametrize("required", ["on", "off"])
async def test_a_secret_that_is_sent_twice_or_empty_is_refused(start, required):
    relay = await start(require_claim_secret=required)
    twice = [*with_secret(SECRET).items(), ("X-Switchboard-Claim-Secret", SECRET)]
    for headers in (twice, with_secret(" ")):
        raw = await Raw.dial(relay)
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        await raw.request("/v1/server", [*UPGRADE.items(), *pairs])
        assert raw.status == 400


async def test_the_secret_of_a_phone_is_ignored(start, binary):
    relay = await start()
    await binary(relay)
    headers = with_secret("guess") | {"X-Pyrycode-Token": "t"}
    await relay.connect("/v1/client", headers)
    await relay.counts(binaries=1, phones=1)


async def test_no_secret_is_logged(start, binary):
    relay = await start(log="trace")
    owner = await binary(relay)
    await (await binary(relay, "guess and pickles")).closed()
    await owner.close()
    await relay.counts(binaries=0)
    log = relay.log()
    for secret in (SECRET, "guess and pickles"):
        assert secret not in log
        assert hashlib.sha256(secret.encode()).hexdigest() not in log.lower()
