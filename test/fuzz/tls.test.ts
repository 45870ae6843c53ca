// TLS record boundaries under a hostile hand: however the ciphertext is cut, cut off, changed or made up, a session gives the bytes that
// were sent or a prefix of them, ends by itself with a named error, and touches no memory that is not its own (pointers are checked).
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import type { SslSession } from '#shared/tls/openssl-session.ts';
import { mutate, pieces, random } from '../harness/mutate.ts';
import { createTestCa } from '../harness/test-ca.ts';

// Before anything is bound.
process.env['CULVERT_DEBUG_POINTERS'] = '1';
const { MeshError } = await import('#shared/errors.ts');
const { SslContexts } = await import('#shared/tls/openssl-context.ts');
const { createReactor } = await import('#shared/reactor/create.ts');
const { OnlyStream, tcpPair, tlsOptions } = await import('../shared/reactor/suite/pairs.ts');
const { createGuard, Recorder } = await import('../shared/reactor/suite/recorder.ts');

const own = createTestCa().issue('spiffe://cluster.local/ns/a/sa/a');
const RUNS = 150;
/** No session of these tests needs more calls than this to come to its end. */
const MOST_READS = 5000;

interface Pair {
  client: SslSession;
  server: SslSession;
  free(): void;
}

function pair(tls12 = false): Pair {
  const context = new SslContexts({ tls12 }).get(own, ['h2']);
  const [client, server] = [context.client(), context.server()];
  return {
    client,
    server,
    free() {
      client.free();
      server.free();
    },
  };
}

function said(session: SslSession, act: () => unknown): Buffer {
  act();
  return Buffer.from(session.take());
}

/** Shakes hands, the flights in pieces. */
function shake({ client, server }: Pair, cut: (flight: Buffer) => Buffer[]): boolean {
  let [clientDone, serverDone] = [false, false];
  const turn = (to: SslSession, flight: Buffer, done: boolean): { done: boolean; flight: Buffer } => {
    const out: Buffer[] = [];
    let finished = done;
    for (const piece of flight.length === 0 ? [flight] : cut(flight)) {
      to.feed(piece);
      if (!finished) out.push(said(to, () => (finished = to.handshake())));
      to.keep();
    }
    return { done: finished, flight: Buffer.concat(out) };
  };
  let flight: Buffer = Buffer.alloc(0);
  for (let round = 0; round < 4 && !(clientDone && serverDone); round++) {
    ({ done: clientDone, flight } = turn(client, flight, clientDone));
    ({ done: serverDone, flight } = turn(server, flight, serverDone));
  }
  return clientDone && serverDone;
}

interface Outcome {
  plain: Buffer;
  ended: boolean;
  error: unknown;
}

/** Feeds ciphertext in pieces and reads what comes of it into arrays of one size. */
function receive(session: SslSession, chunks: readonly Buffer[], space: Buffer): Outcome {
  const plain: Buffer[] = [];
  let reads = 0;
  try {
    for (const chunk of chunks) {
      const passing = Buffer.from(chunk);
      session.feed(passing);
      while (session.readable) {
        const count = session.read(space);
        session.take();
        if (count < 0) return { plain: Buffer.concat(plain), ended: true, error: undefined };
        if (count === 0) break;
        plain.push(Buffer.from(space.subarray(0, count)));
        if (++reads > MOST_READS) throw new Error('does not come to its end');
      }
      session.keep();
      passing.fill(0xaa);
    }
    return { plain: Buffer.concat(plain), ended: false, error: undefined };
  } catch (error) {
    return { plain: Buffer.concat(plain), ended: false, error };
  }
}

function isNamed(error: unknown): boolean {
  return error instanceof MeshError && error.code === 'tls_failure' && error.message.length > 3;
}

