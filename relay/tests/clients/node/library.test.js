// Behaviour that a second WebSocket implementation might see differently.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';

import {
  ALREADY_CLAIMED,
  BACKLOG_FULL,
  HEARTBEAT_TIMEOUT,
  NO_SERVER,
  TOO_MANY_PHONES,
  envelope,
  notice,
  start,
  until,
  within,
} from './harness.js';

// Together, these are more than the buffers of two sockets hold.
const FRAMES = 400;
const LARGE = JSON.stringify('x'.repeat(128 * 1024));

test('a refused client gets code and reason', async (t) => {
  const relay = await start(t, { maxPhones: 1 });
  assert.deepEqual(await relay.anyPhone().closed(), NO_SERVER);
  const binary = await relay.binary();
  assert.deepEqual(await relay.anyBinary().closed(), ALREADY_CLAIMED);
  await relay.phone(binary);
  assert.deepEqual(await relay.anyPhone().closed(), TOO_MANY_PHONES);
});

test('a close frame is answered with the same code and reason', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  phone.ws.close(4321, 'bye');
  assert.deepEqual(await phone.closed(), [4321, 'bye']);
  assert.equal(await binary.frame(), notice(phone.connId, 4321));
  const other = await relay.phone(binary);
  other.ws.close(1014, 'bad gateway');
  assert.deepEqual(await other.closed(), [1014, 'bad gateway']);
  assert.equal(await binary.frame(), notice(other.connId, 1014));
  binary.ws.close(1000);
  assert.deepEqual(await binary.closed(), [1000, '']);
});

test('a close frame without a code is answered, and counts as 1001', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  phone.ws.close();
  assert.deepEqual(await phone.closed(), [1005, '']);
  assert.equal(await binary.frame(), notice(phone.connId, 1001));
});

test('a phone that is cut off counts as 1001', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  phone.ws.terminate();
  assert.equal(await binary.frame(), notice(phone.connId, 1001));
});

test('a phone is closed with the code that its binary names, after the frame', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  for (const [code, seen] of [[1000, 1000], [1011, 1011], [1014, 1014], [4001, 4001], [1005, 1005], [1006, 1005], [999, 1005]]) {
    const phone = await relay.phone(binary);
    binary.send(envelope(phone.connId, '"last"', code));
    assert.equal(await phone.frame(), '"last"');
    assert.deepEqual(await phone.closed(), [seen, '']);
  }
});

test('compression is offered and declined', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary('a', { perMessageDeflate: { threshold: 0 } });
  const phone = await relay.phone(binary, 'a', { perMessageDeflate: { threshold: 0 } });
  assert.equal(binary.ws.extensions, '');
  assert.equal(phone.ws.extensions, '');
  phone.send(LARGE);
  assert.equal((await binary.envelope()).frame.length, 128 * 1024);
  binary.send(envelope(phone.connId, LARGE));
  assert.equal(await phone.frame(), LARGE);
});

test('text and binary messages are accepted, and text ones sent, byte for byte', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  for (const frame of [' { "é" :\t1.50 }\n', '"\\u00e9😀\\/"', '[1e400,-0,12345678901234567890]']) {
    for (const options of [{ binary: true }, { binary: false }]) {
      phone.send(frame, options);
      assert.equal(await binary.frame(), `{"conn_id":"${phone.connId}","frame":${frame}}`);
      binary.send(envelope(phone.connId, frame), options);
      assert.equal(await phone.frame(), frame.trim());
    }
  }
});

test('a server-id may be written in any script', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary('ünïcødé "☎"');
  const phone = await relay.phone(binary, 'ünïcødé "☎"');
  assert.match(phone.connId, /^client-ünïcødé "☎"-[0-9a-f]{8}$/);
});

test('a message in fragments is one frame', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  const frame = '{"a":"fragmented"}';
  for (const byte of frame) phone.send(byte, { fin: false });
  phone.ws.ping('in between');
  phone.send('', { fin: true });
  assert.equal(await binary.frame(), `{"conn_id":"${phone.connId}","frame":${frame}}`);
  binary.send(`{"conn_id":"${phone.connId}",`, { fin: false });
  binary.send('"frame":1}', { fin: true });
  assert.equal(await phone.frame(), '1');
});

