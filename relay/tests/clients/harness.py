"""Shared by the tests: the relay as a program, and clients for it."""

import asyncio
import inspect
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PROGRAM = os.environ.get("SWITCHBOARD_RELAY", "target/debug/switchboard-relay")

# In seconds: more than any test needs.
LIMIT = 20

BINARY = {"X-Pyrycode-Server": "a", "X-Pyrycode-Version": "1.0", "User-Agent": "daemon"}
PHONE = {"X-Pyrycode-Server": "a", "X-Pyrycode-Token": "t", "User-Agent": "app"}

ALREADY_CLAIMED = (4409, "server-id already claimed")
NO_SERVER = (4404, "no server with that id")
RECLAIMED = (4404, "binary reclaimed server-id")
TOO_MANY_PHONES = (4429, "too many phones for server-id")
HEARTBEAT_TIMEOUT = (1011, "heartbeat timeout")
BACKLOG_FULL = (1011, "phone backlog full")
SHUTTING_DOWN = (1001, "shutting down")
MESSAGE_TOO_BIG = (1009, "message too big")
MESSAGE_TOO_SLOW = (1008, "message too slow")
NOTHING_SAID = (1008, "nothing said")
UNDELIVERED = (1000, "")
NO_CODE = (1005, "")


async def within(awaitable, limit=LIMIT):
    async with asyncio.timeout(limit):
        return await awaitable


async def until(condition, limit=LIMIT):
    """Asks until the answer is true, and returns it."""
    async with asyncio.timeout(limit):
        while True:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.005)


def envelope(conn_id, frame="null", **fields):
    """An envelope as a binary sends it. `frame` is JSON already."""
    rest = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in fields.items())
    return f'{{"conn_id":{json.dumps(conn_id)},"frame":{frame}{rest}}}'


def notice(conn_id, code):
    return f'{{"conn_id":"{conn_id}","close_code":{code}}}'.encode()


def text_of(length):
    """A JSON string of that many bytes."""
    return '"' + "x" * (length - 2) + '"'


