import { test } from 'tap';
import { FakeClock } from '#shared/clock.ts';
import type { MeshError } from '#shared/errors.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import type { ByteStream } from '#shared/reactor/api.ts';
import { echo, mesh, read, until } from '../../harness/hbone.ts';

const nothing = (): void => undefined;
const soon = (ms = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('a connection without tunnels is released after the idle time, one with tunnels is not', async (t) => {
  const clock = new FakeClock();
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), {
    clock,
    idleTimeout: 60_000,
    keepalive: { interval: 1e9, timeout: 1e9 },
  });
  const tunnel = await pool.open(request);
  clock.advance(120_000);
  await soon();
  t.equal(pool.size, 1, 'busy');
  tunnel.stream.end();
  await read(tunnel.stream);
  await until(() => pool.streams === 0);
  await soon();
  clock.advance(59_999);
  await soon();
  t.equal(pool.size, 1);
  clock.advance(1);
  await until(() => pool.size === 0);
});

test('beyond the capacity the connection used longest ago takes no more tunnels', async (t) => {
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), { capacity: 2 });
  const from = (sourceIp: string) => ({ ...request, peer: { ...request.peer, sourceIp } });
  for (const ip of ['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.3']) {
    const { stream } = await pool.open(from(ip));
    stream.end();
    await read(stream);
  }
  await until(() => pool.size === 2);
  await soon();
  t.equal(pool.size, 2, 'the one of 10.0.0.2 is gone');
});

test('a peer that no longer answers PING is dropped, its tunnels end with that reason', async (t) => {
  const clock = new FakeClock();
  const closed: string[] = [];
  const onClosed = (_: unknown, reason: { kind: string; error?: MeshError }): void =>
    void closed.push(reason.error?.message ?? reason.kind);
  const { pool, request, conns } = await mesh(t, (tunnel) => echo(tunnel.accept([])), { clock, events: { onClosed } });
  const tunnel = await pool.open(request);
  const result = read(tunnel.stream);
  for (let i = 0; i < 10; i++) {
    clock.advance(10_000);
    await soon();
  }
  t.equal(pool.size, 1, 'it answers');
  for (const conn of conns) conn.pause();
  for (let i = 0; i < 5; i++) clock.advance(10_000);
  t.match((await result).reason, { kind: 'error', error: { code: 'reset', message: /PING/u } });
  await until(() => closed.length > 0);
  t.match(closed, [/PING/u]);
});

test('the limit of the peer holds: more tunnels go on another connection', async (t) => {
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), { serve: { maxStreams: 3 } });
  const first = await pool.open(request);
  const more = await Promise.all([1, 2, 3, 4].map(() => pool.open(request)));
  t.equal(pool.size, 2);
  for (const { stream } of [first, ...more]) stream.reset();
});

test('a connection that refuses a tunnel is not asked again for that one: another takes it', async (t) => {
  const held: ByteStream[] = [];
  const { pool, request } = await mesh(
    t,
    (tunnel) => {
      const stream = tunnel.accept([]);
      held.push(stream);
      stream.pause();
      stream.start({ onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing });
      stream.end();
    },
    { serve: { maxStreams: 1 } },
  );
  // For the client they are over, and the server keeps them for a reader that stands still: two are all it keeps.
  for (const wanted of [1, 2, 3]) {
    const { stream } = await pool.open(request);
    const over = read(stream);
    stream.write(Buffer.alloc(10));
    stream.end();
    t.same((await over).reason, { kind: 'ended' });
    await until(() => pool.streams === 0 && held.length === wanted);
  }
  t.equal(pool.size, 2);
});

test('many at once on a connection whose peer takes few: what it refuses before it has answered any goes on others', async (t) => {
  const answer = (tunnel: IncomingTunnel): void => void soon().then(() => echo(tunnel.accept([])));
  const { pool, request } = await mesh(t, answer, { serve: { maxStreams: 2 } });
  const opened = await Promise.all([1, 2, 3, 4, 5, 6].map(() => pool.open(request)));
  t.equal(opened.length, 6);
  t.equal(pool.size, 3);
  for (const { stream } of opened) stream.reset();
});

