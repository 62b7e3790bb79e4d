// The relay and clients of it, for the tests.
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import WebSocket from "ws";

const PROGRAM = process.env.SWITCHBOARD_RELAY;

const running = new Set();
process.on("exit", () => running.forEach(program => program.kill("SIGKILL")));

/** Asks until the answer is as wanted. On a timeout, reports the last answer. */
export async function until(what, ask, wanted, patience = 15_000) {
  const end = performance.now() + patience;
  for (;;) {
    const answer = await ask();
    if (wanted(answer)) return answer;
    if (performance.now() > end) throw new Error(`${what}: not within ${patience} ms, but ${JSON.stringify(answer)}`);
    await sleep(50);
  }
}

/** The program, on free ports unless the flags say otherwise. */
export class Relay {
  static async start(flags = []) {
    const free = ["--listen", "--metrics-listen"].filter(flag => !flags.includes(flag)).flatMap(flag => [flag, "127.0.0.1:0"]);
    const program = spawn(PROGRAM, [...free, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    const relay = new Relay();
    relay.program = program;
    relay.ended = once(program, "exit");
    running.add(program);
    relay.ended.then(() => running.delete(program));
    const log = [];
    for await (const line of createInterface(program.stderr)) {
      log.push(line);
      relay.metrics ??= line.match(/serving metrics address=(\S+)/)?.[1];
      relay.address = line.match(/ listening address=(\S+)/)?.[1];
      if (relay.address) break;
    }
    if (!relay.address) throw new Error(`the relay does not start: ${log.join("\n")}`);
    program.stderr.resume();
    relay.url = `http://${relay.metrics}/`;
    return relay;
  }

  async stop() {
    this.signal("SIGCONT");
    this.signal("SIGTERM");
    await this.ended;
  }

  signal(name) {
    this.program.kill(name);
  }

  /** All series: {"name{label="value"}": number}. */
  async series() {
    const text = await (await fetch(`${this.url}metrics`)).text();
    const lines = text.split("\n").filter(line => line && !line.startsWith("#"));
    return Object.fromEntries(lines.filter(line => line.startsWith("switchboard_")).map(line => {
      const space = line.lastIndexOf(" ");
      return [line.slice("switchboard_".length, space), Number(line.slice(space + 1))];
    }));
  }

  binary(serverId, options) {
    return this.connect("server", serverId, { "X-Pyrycode-Version": "1.0" }, options);
  }

  phone(serverId) {
    return this.connect("client", serverId, { "X-Pyrycode-Token": "token" });
  }

  async connect(endpoint, serverId, headers, options) {
    const all = { "X-Pyrycode-Server": serverId, "User-Agent": "test", ...headers };
    const socket = new WebSocket(`ws://${this.address}/v1/${endpoint}`, { headers: all, ...options });
    socket.frames = [];
    socket.on("message", data => socket.frames.push(data.toString()));
    socket.closed = once(socket, "close").then(([code]) => code);
    await once(socket, "open");
    return socket;
  }

  /** The status with which an upgrade is refused. */
  async refused(headers = {}) {
    const { port, hostname } = new URL(`http://${this.address}`);
    const upgrade = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==" };
    const request = http.get({ hostname, port, path: "/v1/client", headers: { ...upgrade, ...headers } });
    const [answer] = await once(request, "response");
    answer.resume();
    return answer.statusCode;
  }
}

/**
 * Serves the page with the relay's headers, and with events that a test makes up: some that would take five minutes, and
 * some that a relay never sends.
 */
export class Script {
  static async start(relay) {
    const page = await fetch(relay.url);
    const body = await page.text();
    const headers = Object.fromEntries(["content-type", "content-security-policy"].map(name => [name, page.headers.get(name)]));
    const script = new Script();
    script.streams = new Set();
    script.kept = [];
    script.asked = 0;
    script.server = http.createServer((request, response) => {
      if (request.url === "/") return response.writeHead(200, headers).end(body);
      if (request.url === "/healthz") return response.writeHead(200).end('{"version":"9.8.7","uptime_seconds":93784}');
      if (request.url !== "/events") return response.writeHead(404).end();
      script.asked += 1;
      if (script.broken) return response.writeHead(502).end("a proxy");
      response.writeHead(200, { "content-type": "text/event-stream" });
      script.streams.add(response);
      response.on("close", () => script.streams.delete(response));
      script.tell("kept", script.kept, [response]);
    });
    await once(script.server.listen(0, "127.0.0.1"), "listening");
    script.url = `http://127.0.0.1:${script.server.address().port}/`;
    return script;
  }

  tell(event, data, to = this.streams) {
    for (const stream of to) stream.write(`event: ${event}\nretry: 200\ndata: ${JSON.stringify(data)}\n\n`);
  }

  cut() {
    for (const stream of this.streams) stream.destroy();
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

const ZERO = Object.fromEntries([
  "binaries", "phones", "in_grace", "connections", "max_connections",
  "frames_to_binaries", "frames_to_phones", "bytes_to_binaries", "bytes_to_phones", "upgrades",
  "rate_limited", "over_capacity", "bad_requests", "server_id_claimed", "no_server", "too_many_phones",
  "grace_expiries", "reclaims", "takeovers", "outbox_overflows", "heartbeat_timeouts", "write_failures",
  "frames_undelivered", "envelopes_dropped", "messages_rejected", "log_lines_dropped",
].map(key => [key, 0]));

/** Samples one second apart, the last at `end`. Each second, counters rise as `rises` says. */
export function samples(count, end, gauges = () => ({}), rises = () => ({})) {
  const totals = { ...ZERO };
  return Array.from({ length: count }, (_, second) => {
    for (const [key, rise] of Object.entries(rises(second))) totals[key] += rise;
    return { time: end - (count - 1 - second) * 1000, ...totals, ...gauges(second) };
  });
}

/** Two samples in which no two counters have the same value or the same increase. */
export function distinct(end) {
  const [first, second] = samples(2, end);
  Object.keys(ZERO).forEach((key, index) => {
    first[key] = 100 + index;
    second[key] = first[key] + 1000 * (index + 1);
  });
  return [first, second];
}