class Relay:
    """A relay process. `grace="1s"` becomes `--grace 1s`."""

    numbers = itertools.count()

    def __init__(self, directory: Path, *, env=None, descriptors=None, ssl=None, piped=(), socket=None, **settings):
        """Only the first lines of `piped` streams are read."""
        # Tests share one address, and a default port may be in use.
        defaults = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "rate_burst": 0, "max_per_address": 0}
        settings = defaults | settings
        flags = [
            word
            for name, value in settings.items()
            if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self.ssl = ssl
        self.clients = []
        self.log_file = directory / f"relay-{next(self.numbers)}.log"
        reader, writer = os.pipe() if piped else (None, None)
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*passing(socket), PROGRAM, *flags],
                stdin=subprocess.DEVNULL,
                stdout=writer if "stdout" in piped else log,
                stderr=writer if "stderr" in piped else log,
                env=environment(env),
                preexec_fn=descriptors
                and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))),
                pass_fds=[socket.fileno()] if socket else [],
            )
        if piped:
            os.close(writer)
            self.pipe = os.fdopen(reader, "rb", buffering=0)
            self.read_pipe_until(b"listening address")

    def read_pipe_until(self, words=None):
        with self.log_file.open("ab") as log:
            for line in self.pipe:
                log.write(line)
                if words and words in line:
                    break

    # The program.

    def log(self):
        return self.log_file.read_text(errors="replace")

    def events(self):
        """The complete lines of a log in JSON."""
        return [json.loads(line) for line in self.log().rpartition("\n")[0].splitlines()]

    def address_in_log(self, line):
        assert self.process.poll() is None, self.log()
        # As text, or as JSON.
        found = re.search(rf'\b{line}(?: address=|","address":")([\d.]+|\[::\]):(\d+)', self.log())
        return found and (found[1].replace("[::]", "127.0.0.1"), int(found[2]))

    async def listens(self):
        self.address = await until(lambda: self.address_in_log("listening"))
        await self.health()
        self.descriptors_at_start = self.descriptors()
        return self

    def signal(self, number):
        self.process.send_signal(number)

    async def exit_code(self, limit=LIMIT):
        await until(lambda: self.process.poll() is not None, limit)
        return self.process.returncode

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    async def settles(self):
        """Drops all clients, and waits until everything held for them is released."""

        async def settled():
            health = await self.health()
            counts = (health["connected_binaries"], health["connected_phones"])
            return counts == (0, 0) and self.descriptors() <= self.descriptors_at_start

        for client in self.clients:
            client.vanish()
        try:
            await until(settled)
        except TimeoutError:
            links = [os.readlink(it) for it in Path(f"/proc/{self.process.pid}/fd").iterdir()]
            raise AssertionError(f"left behind: {await self.health()}, {links}") from None

    async def ends_well(self):
        if self.process.poll() is None:
            await self.settles()
            self.signal(signal.SIGTERM)
            assert await self.exit_code() == 0
        assert "panicked" not in self.log()

    # HTTP.

    async def get(self, path, address=None):
        """Returns status, headers and body."""
        raw = await Raw.dial(self, address)
        await raw.request(path, {"Host": "localhost", "Connection": "close"})
        body = await raw.rest()
        raw.vanish()
        return raw.status, raw.headers, body

    async def health(self):
        status, _, body = await self.get("/healthz")
        assert status == 200
        health = json.loads(body)
        if health.keys() == {"status"}:
            _, _, body = await self.get("/healthz", address=self.address_in_log("serving metrics"))
            health = json.loads(body)
        return health

    async def metrics(self):
        """The series by name and labels: `{"name": {frozenset({("label", "value")}): 1.0}}`."""
        address = await until(lambda: self.address_in_log("serving metrics"))
        status, _, body = await self.get("/metrics", address=address)
        assert status == 200
        families = {}
        for line in body.decode().splitlines():
            if not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
                labels = frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))
                families.setdefault(name, {})[labels] = float(value)
        return families

    async def metric(self, name, **labels):
        """The sum of all series with these labels. There must be at least one."""
        family = (await self.metrics())[f"switchboard_{name}"]
        values = [value for of, value in family.items() if of >= labels.items()]
        assert values, f"{name} {labels}: {family}"
        return sum(values)

    async def metric_becomes(self, wanted, name, **labels):
        value = None

        async def reached():
            nonlocal value
            value = await self.metric(name, **labels)
            return value == wanted

        try:
            await until(reached)
        except TimeoutError:
            raise AssertionError(f"{name} {labels} is {value} and not {wanted}") from None

    async def knock(self, path, headers, **options):
        """Requests an upgrade, and returns the status. Drops the connection if it was upgraded."""
        raw = await Raw.upgrade(self, path, headers, **options)
        raw.vanish()
        return raw.status

    # Clients.

    async def connect(self, path, headers, **options):
        # The library writes headers in Latin-1; the relay reads UTF-8.
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        scheme = "wss" if self.ssl else "ws"
        uri = f"{scheme}://{self.address[0]}:{self.address[1]}{path}"
        options = {"compression": None, "ping_interval": None, "max_size": None, "ssl": self.ssl} | options
        agent = headers.pop("User-Agent", None)
        ws = await within(
            connect(uri, additional_headers=headers, user_agent_header=agent, proxy=None, **options).__aenter__()
        )
        client = Client(ws)
        self.clients.append(client)
        return client

    async def any_binary(self, server_id="a", **options):
        """A binary that may be refused."""
        return await self.connect("/v1/server", BINARY | {"X-Pyrycode-Server": server_id}, **options)

    async def any_phone(self, server_id="a", **options):
        """A phone that may be refused."""
        return await self.connect("/v1/client", PHONE | {"X-Pyrycode-Server": server_id}, **options)

    async def binary(self, server_id="a", **options):
        """A binary that has claimed."""
        before = (await self.health())["connected_binaries"]
        binary = await self.any_binary(server_id, **options)
        await self.counts(binaries=before + 1)
        return binary

    async def phone(self, binary, server_id="a", **options):
        """A phone that has registered, with its `conn_id`, which its binary learns from its first frame."""
        phone = await self.any_phone(server_id, **options)
        await phone.send('"hello"')
        phone.conn_id = (await binary.envelope())["conn_id"]
        return phone

    async def pair(self, server_id="a"):
        binary = await self.binary(server_id)
        return binary, await self.phone(binary, server_id)

    async def raw_binary(self, server_id="a", **options):
        before = (await self.health())["connected_binaries"]
        raw = await Raw.upgrade(self, "/v1/server", BINARY | {"X-Pyrycode-Server": server_id}, **options)
        assert raw.status == 101
        await self.counts(binaries=before + 1)
        return raw

    async def raw_phone(self, binary, server_id="a", **options):
        raw = await Raw.upgrade(self, "/v1/client", PHONE | {"X-Pyrycode-Server": server_id}, **options)
        assert raw.status == 101
        await raw.send(TEXT, b'"hello"')
        raw.conn_id = (await binary.envelope())["conn_id"]
        return raw

    async def counts(self, **wanted):
        async def reached():
            health = await self.health()
            return all(health[f"connected_{name}"] == count for name, count in wanted.items())

        await until(reached)


