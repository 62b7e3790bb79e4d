// A typical day of a daemon and its phones.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  ALREADY_CLAIMED,
  HEARTBEAT_TIMEOUT,
  NO_SERVER,
  RECLAIMED,
  SHUTTING_DOWN,
  envelope,
  notice,
  start,
} from './harness.js';

async function talk(binary, phone, word) {
  phone.send(JSON.stringify({ ask: word }));
  assert.deepEqual(await binary.envelope(), { conn_id: phone.connId, frame: { ask: word } });
  binary.send(envelope(phone.connId, JSON.stringify({ answer: word })));
  assert.deepEqual(await phone.envelope(), { answer: word });
}

test('a day in the life', async (t) => {
  const relay = await start(t, { probeTimeout: '500ms', heartbeatInterval: '200ms', heartbeatTimeout: '5s' });

  // In the morning the phone is up first.
  assert.deepEqual(await relay.anyPhone('home').closed(), NO_SERVER);
  let daemon = await relay.binary('home');
  let phone = await relay.phone(daemon, 'home');
  const tablet = await relay.phone(daemon, 'home');
  for (const word of ['one', 'two']) {
    await talk(daemon, phone, word);
    await talk(daemon, tablet, word);
  }

  // The phone leaves; the daemon closes the tablet.
  phone.ws.close(1000);
  assert.equal(await daemon.frame(), notice(phone.connId, 1000));
  daemon.send(envelope(tablet.connId, '"good bye"', 4001));
  assert.equal(await tablet.frame(), '"good bye"');
  assert.deepEqual(await tablet.closed(), [4001, '']);

  // The daemon drops silently, and comes back while its phone waits.
  phone = await relay.phone(daemon, 'home');
  daemon.ws.terminate();
  await relay.counts(0, 1);
  daemon = await relay.binary('home');
  assert.deepEqual(await phone.closed(), RECLAIMED);
  phone = await relay.phone(daemon, 'home');
  await talk(daemon, phone, 'three');

  // Somebody starts it a second time.
  assert.deepEqual(await relay.anyBinary('home').closed(), ALREADY_CLAIMED);
  await talk(daemon, phone, 'four');

  // Its network hangs, and another machine takes over.
  daemon.ws.pause();
  const successor = relay.anyBinary('home');
  assert.deepEqual(await phone.closed(), RECLAIMED);
  daemon.ws.resume();
  assert.deepEqual(await daemon.closed(), HEARTBEAT_TIMEOUT);
  phone = await relay.phone(successor, 'home');
  await talk(successor, phone, 'five');

  // At night the relay stops.
  relay.process.kill('SIGTERM');
  assert.deepEqual(await successor.closed(), SHUTTING_DOWN);
  assert.deepEqual(await phone.closed(), SHUTTING_DOWN);
  assert.equal(await relay.exitCode(), 0);
});