test('a peer that takes no tunnel at all is dialled once for each', async (t) => {
  const { pool, request } = await mesh(t, () => t.fail('it was taken'), { serve: { maxStreams: 0 } });
  await t.rejects(pool.open(request), { message: /did not take the tunnel/u });
  t.equal(pool.size, 1);
});

test('events, drain and close', async (t) => {
  const log: string[] = [];
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), {
    events: {
      onConnected: ({ source }, ms) => log.push(`connected ${source} ${ms > 0}`),
      onConnectFailed: (_, error) => log.push(`failed ${error.code}`),
      onClosed: (_, reason) => log.push(`closed ${reason.kind}`),
    },
  });
  const tunnel = await pool.open(request);
  await pool.open({ ...request, peer: { ...request.peer, to: { ip: '127.0.0.1', port: 1 } } }).catch(() => {});
  pool.drain();
  await t.rejects(pool.open(request), { code: 'draining' });
  t.equal(pool.size, 1, 'open tunnels go on');
  const result = read(tunnel.stream);
  tunnel.stream.write(Buffer.from('on'));
  tunnel.stream.end();
  t.equal((await result).bytes.toString(), 'on');
  await until(() => pool.size === 0);
  t.same(log, ['connected spiffe://cluster.local/ns/shop/sa/client true', 'failed connect_failed', 'closed ended']);
  pool.close();
});

for (const side of ['client', 'server'] as const)
  test(`a connection of the greatest age (${side}) takes no more tunnels: what is open goes on, what is new has another one`, async (t) => {
    const clock = new FakeClock();
    const age = { clock, keepalive: { interval: 1e9, timeout: 1e9 } };
    const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), {
      ...age,
      idleTimeout: 1e9,
      ...(side === 'client' ? { maxAge: 60_000 } : { serve: { ...age, maxAge: 60_000 } }),
    });
    const old = await pool.open(request);
    clock.advance(50_000);
    const same = await pool.open(request);
    t.equal(pool.size, 1, 'it is not old yet');
    clock.advance(10_000);
    await soon();
    const young = await pool.open(request);
    t.equal(pool.size, 2);
    for (const { stream } of [old, same, young]) {
      const result = read(stream);
      stream.write(Buffer.from('on'));
      stream.end();
      t.equal((await result).bytes.toString(), 'on');
    }
    await until(() => pool.size === 1);
    clock.advance(60_000);
    await until(() => pool.size === 0);
    pool.close();
  });

test('a peer that takes a CONNECT and never answers it is waited for no longer than the deadline', async (t) => {
  const clock = new FakeClock();
  let asked = 0;
  const { pool, request } = await mesh(t, () => void asked++, {
    clock,
    answerTimeout: 5000,
    keepalive: { interval: 1e9, timeout: 1e9 },
  });
  const opening = t.rejects(pool.open(request), { code: 'tunnel_refused', message: /did not answer CONNECT within 5000 ms/u });
  await until(() => asked === 1);
  clock.advance(4999);
  t.equal(pool.streams, 1);
  clock.advance(1);
  await opening;
  await until(() => pool.streams === 0);
});

test('all who ask at once wait for one connection, and a place that is free again is used again', async (t) => {
  let connects = 0;
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), {
    serve: { maxStreams: 20 },
    events: { onConnected: () => void connects++ },
  });
  for (let round = 0; round < 3; round++) {
    const tunnels = await Promise.all(Array.from({ length: 20 }, () => pool.open(request)));
    t.equal(pool.size, 1);
    for (const { stream } of tunnels) stream.end();
    await Promise.all(tunnels.map(({ stream }) => read(stream)));
    await until(() => pool.streams === 0);
  }
  t.equal(connects, 1);
});

test('when the connection cannot be made, all who wait for it hear so at once', async (t) => {
  let failures = 0;
  const { pool, request } = await mesh(t, (tunnel) => echo(tunnel.accept([])), {
    events: { onConnectFailed: () => void failures++ },
  });
  const nobody = { ...request, peer: { ...request.peer, to: { ip: '127.0.0.1', port: 1 } } };
  const asked = Array.from({ length: 20 }, () => pool.open(nobody));
  for (const result of await Promise.allSettled(asked))
    t.match(result, { status: 'rejected', reason: { code: 'connect_failed' } });
  t.equal(failures, 1, 'one attempt');
  t.equal(pool.size, 0);
});
