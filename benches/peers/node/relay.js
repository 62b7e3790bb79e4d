#!/usr/bin/env node
// A relay for the same protocol, as it is usually written for Node.js: one process, `node:http`, and npm's `ws` with
// its defaults and the addon that it recommends for speed. `ws` disables Nagle's algorithm and hands each message to
// the system separately.
//
// It does less than switchboard-relay: no grace, no probe for a binary that is gone, no rate limit, no metrics, no TLS,
// and a slow binary does not slow its phones down.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { WebSocketServer } from 'ws';

const HEARTBEAT_INTERVAL = 30_000;
const SHUTDOWN_TIMEOUT = 10_000;

const BEFORE_CONN_ID = '{"conn_id":';
const BEFORE_FRAME = ',"frame":';

// Accepts the other flags of switchboard-relay and ignores them.
const { values: flags } = parseArgs({
  strict: false,
  options: {
    listen: { type: 'string', default: '127.0.0.1:8080' },
    'metrics-listen': { type: 'string' },
    'rate-burst': { type: 'string' },
    'max-connections': { type: 'string', default: '10000' },
    'max-phones': { type: 'string', default: '16' },
    'max-frame': { type: 'string', default: '262144' },
    outbox: { type: 'string', default: '4194304' },
  },
});
const maxConnections = Number(flags['max-connections']);
const maxPhones = Number(flags['max-phones']);
const outbox = Number(flags.outbox);

const ENDPOINTS = {
  '/v1/server': { serve: serveBinary, headers: ['x-pyrycode-server', 'x-pyrycode-version', 'user-agent'] },
  '/v1/client': { serve: servePhone, headers: ['x-pyrycode-server', 'x-pyrycode-token', 'user-agent'] },
};

/** Maps a server-id to its binary and to its phones by conn-id. */
const servers = new Map();

const http = createServer((request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({
  noServer: true,
  maxPayload: Number(flags['max-frame']),
  perMessageDeflate: false,
});

http.on('upgrade', (request, socket, head) => {
  socket.on('error', () => {});
  const refuse = (status) => socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`);
  const endpoint = ENDPOINTS[request.url];
  if (!endpoint) return refuse('404 Not Found');
  if (sockets.clients.size >= maxConnections) return refuse('503 Service Unavailable');
  if (!endpoint.headers.every((name) => request.headers[name])) return refuse('400 Bad Request');
  sockets.handleUpgrade(request, socket, head, (peer) => {
    peer.isAlive = true;
    peer.on('pong', () => (peer.isAlive = true));
    // `ws` closes a peer that breaks the protocol.
    peer.on('error', () => {});
    endpoint.serve(peer, request.headers['x-pyrycode-server']);
  });
});

function serveBinary(binary, serverId) {
  if (servers.has(serverId)) return binary.close(4409, 'server-id already claimed');
  const phones = new Map();
  servers.set(serverId, { binary, phones });
  binary.on('message', (data) => forward(phones, data.toString()));
  binary.on('close', () => {
    servers.delete(serverId);
    for (const { phone } of phones.values()) phone.close(1000);
  });
}

function servePhone(phone, serverId) {
  const server = servers.get(serverId);
  if (!server) return phone.close(4404, 'no server with that id');
  const { binary, phones } = server;
  if (phones.size >= maxPhones) return phone.close(4429, 'too many phones for server-id');
  const connId = `client-${serverId}-${randomBytes(4).toString('hex')}`;
  const member = { phone, askedByBinary: false };
  phones.set(connId, member);
  const start = BEFORE_CONN_ID + JSON.stringify(connId);
  phone.on('message', (data) => {
    const frame = data.toString();
    if (parsed(frame) === undefined) return phone.close(1000);
    binary.send(`${start}${BEFORE_FRAME}${frame}}`);
  });
  phone.on('close', (code) => {
    phones.delete(connId);
    // 1005 and 1006 mean that the phone sent no code.
    const given = code === 1005 || code === 1006 ? 1001 : code;
    if (!member.askedByBinary) binary.send(`${start},"close_code":${given}}`);
  });
}

/** Sends the frame in a binary's envelope to the phone that it names, and closes that phone if the envelope says so. */
function forward(phones, message) {
  const { connId, frame, closeCode } = cut(phones, message) ?? read(message);
  const member = phones.get(connId);
  if (!member) return;
  const { phone } = member;
  if (frame !== undefined) {
    phone.send(frame);
    if (phone.bufferedAmount > outbox) phone.close(1011, 'phone backlog full');
  }
  if (closeCode) {
    member.askedByBinary = true;
    close(phone, closeCode);
  }
}

/** Cuts the frame out of an envelope with the layout of this relay's own envelopes, and keeps it byte for byte. */
function cut(phones, message) {
  const from = BEFORE_CONN_ID.length + 1;
  const to = message.indexOf('"', from);
  if (!message.startsWith(`${BEFORE_CONN_ID}"`) || !message.startsWith(BEFORE_FRAME, to + 1)) return undefined;
  const connId = message.slice(from, to);
  const frame = message.slice(to + 1 + BEFORE_FRAME.length, -1);
  const isWhole = message.endsWith('}') && phones.has(connId) && (parsed(frame) ?? undefined) !== undefined;
  return isWhole ? { connId, frame } : undefined;
}

/** Reads an envelope with any other layout, and serialises its frame again. */
function read(message) {
  const { conn_id: connId, frame, close_code: closeCode } = parsed(message) ?? {};
  return { connId, frame: JSON.stringify(frame ?? undefined), closeCode };
}

/** Parses a JSON text; undefined if it is invalid. Node.js cannot validate JSON without building the value. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function close(peer, code) {
  try {
    peer.close(code);
  } catch {
    // `ws` throws for a code that the standard reserves.
    peer.close();
  }
}

setInterval(() => {
  for (const peer of sockets.clients) {
    if (!peer.isAlive) {
      peer.terminate();
      continue;
    }
    peer.isAlive = false;
    peer.ping();
  }
}, HEARTBEAT_INTERVAL);

function stop() {
  http.close(() => process.exit(0));
  for (const peer of sockets.clients) peer.close(1001, 'shutting down');
  setTimeout(() => process.exit(0), SHUTDOWN_TIMEOUT);
}
process.once('SIGTERM', stop);
process.once('SIGINT', stop);

const colon = flags.listen.lastIndexOf(':');
http.listen(Number(flags.listen.slice(colon + 1)), flags.listen.slice(0, colon), () => {
  const { address, port } = http.address();
  console.error(`listening address=${address}:${port} tls=false`);
});
