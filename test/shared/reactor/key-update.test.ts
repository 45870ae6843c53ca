// TLS peers that change their keys, and ask for new ones of ours (RFC 8446, section 4.6.3).
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import type { TlsConn, TlsOptions } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { SslContexts } from '#shared/tls/openssl-context.ts';
import type { SslSession } from '#shared/tls/openssl-session.ts';
import { KEY_UPDATE, openssl } from '#shared/tls/openssl.ts';
import { HandStream } from '../../harness/hand-stream.ts';
import { tlsOptions } from './suite/pairs.ts';
import { createGuard, Recorder } from './suite/recorder.ts';

/** What a record adds: the type within, the tag and the header. */
const OVERHEAD = 1 + 16 + 5;
/** A KeyUpdate is a message of 5 octets. */
const ANSWER = 5 + OVERHEAD;
const HERE = { ip: '127.0.0.1', port: 1 };

const reactor = createReactor({ backend: 'native' });
t.teardown(() => reactor.close());

/** Octets of answers that wait for the peer from which on the transport asks for a pause. */
const HIGH_WATER = 65_536;

/** A server of ours, and a client that is nothing but a session. */
async function shaken(): Promise<{ wire: HandStream; client: SslSession; server: TlsConn; options: TlsOptions }> {
  const { client: options, server } = tlsOptions();
  const wire = new HandStream(HIGH_WATER);
  const client = new SslContexts({}).get(options.certificate, options.alpn).client();
  const accepted = reactor.tlsServerOver(wire, HERE, HERE, server);
  client.handshake();
  wire.handler.onData(Buffer.from(client.take()));
  client.feed(wire.read());
  t.ok(client.handshake());
  const last = Buffer.from(client.take());
  client.keep();
  wire.handler.onData(last);
  return { wire, client, server: await accepted, options };
}

/** So many KeyUpdates, each of which asks for one. */
function updates(client: SslSession, count: number): Buffer {
  const records = Array.from({ length: count }, () => {
    openssl().SSL_key_update(client.pointer, KEY_UPDATE.REQUESTED);
    client.handshake();
    return Buffer.from(client.take());
  });
  return Buffer.concat(records);
}

function written(client: SslSession, text: string): Buffer {
  client.write(Buffer.from(text));
  return Buffer.from(client.take());
}

t.test('a peer that asks for new keys gets them', async (t) => {
  const { wire, client, server } = await shaken();
  const reader = new Recorder(server, createGuard()).start();
  const texts: string[] = [];
  reader.onChunk = (chunk) => void texts.push(Buffer.from(chunk).toString());
  await turn();
  wire.handler.onData(Buffer.concat([updates(client, 2), written(client, 'under new keys')]));
  t.strictSame(texts, ['under new keys']);
  t.equal(wire.buffered, ANSWER, 'the first is answered when the second comes');
  reader.call((stream) => stream.write(Buffer.from('and so is this')));
  t.equal(wire.buffered, 2 * ANSWER + 'and so is this'.length + OVERHEAD, 'the second before the next data');
  client.feed(wire.read());
  const space = Buffer.alloc(100);
  const count = client.read(space);
  t.equal(space.subarray(0, count).toString(), 'and so is this');
  client.keep();
  client.free();
  reader.call((stream) => stream.reset());
});

// The record behind the answer was decrypted into the place where the answer still was.
t.test('an answer to a peer that goes on sending reaches it', async (t) => {
  const { wire, client, server } = await shaken();
  const reader = new Recorder(server, createGuard()).start();
  await turn();
  wire.handler.onData(Buffer.concat([updates(client, 2), written(client, 'a'), updates(client, 1), written(client, 'b')]));
  t.equal(reader.bytes, 2);
  reader.call((stream) => stream.write(Buffer.from('under the third key')));
  client.feed(wire.read());
  const space = Buffer.alloc(100);
  t.equal(space.subarray(0, client.read(space)).toString(), 'under the third key');
  client.keep();
  client.free();
  reader.call((stream) => stream.reset());
});

// OpenSSL answers each within SSL_read, and what the transport refused of the answers was kept, without end.
t.test('a flood of KeyUpdates is not read on while the answers to it are not read', async (t) => {
  const { wire, client, server } = await shaken();
  const reader = new Recorder(server, createGuard()).start();
  const texts: string[] = [];
  reader.onChunk = (chunk) => void texts.push(Buffer.from(chunk).toString());
  await turn();
  const batch = 5000;
  let sent = 0;
  for (; sent < 80_000 && !wire.paused; sent += batch) {
    wire.handler.onData(updates(client, batch));
    await turn();
  }
  t.ok(wire.paused, `paused at ${wire.buffered} octets of answers`);
  t.ok(wire.buffered < 2_000_000);
  // What is under way already.
  wire.handler.onData(written(client, 'late'));
  await turn();
  t.strictSame(texts, []);
  t.ok(wire.paused);
  client.feed(wire.read());
  await turn();
  t.notOk(wire.paused, 'read again');
  t.strictSame(texts, ['late']);
  t.equal(client.read(Buffer.alloc(10)), 0, 'none of the answers is a fault');
  client.keep();
  client.free();
  reader.call((stream) => stream.reset());
});

t.test('who ends its own direction reads on behind a flood of KeyUpdates', async (t) => {
  const { wire, client, server } = await shaken();
  const reader = new Recorder(server, createGuard()).start();
  await turn();
  for (let sent = 0; sent < 80_000 && !wire.paused; sent += 5000) {
    wire.handler.onData(updates(client, 5000));
    await turn();
  }
  // A transport that ends tells of no drain any more.
  reader.call((stream) => stream.end());
  wire.handler.onData(written(client, 'late'));
  await turn();
  t.equal(reader.bytes, 4);
  t.notOk(wire.paused);
  client.free();
  reader.call((stream) => stream.reset());
});
