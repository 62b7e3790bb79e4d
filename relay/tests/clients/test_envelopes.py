"""Envelopes from binaries, valid and invalid."""

import asyncio

import pytest

from harness import CLOSE, NO_CODE, TEXT, close_payload, envelope, frame_of, notice

MALFORMED = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"not json",
    b'["conn", 1]',
    b'{"conn_id":1,"frame":1}',
    b'{"conn_id":["PHONE"],"frame":1}',
    b'{"conn_id":"PHONE","frame":}',
    b'{"conn_id":"PHONE","frame":1',
    b'{"conn_id":"PHONE","frame":1} {}',
    b'{"conn_id":"PHONE","close_code":65536}',
    b'{"conn_id":"PHONE","close_code":-1}',
    b'{"conn_id":"PHONE","close_code":1000.5}',
    b'{"conn_id":"PHONE","close_code":"1000"}',
]
USELESS = [
    b'{"conn_id":null,"frame":1}',
    b'{"conn_id":"PHONE"}',
    b'{"conn_id":"PHONE","frame":null}',
    b'{"conn_id":"PHONE","frame":null,"close_code":0}',
    b'{"frame":1}',
    b'{"conn_id":"","frame":1}',
]
UNKNOWN = [
    b'{"conn_id":"client-a-00000000","frame":1}',
    b'{"conn_id":"PHONE ","frame":1}',
    b'{"conn_id":"server-a-00000000","frame":1,"close_code":4000}',
]


async def test_a_malformed_envelope_is_counted_and_dropped_and_the_binary_stays(start):
    relay = await start()
    binary, phone = await relay.pair()
    dropped = 0
    for kinds, reason in [(MALFORMED, "malformed"), (USELESS, None), (UNKNOWN, "unknown_phone")]:
        for message in kinds:
            await binary.send(message.replace(b"PHONE", phone.conn_id.encode()))
        if reason:
            await relay.metric_becomes(len(kinds), "envelopes_dropped_total", reason=reason)
        dropped += len(kinds)
        await relay.metric_becomes(dropped, "envelopes_dropped_total")
    await binary.send(envelope(phone.conn_id, '"fine"'))
    assert await phone.frame() == b'"fine"'


async def test_a_malformed_envelope_leaves_everybody_connected(start):
    relay = await start()
    binary, phone = await relay.pair()
    for message in [*MALFORMED, *USELESS, *UNKNOWN]:
        await binary.send(message.replace(b"PHONE", phone.conn_id.encode()))
        await binary.send(envelope(phone.conn_id, '"fine"'))
        assert await phone.frame() == b'"fine"', message


async def test_a_push_wake_is_counted_and_dropped(start):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send('{"push_wake":{"device":"d","token":"secret"}}')
    await binary.send(envelope(phone.conn_id, "1"))
    assert await phone.frame() == b"1"
    assert await relay.metric("envelopes_dropped_total", reason="push_wake") == 1
    assert await relay.metric("envelopes_dropped_total") == 1


async def test_unknown_fields_are_ignored(start):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send('{"x":{"frame":0},"conn_id":"%s","frame":1,"close":4000,"y":[null]}' % phone.conn_id)
    assert await phone.frame() == b"1"


async def test_an_escaped_conn_id_is_the_same(start):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send('{"conn_id":"\\u0063%s","frame":1}' % phone.conn_id[1:])
    assert await phone.frame() == b"1"


@pytest.mark.parametrize("frame", ["", '"frame":null,', '"frame": null ,'])
async def test_a_close_code_without_a_frame_only_closes(start, frame):
    relay = await start()
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    await binary.send('{%s"conn_id":"%s","close_code":4001}' % (frame, phone.conn_id))
    assert await phone.closed() == (4001, "")
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id, "it asked for this, and is not told"


async def test_frames_before_and_with_a_close_code_are_delivered_and_later_ones_are_not(start):
    relay = await start()
    binary, phone = await relay.pair()
    for number in range(300):
        await binary.send(envelope(phone.conn_id, str(number)))
    await binary.send(envelope(phone.conn_id, '"last"', close_code=3000))
    await binary.send(envelope(phone.conn_id, '"late"', close_code=3001))
    for number in range(300):
        assert await phone.frame() == str(number).encode()
    assert await phone.frame() == b'"last"'
    assert await phone.closed() == (3000, "")