def passing(socket):
    """A command that runs another one with this socket, as systemd passes it."""
    if socket is None:
        return []
    return ["bash", "-c", f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{socket.fileno()}', "bash"]


def environment(extra=None):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_")}
    return inherited | {"RUST_BACKTRACE": "1"} | (extra or {})


class Client:
    """A binary or a phone that uses `websockets`. It answers pings while it is read from, or has room for more."""

    def __init__(self, ws):
        self.ws = ws

    async def send(self, message):
        await within(self.ws.send(message))

    async def frame(self, limit=LIMIT):
        """The next message as bytes. It must be text: the relay sends nothing else."""
        message = await within(self.ws.recv(), limit)
        assert isinstance(message, str), f"the relay sent a binary message: {message[:200]}"
        return message.encode()

    async def envelope(self):
        return json.loads(await self.frame())

    async def closed(self):
        """Code and reason of the close, before which no frame may come."""
        try:
            message = await self.frame()
        except ConnectionClosed as gone:
            return (gone.rcvd.code, gone.rcvd.reason) if gone.rcvd else (1006, "")
        raise AssertionError(f"a message and no close: {message[:200]}")

    async def closed_at_last(self):
        """The same, after the number of frames before it."""
        count = 0
        while True:
            try:
                await self.frame()
            except ConnectionClosed:
                return count, await self.closed()
            count += 1

    async def close(self, code=1000, reason=""):
        await within(self.ws.close(code, reason))

    def vanish(self):
        self.ws.transport.abort()


TEXT, BYTES, CLOSE, PING, PONG = 1, 2, 8, 9, 10

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Host": "relay",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


class Raw:
    """A client that does nothing by itself: it answers no ping and no close, and reads only on request."""

    # Bytes sent directly after the request, before the response.
    early = b""

    @classmethod
    async def dial(cls, relay, address=None, source="127.0.0.1", room=None, first=b""):
        """`room` is about how many bytes the buffers at its end hold, in each direction. Sends `first` before TLS."""
        self = cls()
        sock = socket.socket()
        sock.setblocking(False)
        if room:
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, buffer, room // 2)
        sock.bind((source, 0))
        await within(asyncio.get_running_loop().sock_connect(sock, address or relay.address))
        await within(asyncio.get_running_loop().sock_sendall(sock, first))
        ssl = None if address else relay.ssl
        self.reader, self.writer = await within(
            asyncio.open_connection(
                sock=sock, ssl=ssl, server_hostname=relay.address[0] if ssl else None, limit=(room or 1 << 17) // 2
            )
        )
        return self

    async def request(self, path, headers, method="GET", version="HTTP/1.1"):
        """`headers` may be a list of pairs, in which a name may be repeated."""
        lines = [f"{method} {path} {version}".encode()]
        lines += [b": ".join([name.encode(), value if isinstance(value, bytes) else value.encode()])
                  for name, value in (headers.items() if isinstance(headers, dict) else headers)]
        self.write(b"\r\n".join([*lines, b"", self.early]))
        head = (await within(self.reader.readuntil(b"\r\n\r\n"))).decode()
        status, *fields = head.strip().split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}

    @classmethod
    async def upgrade(cls, relay, path, headers, **options):
        self = await cls.dial(relay, **options)
        relay.clients.append(self)
        await self.ask_for_upgrade(path, headers)
        return self

    async def ask_for_upgrade(self, path, headers):
        await self.request(path, UPGRADE | headers)

    def write(self, data):
        self.writer.write(data)

    async def rest(self):
        return await within(self.reader.read())

    async def send(self, opcode, payload=b"", **options):
        self.write(frame_of(opcode, payload, **options))
        await within(self.writer.drain())

    async def read(self):
        """Opcode and payload of the next frame, which must not be a binary message."""
        first, length = await within(self.reader.readexactly(2))
        if length == 126:
            length = int.from_bytes(await within(self.reader.readexactly(2)))
        elif length == 127:
            length = int.from_bytes(await within(self.reader.readexactly(8)))
        opcode, payload = first & 15, await within(self.reader.readexactly(length))
        assert opcode != BYTES, f"the relay sent a binary message: {payload[:200]}"
        return opcode, payload

    async def read_until(self, wanted):
        while True:
            opcode, payload = await self.read()
            if opcode == wanted:
                return payload

    async def closed(self):
        payload = await self.read_until(CLOSE)
        return (int.from_bytes(payload[:2]), payload[2:].decode()) if payload else NO_CODE

    async def stalls(self):
        """Waits until its writes no longer make progress."""
        unsent = []

        def is_stuck():
            unsent.append(self.writer.transport.get_write_buffer_size())
            return unsent[-1] > 0 and len(unsent) > 40 and unsent[-40] == unsent[-1]

        await until(is_stuck)

    async def gone(self):
        """Reads until the connection ends, in whatever way."""
        try:
            while await within(self.reader.read(1 << 16)):
                pass
        except ConnectionError:
            pass

    def vanish(self):
        self.writer.transport.abort()


def close_payload(code, reason=""):
    return code.to_bytes(2) + reason.encode()


def frame_of(opcode, payload=b"", *, last=True, masked=True, reserved=0, mask=bytes(4)):
    length = len(payload)
    if length < 126:
        size = bytes([length])
    elif length < 1 << 16:
        size = b"\x7e" + length.to_bytes(2)
    else:
        size = b"\x7f" + length.to_bytes(8)
    head = bytes([last << 7 | reserved << 4 | opcode, masked << 7 | size[0], *size[1:]])
    # A mask of zeros leaves the payload as it is.
    if any(mask):
        payload = bytes(byte ^ mask for byte, mask in zip(payload, itertools.cycle(mask)))
    return head + (mask if masked else b"") + payload
