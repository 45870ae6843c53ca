// Every order in which two joined streams can end, in memory.
import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { relay } from '#shared/hbone/relay.ts';
import type { ByteStream, Conn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { read, until } from '../../harness/hbone.ts';
import { streamPair } from '../../harness/stream-pair.ts';

const soon = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30));
const bytes = (text: string): Buffer => Buffer.from(text);

/** A client and a server joined by a relay. */
function joined() {
  const [client, downstream] = streamPair();
  const [upstream, server] = streamPair();
  return { client, server, relay: relay(downstream, upstream) };
}

class Count {
  bytes = 0;

  add(bytes: number): void {
    this.bytes += bytes;
  }
}

test('bytes are counted as they pass, by whoever asks for it and from the first one on', async (t) => {
  const ends = joined();
  const received = reader(ends.server);
  reader(ends.client);
  const [first, second, back] = [new Count(), new Count(), new Count()];
  ends.client.write(bytes('before'));
  await soon();
  ends.relay.countInto(first, back);
  ends.client.write(bytes('between'));
  await soon();
  ends.relay.countInto(second, back);
  ends.client.write(bytes('after'));
  ends.server.write(bytes('answer'));
  await soon();
  t.equal(first.bytes, 18);
  t.equal(second.bytes, 18);
  t.equal(back.bytes, 12, 'by each of the two');
  ends.client.end();
  ends.server.end();
  t.equal((await received.result).bytes.toString(), 'beforebetweenafter');
});

function reader(stream: ByteStream) {
  let ended = false;
  const result = read(stream, { onEnd: () => (ended = true) });
  return { result, ended: () => ended };
}

for (const first of ['client', 'server'] as const) {
  test(`half-close: the ${first} ends first, the other goes on sending`, async (t) => {
    const ends = joined();
    const other = first === 'client' ? 'server' : 'client';
    const [near, far] = [reader(ends[first]), reader(ends[other])];
    ends[first].write(bytes('question'));
    ends[first].end();
    await until(far.ended);
    t.equal(near.ended(), false);
    ends[other].write(bytes('a long answer'));
    await soon();
    ends[other].end();
    t.equal((await far.result).bytes.toString(), 'question');
    t.equal((await near.result).bytes.toString(), 'a long answer');
    const lengths = first === 'client' ? { sent: 8, received: 13 } : { sent: 13, received: 8 };
    t.match(await ends.relay.done, { ...lengths, downstream: { kind: 'ended' }, upstream: { kind: 'ended' } });
  });

  test(`reset by the ${first}, with its code`, async (t) => {
    const ends = joined();
    const other = first === 'client' ? 'server' : 'client';
    const far = reader(ends[other]);
    reader(ends[first]);
    ends[first].write(bytes('x'));
    await soon();
    ends[first].reset(2);
    t.match((await far.result).reason, { kind: 'reset', remote: true, code: 2 });
    const result = await ends.relay.done;
    t.match(first === 'client' ? result.downstream : result.upstream, { kind: 'reset', remote: true, code: 2 });
    t.match(first === 'client' ? result.upstream : result.downstream, { kind: 'reset', remote: false });
  });

  test(`reset by the ${first} after the other had ended`, async (t) => {
    const ends = joined();
    const other = first === 'client' ? 'server' : 'client';
    const far = reader(ends[other]);
    reader(ends[first]);
    ends[other].end();
    await soon();
    ends[first].reset();
    t.match((await far.result).reason, { kind: 'reset', remote: true });
    await ends.relay.done;
  });
}

test('NO_ERROR: the server has all it wanted; the client is reset only when it sends on', async (t) => {
  const quiet = joined();
  const client = reader(quiet.client);
  reader(quiet.server);
  quiet.server.write(bytes('all done'));
  await soon();
  quiet.server.reset(0);
  await until(client.ended);
  quiet.client.end();
  t.same(await client.result, { bytes: bytes('all done'), reason: { kind: 'ended' } });

  const loud = joined();
  const sender = reader(loud.client);
  reader(loud.server);
  loud.server.reset(0);
  await soon();
  loud.client.write(bytes('more'));
  t.match((await sender.result).reason, { kind: 'reset', remote: true });
  await loud.relay.done;
});

test('stop resets both sides', async (t) => {
  const ends = joined();
  const [client, server] = [reader(ends.client), reader(ends.server)];
  ends.client.write(bytes('abc'));
  await until(() => ends.relay.sent === 3);
  ends.relay.stop();
  t.match((await client.result).reason, { kind: 'reset', remote: true });
  t.match((await server.result).reason, { kind: 'reset', remote: true });
});

test('a reader that pauses holds the sender back', async (t) => {
  const ends = joined();
  reader(ends.client);
  const server = reader(ends.server);
  ends.server.pause();
  let taken = 0;
  for (; taken < 2000 && ends.client.write(Buffer.alloc(4096)); taken++) await new Promise((resolve) => setImmediate(resolve));
  t.ok(taken > 1 && taken < 200, `${taken} writes until a pause was asked for`);
  ends.server.resume();
  ends.client.end();
  ends.server.end();
  t.equal((await server.result).bytes.length, (taken + 1) * 4096);
});

/** Two connections over loopback, for a relay between their accepted ends. */
async function sockets(t: { teardown(end: () => void): void }) {
  const reactor = createReactor({ backend: 'native' });
  t.teardown(() => reactor.close());
  const accepted: Conn[] = [];
  const listener = await reactor.listen({ address: { ip: '127.0.0.1', port: 0 } }, (conn) => void accepted.push(conn));
  const ends: Conn[] = [];
  for (let i = 0; i < 2; i++) ends.push(await reactor.connect({ to: listener.address }));
  await until(() => accepted.length === 2);
  const [near, far, downstream, upstream] = [...ends, ...accepted] as [Conn, Conn, Conn, Conn];
  return { reactor, near, far, downstream, upstream };
}

test('a relay is let go of as a whole or not at all: a socket that has closed and was not told yet keeps the other', async (t) => {
  const { near, far, downstream, upstream } = await sockets(t);
  const seen = read(near);
  void read(far);
  const pair = relay(downstream, upstream);
  upstream.reset();
  t.equal(pair.detach(), undefined);
  t.match((await seen).reason, { kind: 'reset' }, 'and so its peer hears of it');
});

test('a relay that is let go of goes on in another one, with what it had not sent', async (t) => {
  const { reactor, near, far, downstream, upstream } = await sockets(t);
  const first = relay(downstream, upstream);
  const sent = randomBytes(16 << 20);
  const back = read(near);
  near.write(sent);
  near.end();
  // Nobody reads at the other end: the kernel's buffers fill up, then the relay's.
  await until(() => upstream.buffered > 0);
  const handed = first.detach();
  t.ok((handed?.upstream.unsent.length ?? 0) > 0);
  if (!handed || !reactor.adopt) return t.fail('not let go of');
  const second = relay(reactor.adopt(handed.downstream), reactor.adopt(handed.upstream));
  const { bytes: got } = await read(far, { onEnd: () => far.end() });
  t.ok(got.equals(sent), 'whole, and its end');
  await back;
  t.match(await second.done, { downstream: { kind: 'ended' }, upstream: { kind: 'ended' } });
  return undefined;
});
