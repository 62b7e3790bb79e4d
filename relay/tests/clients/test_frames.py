"""Frames are forwarded byte for byte."""

import json

import pytest

from harness import (
    BYTES,
    CLOSE,
    MESSAGE_TOO_BIG,
    PHONE,
    PING,
    PONG,
    TEXT,
    Raw,
    close_payload,
    envelope,
    notice,
    text_of,
)

JSON = [
    b"0",
    b"-0.0",
    b"1E400",
    b"123456789012345678901234567890.000000000000000000000000000010",
    b'""',
    b"true",
    b'" spaces  and \\t tabs "',
    b'"\\u00e9 \\uD83D\\ude00 \\/ \\ud800"',
    '"é 😀 \u2028 \u0000"'.replace("\0", "\\u0000").encode(),
    b'{"b":1,"a":2,"b":3}',
    b'{ "a" :\t[ 1 ,\r\n2 , { } ] }',
    b'{"conn_id":"other","frame":{"close_code":4000}}',
    b"[" * 128 + b"]" * 128,
]


async def test_frames_reach_the_binary_byte_for_byte_from_text_and_from_binary_messages(start):
    relay = await start()
    binary, phone = await relay.pair()
    for frame in [*JSON, b"null", b" \t\r\n1 \n"]:
        for message in (frame, frame.decode()):
            await phone.send(message)
            expected = b'{"conn_id":"' + phone.conn_id.encode() + b'","frame":' + frame + b"}"
            assert await binary.frame() == expected


async def test_frames_reach_their_phone_byte_for_byte_from_text_and_from_binary_messages(start):
    relay = await start()
    binary, phone = await relay.pair()
    for frame in JSON:
        message = b' {"frame" : ' + frame + b' ,\n"conn_id":"' + phone.conn_id.encode() + b'" } '
        for message in (message, message.decode()):
            await binary.send(message)
            assert await phone.frame() == frame


@pytest.mark.parametrize("opcode", [TEXT, BYTES])
@pytest.mark.parametrize("length", [2, 1000, 100_000])
async def test_all_that_the_relay_sends_is_text(start, opcode, length):
    relay = await start()
    binary = await relay.raw_binary()
    phone = await Raw.upgrade(relay, "/v1/client", PHONE)
    frame = text_of(length).encode()
    await phone.send(opcode, frame)
    sent, payload = await binary.read()
    assert (sent, payload[-length - 1 : -1]) == (TEXT, frame)
    conn_id = json.loads(payload)["conn_id"]
    await binary.send(opcode, envelope(conn_id, frame.decode()).encode())
    assert await phone.read() == (TEXT, frame)
    await phone.send(CLOSE, close_payload(1000))
    assert await binary.read() == (TEXT, notice(conn_id, 1000))


@pytest.mark.parametrize("opcode", [TEXT, BYTES])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"])
async def test_a_sender_of_invalid_utf8_is_closed(start, opcode, bad):
    relay = await start()
    binary = await relay.raw_binary()
    phone = await Raw.upgrade(relay, "/v1/client", PHONE)
    sibling = await Raw.upgrade(relay, "/v1/client", PHONE)
    await sibling.send(opcode, '"é"'.encode())
    conn_id = json.loads(await binary.read_until(TEXT))["conn_id"]
    await phone.send(opcode, b'"%b"' % bad)
    assert await phone.closed() == (1007, "")
    assert b'"close_code":1001}' in await binary.read_until(TEXT)
    await binary.send(opcode, b'{"conn_id":"%b","frame":"%b"}' % (conn_id.encode(), bad))
    assert await binary.closed() == (1007, "")
    await relay.counts(binaries=0, phones=1)
    assert await relay.metric("messages_rejected_total", reason="not_utf8") == 2


@pytest.mark.parametrize("opcode", [TEXT, BYTES])
async def test_fragments_may_split_characters_but_the_message_must_be_valid(start, opcode):
    relay = await start()
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)
    for part in (b'"\xf0\x9f', b"\x98", b'\x80"'):
        await phone.send(opcode if part[0] == 0x22 else 0, part, last=part[-1] == 0x22)
    assert (await binary.envelope())["frame"] == "😀"
    await phone.send(opcode, b'"\xf0\x9f', last=False)
    await phone.send(0, b'"')
    assert await phone.closed() == (1007, "")


NESTINGS = {
    "arrays": lambda depth: "[" * depth + "]" * depth,
    "objects": lambda depth: '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1),
    "both": lambda depth: '[{"[":' * (depth // 2) + ("[]" if depth % 2 else "0") + "}]" * (depth // 2),
    "side by side": lambda depth: "[[]," + "[" * (depth - 1) + "]" * (depth - 1) + ",[[]]]",
}


@pytest.mark.parametrize("opcode", [TEXT, BYTES])
@pytest.mark.parametrize("nesting", NESTINGS)
async def test_a_frame_may_be_nested_128_deep_and_no_deeper(start, opcode, nesting):
    relay = await start()
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)
    sibling = await relay.phone(binary)
    frame = NESTINGS[nesting](128)
    json.loads(frame)
    await phone.send(opcode, frame.encode())
    assert await binary.frame() == envelope(phone.conn_id, frame).encode()
    await phone.send(opcode, NESTINGS[nesting](129).encode())
    assert await phone.closed() == (1000, "")
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


