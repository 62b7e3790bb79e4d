"""TLS that the relay terminates itself."""

import signal
import ssl

import pytest

from harness import Raw, until
from tls import context, start_with

async def certificate(relay):
    raw = await Raw.dial(relay)
    der = raw.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    raw.vanish()
    return der


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_tls_versions_work(start, files, version):
    relay = await start_with(start, files)
    relay.ssl = context(version, version)
    binary, phone = await relay.pair()
    assert phone.ws.transport.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_older_versions_are_refused(start, files):
    relay = await start_with(start, files)
    old = context(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    relay.ssl, new = old, relay.ssl
    with pytest.raises(ssl.SSLError):
        await Raw.dial(relay)
    relay.ssl = new
    await relay.pair()


async def test_a_new_certificate_is_read_on_sighup_and_connections_go_on(start, files):
    relay = await start_with(start, files)
    binary, phone = await relay.pair()
    old = await certificate(relay)
    files.renew()
    assert await certificate(relay) == old
    relay.signal(signal.SIGHUP)

    async def renewed():
        return await certificate(relay) != old

    await until(renewed)
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    await relay.phone(binary)


@pytest.mark.parametrize("broken", ["garbage", "missing", "the key of another"])
async def test_a_reload_that_fails_keeps_the_old_certificate(start, files, broken):
    relay = await start_with(start, files)
    binary, phone = await relay.pair()
    old = await certificate(relay)
    if broken == "garbage":
        files.cert.write_text("garbage")
    elif broken == "missing":
        files.key.unlink()
    else:
        key = files.key.read_bytes()
        files.renew()
        files.key.write_bytes(key)
    before = len(relay.log().splitlines())
    relay.signal(signal.SIGHUP)
    await until(lambda: len(relay.log().splitlines()) > before)
    assert await certificate(relay) == old
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    files.renew()
    relay.signal(signal.SIGHUP)

    async def renewed():
        return await certificate(relay) != old

    await until(renewed)


async def test_a_client_without_tls_is_dropped_and_nobody_else(start, files):
    relay = await start_with(start, files)
    relay.ssl, ssl = None, relay.ssl
    plain = await Raw.dial(relay)
    plain.write(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
    assert b"200 OK" not in await plain.rest()
    plain.vanish()
    relay.ssl = ssl
    await relay.pair()


async def test_a_client_that_never_finishes_the_handshake_is_dropped(start, files):
    relay = await start_with(start, files, header_timeout="500ms")
    relay.ssl, ssl = None, relay.ssl
    silent = await Raw.dial(relay)
    await silent.gone()
    silent.vanish()
    relay.ssl = ssl
    await relay.pair()


@pytest.mark.parametrize("half", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01"])
async def test_a_shutdown_does_not_wait_for_half_a_handshake(start, files, half):
    relay = await start_with(start, files, header_timeout="1h", shutdown_timeout="1h")
    relay.ssl, ssl = None, relay.ssl
    raws = [await Raw.dial(relay) for _ in range(3)]
    for raw in raws:
        raw.write(half)
    relay.ssl = ssl
    await relay.health()
    relay.signal(signal.SIGTERM)
    assert await relay.exit_code(limit=3) == 0
    for raw in raws:
        raw.vanish()


async def test_http_2_is_not_offered_and_is_dropped(start, files):
    relay = await start_with(start, files, header_timeout="1h")
    relay.ssl.set_alpn_protocols(["h2", "http/1.1"])
    raw = await Raw.dial(relay)
    assert raw.writer.get_extra_info("ssl_object").selected_alpn_protocol() in (None, "http/1.1")
    raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    try:
        assert (await raw.rest())[:4] in (b"", b"HTTP")
    except ConnectionResetError:
        pass
    raw.vanish()
    await relay.pair()


async def test_sighup_without_tls_is_harmless(start):
    relay = await start()
    binary, phone = await relay.pair()
    relay.signal(signal.SIGHUP)
    for number in range(50):
        await phone.send(str(number))
        assert (await binary.envelope())["frame"] == number
    await relay.health()
