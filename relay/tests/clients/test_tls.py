"""TLS that the relay terminates itself."""

import re
import signal
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509

from harness import Raw, until
from test_configuration import refused, run
from tls import context, start_with


async def certificate(relay):
    raw = await Raw.dial(relay)
    der = raw.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    raw.vanish()
    return der


def expiry(der):
    return x509.load_der_x509_certificate(der).not_valid_after_utc.replace(tzinfo=None)


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
    assert relay.log().count("certificate and key loaded subject=") == 1
    files.renew()
    assert await certificate(relay) == old
    relay.signal(signal.SIGHUP)

    async def renewed():
        return await certificate(relay) != old

    await until(renewed)
    await phone.send("1")
    assert (await binary.envelope())["frame"] == 1
    await relay.phone(binary)
    loading = re.compile(r' INFO .* certificate and key loaded subject="([^"]+)" expires=(\S+)Z\n')
    await until(lambda: len(loading.findall(relay.log())) == 2)
    loaded = loading.findall(relay.log())
    assert loaded[0] != loaded[1], "each certificate of trustme has another subject"
    assert datetime.fromisoformat(loaded[1][1]) == expiry(await certificate(relay))
    [seconds] = (await relay.metrics())["switchboard_certificate_expiry_timestamp_seconds"].values()
    assert seconds == expiry(await certificate(relay)).replace(tzinfo=UTC).timestamp()


async def test_an_expired_certificate_is_warned_about_and_used(start, files):
    files.renew(not_after=datetime(2020, 1, 1, tzinfo=UTC))
    relay = await start(tls_cert=files.cert, tls_key=files.key, ssl=context(expired=True))
    assert re.search(r" WARN .* the certificate has expired subject=.* expires=2020-01-01T00:00:00Z", relay.log())


@pytest.mark.parametrize(("broken", "flag", "problem"), [
    ("no certificate", "--tls-cert", "it contains no certificate in PEM"),
    ("half a certificate", "--tls-cert", "it is not PEM"),
    ("another thing as a certificate", "--tls-cert", "its first certificate is invalid"),
    ("no key", "--tls-key", "it contains no private key in PEM"),
    ("the key of another", "--tls-key", "it is not the key of the certificate in --tls-cert"),
    ("missing", "--tls-cert", "No such file"),
])
def test_a_file_that_cannot_be_used_is_named(files, broken, flag, problem):
    pem = files.cert.read_bytes()
    if broken == "no certificate":
        files.cert.write_bytes(files.key.read_bytes())
    elif broken == "half a certificate":
        files.cert.write_bytes(pem[:len(pem) // 2])
    elif broken == "another thing as a certificate":
        files.cert.write_text("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
    elif broken == "no key":
        files.key.write_bytes(pem)
    elif broken == "the key of another":
        files.renew()
        files.cert.write_bytes(pem)
    else:
        files.cert.unlink()
    result = run(f"--tls-cert={files.cert}", f"--tls-key={files.key}", "--listen=127.0.0.1:0", "--metrics-listen=off")
    sentence = refused(result, 2, flag)
    assert problem in sentence
    assert str(files.cert if flag == "--tls-cert" else files.key) in sentence


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