async def test_a_close_code_of_zero_is_none(start):
    relay = await start()
    binary, phone = await relay.pair()
    for number in b"12":
        await binary.send(envelope(phone.conn_id, str(number), close_code=0))
        assert await phone.frame() == str(number).encode()


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 1014, 3999, 4000, 4999])
async def test_a_phone_is_closed_with_the_code_that_its_binary_names(start, code):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send(envelope(phone.conn_id, close_code=code))
    assert await phone.closed() == (code, "")


@pytest.mark.parametrize("code", [1, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
async def test_a_code_that_must_not_be_sent_closes_without_one(start, code):
    relay = await start()
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    await binary.send(envelope(phone.conn_id, "1", close_code=code))
    assert await phone.frame() == b"1"
    assert await phone.closed() == NO_CODE
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


@pytest.mark.parametrize("code", [1000, 1001, 1008, 3000, 4321])
async def test_a_binary_is_told_the_close_code_of_a_phone_that_left(start, code):
    relay = await start()
    binary, phone = await relay.pair()
    await phone.close(code, "not for the binary")
    assert await binary.frame() == notice(phone.conn_id, code)


# The bounds of all ranges that RFC 6455 allows.
ON_THE_WIRE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
NOT_ON_THE_WIRE = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]


@pytest.mark.parametrize("reason", ["", "nothing for the binary ☎"])
async def test_every_code_that_may_be_sent_reaches_the_binary_and_is_echoed(start, reason):
    relay = await start()
    binary = await relay.binary()
    for code in ON_THE_WIRE:
        phone = await relay.raw_phone(binary)
        said = close_payload(code, reason)
        await phone.send(CLOSE, said, mask=b"\x01\xfe\x80\x7f")
        assert await phone.read() == (CLOSE, said)
        await phone.gone()
        assert await binary.frame() == notice(phone.conn_id, code)


async def test_a_close_frame_in_parts_or_after_a_frame_is_handled_the_same(start):
    relay = await start()
    binary = await relay.binary()
    for code in (1000, 1012, 1014, 4000):
        said = close_payload(code, "in parts")
        close = frame_of(CLOSE, said)
        phone = await relay.raw_phone(binary)
        for byte in close:
            phone.write(bytes([byte]))
            # So that the parts arrive separately.
            await asyncio.sleep(0.001)
        assert await phone.read() == (CLOSE, said)
        assert await binary.frame() == notice(phone.conn_id, code)
        phone = await relay.raw_phone(binary)
        phone.write(frame_of(TEXT, b"1") + close + frame_of(TEXT, b"2"))
        assert (await binary.envelope())["frame"] == 1
        assert await binary.frame() == notice(phone.conn_id, code)
        assert await phone.read() == (CLOSE, said)


async def test_a_code_that_must_not_be_sent_is_answered_with_1002(start):
    relay = await start()
    binary = await relay.binary()
    for code in NOT_ON_THE_WIRE:
        phone = await relay.raw_phone(binary)
        await phone.send(CLOSE, close_payload(code, "why"))
        assert (await phone.closed())[0] == 1002, code
        gone = await binary.envelope()
        assert gone["conn_id"] == phone.conn_id and "frame" not in gone, code


async def test_the_close_code_of_a_binary_is_echoed_too(start):
    relay = await start()
    for code in ON_THE_WIRE:
        binary = await relay.raw_binary(f"of {code}")
        said = close_payload(code, "bye")
        await binary.send(CLOSE, said)
        assert await binary.read() == (CLOSE, said)
        await binary.gone()


async def test_a_phone_that_vanishes_or_sends_no_code_counts_as_1001(start):
    relay = await start()
    binary, phone = await relay.pair()
    phone.vanish()
    assert await binary.frame() == notice(phone.conn_id, 1001)
    raw = await relay.raw_phone(binary)
    await raw.send(CLOSE)
    assert await binary.frame() == notice(raw.conn_id, 1001)


async def test_frames_of_a_phone_come_before_the_notice_that_it_left(start):
    relay = await start()
    binary, phone = await relay.pair()
    for number in range(300):
        await phone.send(str(number))
    await phone.close(4000)
    for number in range(300):
        assert (await binary.envelope())["frame"] == number
    assert await binary.frame() == notice(phone.conn_id, 4000)