@pytest.mark.parametrize("inside", ["[" * 1000, "]" * 200 + "[" * 200, '\\"' + "{" * 1000, "\\\\\\\"" + "[" * 1000, "\\u005b" * 200])
async def test_brackets_inside_strings_do_not_count_as_nesting(start, inside):
    relay = await start()
    binary, phone = await relay.pair()
    inner = f'{{"{inside}":"{inside}"}}'
    frame = "[" * 127 + inner + "]" * 127
    await phone.send(frame)
    assert await binary.frame() == envelope(phone.conn_id, frame).encode()
    await phone.send(f"[{frame}]")
    assert await phone.closed() == (1000, "")


async def test_each_phone_gets_its_own_frames_in_their_order(start):
    relay = await start()
    binary = await relay.binary()
    phones = [await relay.phone(binary) for _ in range(4)]
    for number in range(500):
        for phone in phones:
            await phone.send(str(number))
            await binary.send(envelope(phone.conn_id, str(number)))
    numbers = {phone.conn_id: iter(range(500)) for phone in phones}
    for _ in range(4 * 500):
        got = await binary.envelope()
        assert got["frame"] == next(numbers[got["conn_id"]])
    for phone in phones:
        assert [await phone.frame() for _ in range(500)] == [str(it).encode() for it in range(500)]


@pytest.mark.parametrize("frame", [b"", b" ", b"{", b"1 2", b"nul", b"01", b"[1,]", b"'a'", b'"\n"', b"\xef\xbb\xbf1"])
async def test_a_phone_that_sends_invalid_json_is_closed_and_its_binary_is_told(start, frame):
    relay = await start()
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    await phone.send(frame)
    assert await phone.closed() == (1000, "")
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


async def test_json_cannot_be_smuggled_around_the_envelope(start):
    relay = await start()
    binary, phone = await relay.pair()
    await phone.send(b'1},{"conn_id":"other","frame":1')
    assert await phone.closed() == (1000, "")
    assert await binary.frame() == notice(phone.conn_id, 1001)


async def test_the_largest_message_passes_in_both_directions(start):
    relay = await start()
    binary, phone = await relay.pair()
    frame = text_of(256 * 1024)
    await phone.send(frame)
    assert (await binary.envelope())["frame"] == json.loads(frame)
    room = 256 * 1024 - len(envelope(phone.conn_id, ""))
    frame = text_of(room)
    await binary.send(envelope(phone.conn_id, frame))
    assert await phone.frame() == frame.encode()


async def test_a_larger_message_of_a_phone_is_1009(start):
    relay = await start()
    binary, phone = await relay.pair()
    sibling = await relay.phone(binary)
    await phone.send(text_of(256 * 1024 + 1))
    assert await phone.closed() == MESSAGE_TOO_BIG
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


async def test_a_larger_message_of_a_binary_is_1009_and_its_phones_stay(start):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send(envelope(phone.conn_id, text_of(256 * 1024)))
    assert await binary.closed() == MESSAGE_TOO_BIG
    await relay.counts(binaries=0, phones=1)


@pytest.mark.parametrize("sender", ["phone", "binary"])
async def test_fragments_together_must_not_be_larger_either(start, sender):
    relay = await start(max_frame=1000)
    if sender == "phone":
        raw = await relay.raw_phone(await relay.binary())
    else:
        raw = await relay.raw_binary()
    await raw.send(TEXT, b'"' + b"x" * 599, last=False)
    await raw.send(0, b"x" * 400 + b'"')
    assert await raw.closed() == MESSAGE_TOO_BIG


@pytest.mark.parametrize("said", [b"", b"\x03\xe8", b"\x0f\xa0see you"])
async def test_a_close_frame_is_answered_with_the_same(start, said):
    relay = await start()
    binary = await relay.binary("a")
    phone = await relay.raw_phone(binary, "a")
    other = await relay.raw_binary("b")
    for raw in (phone, other):
        await raw.send(CLOSE, said)
        assert await raw.read() == (CLOSE, said)
        await raw.gone()


async def test_a_message_in_fragments_is_one_frame(start):
    relay = await start()
    binary = await relay.binary()
    phone = await relay.raw_phone(binary)
    frame = '{"é": "😀"}'.encode()
    for opcode in (TEXT, BYTES):
        await phone.send(opcode, b"", last=False)
        for byte in frame:
            await phone.send(0, bytes([byte]), last=False)
            await phone.send(0, b"", last=False)
        await phone.send(PING, b"in between")
        assert await phone.read_until(PONG) == b"in between"
        await phone.send(0, b"")
        assert await binary.frame() == f'{{"conn_id":"{phone.conn_id}","frame":'.encode() + frame + b"}"


@pytest.mark.parametrize(
    ("code", "bytes_sent"),
    [
        pytest.param(1007, b"\x81\x83\0\0\0\0\"\xff\"", id="text that is not UTF-8"),
        pytest.param(1002, b"\x81\x011", id="no mask"),
        pytest.param(1002, b"\xc1\x81\0\0\0\0001", id="a reserved bit"),
        pytest.param(1002, b"\x83\x81\0\0\0\0001", id="a reserved opcode"),
        pytest.param(1002, b"\x80\x81\0\0\0\0001", id="a continuation of nothing"),
        pytest.param(1002, b"\x09\x80\0\0\0\0", id="a ping in fragments"),
        pytest.param(1002, b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126), id="a ping too long"),
        pytest.param(1002, b"\x88\x81\0\0\0\0\x03", id="half a close code"),
    ],
)
async def test_a_protocol_violation_closes_its_sender_and_nobody_else(start, code, bytes_sent):
    relay = await start()
    binary, sibling = await relay.pair()
    phone = await relay.raw_phone(binary)
    phone.write(bytes_sent)
    assert (await phone.closed())[0] == code
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id
