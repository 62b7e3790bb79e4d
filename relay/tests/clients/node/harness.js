// Shared by the tests: the relay as a program, and clients that use `ws`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import WebSocket from 'ws';

const PROGRAM = process.env.SWITCHBOARD_RELAY ?? 'target/debug/switchboard-relay';

// In milliseconds: more than any test needs.
const LIMIT = 20_000;

export const ALREADY_CLAIMED = [4409, 'server-id already claimed'];
export const NO_SERVER = [4404, 'no server with that id'];
export const RECLAIMED = [4404, 'binary reclaimed server-id'];
export const TOO_MANY_PHONES = [4429, 'too many phones for server-id'];
export const HEARTBEAT_TIMEOUT = [1011, 'heartbeat timeout'];
export const BACKLOG_FULL = [1011, 'phone backlog full'];
export const SHUTTING_DOWN = [1001, 'shutting down'];

export const BINARY = { 'X-Pyrycode-Version': '1.0', 'User-Agent': 'daemon' };
export const PHONE = { 'X-Pyrycode-Token': 't', 'User-Agent': 'app' };

export async function within(promise) {
  const timer = new AbortController();
  const late = sleep(LIMIT, undefined, { signal: timer.signal }).then(() => {
    throw new Error('too late');
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
    late.catch(() => {});
  }
}

export async function until(condition) {
  const end = Date.now() + LIMIT;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `too late: ${condition}`);
    await sleep(5);
  }
}

// An envelope as a binary sends it. `frame` is JSON already.
export function envelope(connId, frame, closeCode) {
  const close = closeCode === undefined ? '' : `,"close_code":${closeCode}`;
  return `{"conn_id":${JSON.stringify(connId)},"frame":${frame}${close}}`;
}

export const notice = (connId, code) => `{"conn_id":"${connId}","close_code":${code}}`;

// Starts a relay, which must exit with status 0 and without a panic when the test ends.
export async function start(t, settings = {}) {
  const relay = new Relay({ listen: '127.0.0.1:0', metricsListen: 'off', rateBurst: 0, ...settings });
  t.after(() => relay.endsWell());
  await until(() => relay.address());
  return relay;
}

class Relay {
  log = '';
  clients = [];

  constructor(settings) {
    const flags = Object.entries(settings).flatMap(([name, value]) => [
      `--${name.replace(/[A-Z]/g, (it) => `-${it.toLowerCase()}`)}`,
      String(value),
    ]);
    this.process = spawn(PROGRAM, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.process.stderr.on('data', (data) => (this.log += data));
    this.exited = once(this.process, 'exit');
  }

  address() {
    assert.equal(this.process.exitCode, null, this.log);
    return this.log.match(/\blistening address=(\S+)/)?.[1];
  }

  async endsWell() {
    try {
      for (const client of this.clients) client.ws.terminate();
      for (const client of this.clients) client.gotTextOnly();
      this.process.kill('SIGTERM');
      assert.equal(await this.exitCode(), 0, this.log);
      assert.doesNotMatch(this.log, /panicked/);
    } finally {
      this.process.kill('SIGKILL');
    }
  }

  async exitCode() {
    return (await within(this.exited))[0];
  }

  async health() {
    return (await fetch(`http://${this.address()}/healthz`)).json();
  }

  async counts(binaries, phones) {
    await until(async () => {
      const health = await this.health();
      return health.connected_binaries === binaries && health.connected_phones === phones;
    });
  }

  connect(path, serverId, headers, options) {
    const client = new Client(
      new WebSocket(`ws://${this.address()}${path}`, {
        headers: { 'X-Pyrycode-Server': Buffer.from(serverId).toString('latin1'), ...headers },
        ...options,
      }),
    );
    this.clients.push(client);
    return client;
  }

  // These may be refused.
  anyBinary(serverId = 'a', options = {}) {
    return this.connect('/v1/server', serverId, BINARY, options);
  }

  anyPhone(serverId = 'a', options = {}) {
    return this.connect('/v1/client', serverId, PHONE, options);
  }

  // Returns a binary that has claimed.
  async binary(serverId = 'a', options = {}) {
    const before = (await this.health()).connected_binaries;
    const binary = this.anyBinary(serverId, options);
    await binary.opened;
    await until(async () => (await this.health()).connected_binaries > before);
    return binary;
  }

  // Returns a phone that has registered, with its `connId`, which its binary learns from its first frame.
  async phone(binary, serverId = 'a', options = {}) {
    const phone = this.anyPhone(serverId, options);
    await phone.opened;
    phone.send('"hello"');
    phone.connId = (await binary.envelope()).conn_id;
    return phone;
  }
}

class Client {
  #messages = [];
  // The first binary message. The relay must never send one.
  #binary;
  #wanted = [];
  #close;

  constructor(ws) {
    this.ws = ws;
    this.opened = within(once(ws, 'open'));
    this.opened.catch(() => {});
    this.error = once(ws, 'error').then(([error]) => error);
    this.error.catch(() => {});
    ws.on('message', (data, isBinary) => {
      if (isBinary) this.#binary ??= data.subarray(0, 200);
      this.#messages.push(data.toString());
      this.#wake();
    });
    this.end = new Promise((resolve) =>
      ws.on('close', (code, reason) => {
        this.#close = [code, reason.toString()];
        resolve(this.#close);
        this.#wake();
      }),
    );
  }

  #wake() {
    this.#wanted.splice(0).forEach((wake) => wake());
  }

  send(message, options = {}) {
    this.ws.send(message, options);
  }

  gotTextOnly() {
    assert.equal(this.#binary, undefined, `the relay sent a binary message: ${this.#binary}`);
  }

  async frame() {
    while (this.#messages.length === 0) {
      assert.equal(this.#close, undefined, 'closed and no frame');
      await within(new Promise((resolve) => this.#wanted.push(resolve)));
    }
    this.gotTextOnly();
    return this.#messages.shift();
  }

  async envelope() {
    return JSON.parse(await this.frame());
  }

  // Code and reason of the close, before which no frame may come.
  async closed() {
    const close = await within(this.end);
    assert.deepEqual(this.#messages, []);
    return close;
  }

  // The same, and the number of frames before it.
  async closedAtLast() {
    const close = await within(this.end);
    return [this.#messages.splice(0).length, close];
  }
}