test('a protocol violation is closed with the code for it', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const sibling = await relay.phone(binary);
  for (const [code, message, options, reason] of [
    [1000, 'no json', {}],
    [1002, '1', { mask: false }],
    [1007, Buffer.from([0x22, 0xff, 0x22]), { binary: false }],
    [1007, Buffer.from([0x22, 0xff, 0x22]), { binary: true }],
    [1009, JSON.stringify('x'.repeat(256 * 1024)), {}, 'message too big'],
    [1000, '['.repeat(129) + ']'.repeat(129), {}],
  ]) {
    const phone = await relay.phone(binary);
    phone.send(message, options);
    const closed = await phone.closed();
    assert.deepEqual(closed, [code, reason ?? closed[1]]);
    assert.equal(await binary.frame(), notice(phone.connId, 1001));
  }
  sibling.send('1');
  assert.equal((await binary.envelope()).conn_id, sibling.connId);
});

test('pings are answered in both directions', async (t) => {
  const relay = await start(t, { heartbeatInterval: '100ms', heartbeatTimeout: '5s' });
  const binary = await relay.binary();
  const phone = await relay.phone(binary);
  for (const { ws } of [binary, phone]) {
    for (let pings = 0; pings < 3; pings++) await within(once(ws, 'ping'));
    const pong = once(ws, 'pong');
    ws.ping('payload');
    assert.equal((await within(pong))[0].toString(), 'payload');
  }
});

test('a peer that answers no ping is closed', async (t) => {
  const relay = await start(t, { heartbeatInterval: '200ms', heartbeatTimeout: '200ms' });
  const binary = await relay.binary();
  const silent = await relay.phone(binary, 'a', { autoPong: false });
  assert.deepEqual(await silent.closed(), HEARTBEAT_TIMEOUT);
  assert.equal(await binary.frame(), notice(silent.connId, 1001));
});

test('a refused upgrade has an HTTP status', async (t) => {
  const relay = await start(t, { rateBurst: 3, rateInterval: '1h', maxConnections: 1 });
  await relay.binary();
  const refused = async (headers) => {
    const { message } = await within(relay.anyPhone('a', { headers }).error);
    return Number(message.match(/Unexpected server response: (\d+)/)[1]);
  };
  assert.equal(await refused({}), 503);
  assert.equal(await refused({}), 503);
  assert.equal(await refused({}), 429);
});

test('a phone that does not read is closed, and its sibling goes on', async (t) => {
  const relay = await start(t, { outbox: 1 << 20 });
  const binary = await relay.binary();
  const slow = await relay.phone(binary);
  const sibling = await relay.phone(binary);
  slow.ws.pause();
  let told;
  binary.frame().then((frame) => (told = frame));
  let sent = 0;
  while (told === undefined) {
    assert.ok(++sent < FRAMES, 'its backlog must be full by now');
    binary.send(envelope(slow.connId, LARGE));
    binary.send(envelope(sibling.connId, String(sent)));
    assert.equal(await sibling.frame(), String(sent));
  }
  assert.equal(told, notice(slow.connId, 1001));
  slow.ws.resume();
  const [received, closed] = await slow.closedAtLast();
  assert.deepEqual(closed, BACKLOG_FULL);
  assert.ok(received < sent);
});

test('a binary that does not read slows down its own phones, and loses nothing', async (t) => {
  const relay = await start(t, { outbox: 1 << 20 });
  const slow = await relay.binary('slow');
  const phone = await relay.phone(slow, 'slow');
  const quick = await relay.binary('quick');
  const other = await relay.phone(quick, 'quick');
  slow.ws.pause();
  for (let number = 0; number < FRAMES; number++) phone.send(`[${number},${LARGE}]`);
  for (let number = 0; number < 500; number++) {
    other.send(String(number));
    assert.equal((await quick.envelope()).frame, number);
  }
  assert.ok(phone.ws.bufferedAmount > 0);
  slow.ws.resume();
  for (let number = 0; number < FRAMES; number++) {
    assert.equal((await slow.envelope()).frame[0], number);
  }
  await until(() => phone.ws.bufferedAmount === 0);
});

test('a phone that sends a frame while its binary is away is closed at once, and a silent one stays', async (t) => {
  const relay = await start(t);
  const binary = await relay.binary();
  const silent = await relay.phone(binary);
  const talking = await relay.phone(binary);
  binary.ws.terminate();
  await relay.counts(0, 2);
  talking.send('"nobody reads this"');
  assert.deepEqual(await talking.closed(), [1000, '']);
  await relay.counts(0, 1);
  assert.equal(silent.ws.readyState, silent.ws.OPEN);
});