for (const tls12 of [false, true])
  t.test(`any cut of handshake and records is as good as none${tls12 ? ', TLS 1.2' : ''}`, async () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.array(fc.integer({ min: 0, max: 40_000 }), { maxLength: 5 }),
        fc.integer({ min: 1, max: 50_000 }),
        (seed, sizes, room) => {
          const below = random(seed);
          const both = pair(tls12);
          try {
            if (!shake(both, (flight) => pieces(flight, below))) return false;
            const messages = sizes.map((size) => randomBytes(size));
            const wire = messages.map((message) => said(both.client, () => both.client.write(message)));
            wire.push(said(both.client, () => both.client.closeNotify()));
            // An array of few bytes takes many reads: no more than the limit of them.
            const space = Buffer.alloc(Math.max(room, 100));
            const outcome = receive(both.server, pieces(Buffer.concat(wire), below), space);
            return outcome.ended && outcome.error === undefined && outcome.plain.equals(Buffer.concat(messages));
          } finally {
            both.free();
          }
        },
      ),
      { numRuns: tls12 ? RUNS / 3 : RUNS },
    );
  });

t.test('byte by byte', async (t) => {
  const both = pair();
  const bytes = (flight: Buffer): Buffer[] => Array.from(flight, (byte) => Buffer.from([byte]));
  t.ok(shake(both, bytes));
  const message = randomBytes(3000);
  const outcome = receive(both.server, bytes(said(both.client, () => both.client.write(message))), Buffer.alloc(100));
  t.ok(outcome.plain.equals(message) && outcome.error === undefined);
  both.free();
});

t.test('every truncation leaves a prefix and waits', async (t) => {
  const message = randomBytes(300);
  for (let kept = 0; kept < 380; kept++) {
    const both = pair();
    shake(both, (flight) => [flight]);
    const records = [message.subarray(0, 100), message.subarray(100)].map((part) =>
      said(both.client, () => both.client.write(part)),
    );
    const { plain, ended, error } = receive(both.server, [Buffer.concat(records).subarray(0, kept)], Buffer.alloc(500));
    if (ended || error !== undefined || !message.subarray(0, plain.length).equals(plain))
      t.fail(`after ${kept} bytes`, { error });
    both.free();
  }
});

t.test('changed records are refused, and nothing of them is believed', async (t) => {
  let refused = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const below = random(seed);
    const both = pair(seed % 4 === 0);
    shake(both, (flight) => [flight]);
    const message = randomBytes(1 + below(40_000));
    const wire = said(both.client, () => both.client.write(message));
    const { plain, error } = receive(both.server, pieces(mutate(wire, below), below), Buffer.alloc(20_000));
    if (!message.subarray(0, plain.length).equals(plain)) t.fail(`seed ${seed}: a changed record was believed`);
    if (error !== undefined && !isNamed(error)) t.fail(`seed ${seed}`, { error });
    if (error !== undefined) refused++;
    both.free();
  }
  t.ok(refused > 250, `${refused} of 400 were refused; the others wait for more`);
});

const record = (type: number, length: number, body: Uint8Array, version = 0x0303): Buffer =>
  Buffer.concat([Buffer.from([type, version >> 8, version & 0xff, length >> 8, length & 0xff]), body]);

const MADE_UP: Record<string, Buffer> = {
  'a record longer than may be': record(23, 0xffff, randomBytes(40_000)),
  'the longest record that may be, of noise': record(23, 16_640, randomBytes(16_640)),
  'an empty record': record(23, 0, Buffer.alloc(0)),
  'a record shorter than a tag': record(23, 5, randomBytes(5)),
  'an unknown type': record(99, 20, randomBytes(20)),
  'an unknown version': record(23, 20, randomBytes(20), 0x0909),
  'an alert in clear': record(21, 2, Buffer.from([2, 40])),
  'close_notify in clear': record(21, 2, Buffer.from([1, 0])),
  'half an alert': record(21, 1, Buffer.from([2])),
  'a handshake message in clear': record(22, 4, Buffer.from([0, 0, 0, 0])),
  'change cipher spec': record(20, 1, Buffer.from([1])),
  'a request in clear': Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n'),
  noise: randomBytes(40_000),
};

