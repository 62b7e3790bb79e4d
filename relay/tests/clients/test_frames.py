"""What is forwarded, and that not a byte of it changes."""

import json

import pytest

from harness import BYTES, CLOSE, PING, PONG, TEXT, envelope, notice, text_of

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
    b"[" * 1000 + b"]" * 1000,
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


@pytest.mark.parametrize("frame", [b"", b" ", b"{", b"1 2", b"nul", b"01", b"[1,]", b"'a'", b'"\n"', b"\xef\xbb\xbf1", b'"\xff"'])
async def test_a_phone_that_sends_no_json_is_closed_and_its_binary_is_told(start, frame):
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
    code, _ = await phone.closed()
    assert code == 1009
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id


async def test_a_larger_message_of_a_binary_is_1009_and_its_phones_stay(start):
    relay = await start()
    binary, phone = await relay.pair()
    await binary.send(envelope(phone.conn_id, text_of(256 * 1024)))
    code, _ = await binary.closed()
    assert code == 1009
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
    assert (await raw.closed())[0] == 1009


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
async def test_who_breaks_the_protocol_is_told_and_nobody_else_notices(start, code, bytes_sent):
    relay = await start()
    binary, sibling = await relay.pair()
    phone = await relay.raw_phone(binary)
    phone.write(bytes_sent)
    assert (await phone.closed())[0] == code
    assert await binary.frame() == notice(phone.conn_id, 1001)
    await sibling.send("1")
    assert (await binary.envelope())["conn_id"] == sibling.conn_id
