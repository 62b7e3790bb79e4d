// Checks that this relay speaks the protocol of the one it is compared with. scripts/bench runs this before it
// measures.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import WebSocket from 'ws';

const BINARY = ['/v1/server', { 'X-Pyrycode-Version': '1' }];
const PHONE = ['/v1/client', { 'X-Pyrycode-Token': 't' }];

let relay, url;

before(async () => {
  const flags = ['--listen', '127.0.0.1:0', '--metrics-listen', 'off', '--rate-burst', '0', '--max-phones', '2'];
  relay = spawn(fileURLToPath(new URL('relay.js', import.meta.url)), flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  const [line] = await once(createInterface(relay.stderr), 'line');
  url = `ws://${/^listening address=(\S+) tls=false$/.exec(line)[1]}`;
});

after(() => relay.kill('SIGKILL'));

async function open([path, headers], serverId) {
  const peer = new WebSocket(url + path, {
    headers: { 'User-Agent': 'test', 'X-Pyrycode-Server': serverId, ...headers },
  });
  const messages = [];
  const waiting = [];
  peer.on('message', (data, isBinary) => {
    assert.ok(!isBinary);
    const next = waiting.shift();
    if (next) next(data.toString());
    else messages.push(data.toString());
  });
  peer.next = () => messages.shift() ?? new Promise((resolve) => waiting.push(resolve));
  peer.closed = new Promise((resolve) => peer.on('close', (code, reason) => resolve([code, reason.toString()])));
  await once(peer, 'open');
  return peer;
}

/** A phone, and its conn-id. */
async function join(binary, serverId) {
  const phone = await open(PHONE, serverId);
  phone.send('"hello"');
  return [phone, JSON.parse(await binary.next()).conn_id];
}

const LIMIT = { timeout: 10_000 };

test('a refused peer gets a close code and a reason', LIMIT, async () => {
  const early = await open(PHONE, 'refused');
  assert.deepEqual(await early.closed, [4404, 'no server with that id']);
  await open(BINARY, 'refused');
  const second = await open(BINARY, 'refused');
  assert.deepEqual(await second.closed, [4409, 'server-id already claimed']);
  await open(PHONE, 'refused');
  await open(PHONE, 'refused');
  const third = await open(PHONE, 'refused');
  assert.deepEqual(await third.closed, [4429, 'too many phones for server-id']);
  await assert.rejects(open(['/v1/client', {}], 'refused'), /400/);
});

test('a frame goes to the binary and back byte for byte', LIMIT, async () => {
  const binary = await open(BINARY, 'frames');
  const [phone, connId] = await join(binary, 'frames');
  assert.match(connId, /^client-frames-[0-9a-f]{8}$/);
  const frame = ' {"a" : 2.50, "n": 12345678901234567890, "s": "é\\u00e9"}';
  phone.send(frame);
  const envelope = await binary.next();
  assert.equal(envelope, `{"conn_id":"${connId}","frame":${frame}}`);
  binary.send(envelope);
  assert.equal(await phone.next(), frame);
});

test('an envelope may have any layout, and anything else is dropped', LIMIT, async () => {
  const binary = await open(BINARY, 'layouts');
  const [phone, connId] = await join(binary, 'layouts');
  const nothing = ['null', '5', '{', '"', '[]', '{"conn_id":"nobody","frame":1}', `{"conn_id":"${connId}","frame":null}`];
  for (const message of nothing) binary.send(message);
  binary.send(`{ "x": 1, "frame": {"a": 1}, "conn_id": "${connId}" }`);
  assert.equal(await phone.next(), '{"a":1}');
  binary.send(`{"conn_id":"${connId}","frame":1,"frame":2}`);
  assert.equal(await phone.next(), '2');
  binary.send(`{"conn_id":"${connId}","frame":"last","close_code":4000}`);
  assert.equal(await phone.next(), '"last"');
  assert.deepEqual(await phone.closed, [4000, '']);
});

test('a binary is notified of each phone that leaves by itself', LIMIT, async () => {
  const binary = await open(BINARY, 'notices');
  const [leaving, leavingId] = await join(binary, 'notices');
  leaving.close(3001);
  assert.equal(await binary.next(), `{"conn_id":"${leavingId}","close_code":3001}`);
  const [lost, lostId] = await join(binary, 'notices');
  lost.terminate();
  assert.equal(await binary.next(), `{"conn_id":"${lostId}","close_code":1001}`);
  const [babbling] = await join(binary, 'notices');
  babbling.send('no JSON');
  assert.equal((await babbling.closed)[0], 1000);
});

test('SIGTERM closes every peer, and the program exits with 0', LIMIT, async () => {
  const binary = await open(BINARY, 'shutdown');
  const exit = once(relay, 'exit');
  relay.kill('SIGTERM');
  assert.deepEqual(await binary.closed, [1001, 'shutting down']);
  assert.equal((await exit)[0], 0);
});