for (const [what, bytes] of Object.entries(MADE_UP))
  t.test(`${what}: before, within and after a handshake`, async (t) => {
    for (const tls12 of [false, true]) {
      const fresh = pair(tls12);
      fresh.server.feed(bytes);
      t.ok(isNamed(thrownBy(() => fresh.server.handshake())) || what !== 'noise');
      fresh.free();
      const middle = pair(tls12);
      middle.server.feed(said(middle.client, () => middle.client.handshake()));
      const flight = said(middle.server, () => middle.server.handshake());
      middle.client.feed(Buffer.concat([flight.subarray(0, 200), bytes]));
      const thrown = thrownBy(() => middle.client.handshake());
      t.ok(thrown === undefined || isNamed(thrown), 'named', { thrown });
      middle.free();
      const after = pair(tls12);
      shake(after, (whole) => [whole]);
      const valid = said(after.client, () => after.client.write(Buffer.from('valid')));
      const { plain, error } = receive(after.server, [Buffer.concat([valid, bytes, valid])], Buffer.alloc(100));
      t.equal(plain.toString().slice(0, 5), 'valid', 'what came before is read');
      t.ok(error === undefined || isNamed(error), 'named', { error });
      after.free();
    }
  });

t.test('close_notify ends the direction wherever it comes, and nothing after it is read', async (t) => {
  for (const before of [0, 1, 16_384, 33_000]) {
    const both = pair();
    shake(both, (flight) => [flight]);
    const message = randomBytes(before);
    const wire = Buffer.concat([
      said(both.client, () => both.client.write(message)),
      said(both.client, () => both.client.closeNotify()),
      randomBytes(50),
    ]);
    const { plain, ended } = receive(both.server, [wire], Buffer.alloc(9000));
    t.ok(ended && plain.equals(message));
    both.free();
  }
});

/** Changes what is written, from a moment on. */
class HostileStream extends OnlyStream {
  seed = 0;

  override write(chunk: Uint8Array): boolean {
    return super.write(this.seed === 0 ? chunk : mutate(chunk, random(this.seed++)));
  }
}

t.test('a connection with a hostile peer ends by itself, the others of its reactor go on', async (t) => {
  const reactor = createReactor({ backend: 'native' });
  t.teardown(() => reactor.close());
  const options = tlsOptions();
  const reached = { error: 0, silent: 0 };
  for (let seed = 1; seed <= 40; seed++) {
    const tcp = await tcpPair(reactor);
    const hostile = new HostileStream(tcp.client);
    if (seed % 2 === 0) hostile.seed = seed * 1000;
    const [client, server] = await Promise.allSettled([
      reactor.tlsClientOver(hostile, tcp.client.local, tcp.client.remote, { ...options.client, timeout: 100 }),
      reactor.tlsServer(tcp.server, { ...options.server, timeout: 100 }),
    ]);
    const guard = createGuard();
    if (server.status === 'rejected') {
      reached.error++;
      t.ok(isNamed(server.reason), 'named', { error: server.reason as unknown });
      if (client.status === 'fulfilled') client.value.reset();
      continue;
    }
    const reader = new Recorder(server.value, guard).start();
    if (client.status === 'fulfilled') {
      const writer = new Recorder(client.value, guard).start();
      hostile.seed = seed * 1000;
      for (let i = 0; i < 5; i++) writer.call((stream) => stream.write(randomBytes(5000)));
    }
    const outcome = await Promise.race([reader.closed, sleep(50, undefined)]);
    if (outcome === undefined) reached.silent++;
    else {
      reached.error++;
      t.ok(outcome.kind !== 'error' || isNamed(outcome.error), 'named', { outcome });
    }
    reader.call((stream) => stream.reset());
    t.strictSame(guard.faults, []);
  }
  t.ok(reached.error > 25, JSON.stringify(reached));
  const tcp = await tcpPair(reactor);
  const [, server] = await Promise.all([
    reactor.tlsClient(tcp.client, options.client),
    reactor.tlsServer(tcp.server, options.server),
  ]);
  t.equal(server.alpn, 'h2');
});

function thrownBy(act: () => unknown): unknown {
  try {
    act();
    return undefined;
  } catch (thrown) {
    return thrown;
  }
}
