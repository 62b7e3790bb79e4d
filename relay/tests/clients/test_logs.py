"""The reader of the log may be slow, or may not read at all."""

import signal

import pytest

from harness import TEXT, envelope, frame_of, until

# More lines than the queue for stderr and a pipe hold.
LINES = 20_000


@pytest.mark.parametrize("log", ["debug", "trace"])
@pytest.mark.parametrize("piped", [["stderr"], ["stdout", "stderr"]])
async def test_a_log_without_a_reader_blocks_nothing(start, piped, log):
    relay = await start(piped=piped, log=log)
    binary, phone = await relay.pair()
    noisy = await relay.raw_binary("noisy")
    for _ in range(LINES // 100):
        # Each of these is logged.
        noisy.write(frame_of(TEXT, envelope("nobody", "1").encode()) * 100)
        await noisy.writer.drain()

    async def lines_are_dropped():
        return await relay.metric("log_lines_dropped_total") > 0

    await until(lines_are_dropped)
    for number in range(100):
        await phone.send(str(number))
        assert (await binary.envelope())["frame"] == number
        await binary.send(envelope(phone.conn_id, str(number)))
        assert await phone.frame() == str(number).encode()
    await relay.phone(binary)
    await relay.health()
    relay.signal(signal.SIGTERM)
    # Up to two seconds of this are for the last lines of the log.
    assert await relay.exit_code(limit=6) == 0
    relay.read_pipe_until()
