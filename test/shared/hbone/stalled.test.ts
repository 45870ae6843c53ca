// Tunnels whose reader has stopped, beside others on the same connection: the others go on, and what is held for each is bounded.
import { test } from 'tap';
import type { Test } from 'tap';
import type { Tunnel } from '#shared/hbone/api.ts';
import { type Relay, relay } from '#shared/hbone/relay.ts';
import { Http2Stream } from '#shared/http2/stream.ts';
import type { ByteStream, Conn } from '#shared/reactor/api.ts';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import { isAsleep } from '../../harness/cpu.ts';
import { echo, meshOn, until } from '../../harness/hbone.ts';

const STALLED = 20;
const PROBES = 5;
const ROUNDS = 20;
const MiB = 1 << 20;
const ANY = { ip: '127.0.0.1', port: 0 };

/** Writes for ever, as far as it is let. */
function flood(stream: ByteStream): void {
  const chunk = Buffer.alloc(100_000);
  const go = (): void => {
    while (stream.write(chunk));
  };
  stream.start({ onData: () => undefined, onEnd: () => undefined, onDrain: go, onClose: () => undefined });
  go();
}

function stall(stream: ByteStream): void {
  stream.start({ onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined });
  stream.pause();
}

/** Octets that come back before the next are sent, some rounds of them. */
async function ask(stream: ByteStream): Promise<number> {
  let answered = Promise.withResolvers<void>();
  let missing = 0;
  stream.start({
    onData: (chunk) => {
      missing -= chunk.length;
      if (missing === 0) answered.resolve();
    },
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: () => undefined,
  });
  let rounds = 0;
  for (; rounds < ROUNDS; rounds++) {
    answered = Promise.withResolvers<void>();
    missing = 1 + rounds * 3000;
    stream.write(Buffer.alloc(missing));
    await answered.promise;
  }
  return rounds;
}

async function settled(measure: () => number): Promise<void> {
  for (let same = 0, last = -1; same < 5;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = measure();
    same = now === last ? same + 1 : 0;
    last = now;
  }
}

function held(t: Test, streams: readonly ByteStream[]): void {
  const octets = streams.map((stream) => (stream instanceof Http2Stream ? stream.held : Number.NaN) + stream.buffered);
  t.ok(Math.min(...octets) > 0, 'they are stalled');
  t.ok(Math.max(...octets) <= MiB, `at most ${Math.max(...octets)} octets are held for one`);
}

/** A mesh whose server stalls, reads, floods or echoes as the tunnel's authority says. */
async function setUp(t: Test, backend: Backend) {
  const served: ByteStream[] = [];
  const mesh = await meshOn(backend)(t, (tunnel) => {
    const stream = tunnel.accept([]);
    if (tunnel.authority.startsWith('echo')) return echo(stream);
    served.push(stream);
    if (tunnel.authority.startsWith('flood')) return flood(stream);
    stall(stream);
    return tunnel.authority.startsWith('stall') ? undefined : stream.resume();
  });
  const open = (kind: string, count: number): Promise<Tunnel[]> =>
    Promise.all(Array.from({ length: count }, () => mesh.pool.open({ ...mesh.request, authority: `${kind}:80` })));
  return { ...mesh, served, open };
}

for (const backend of BACKENDS) {
  test(`${backend}: ${STALLED} readers stall at the server`, async (t) => {
    const { pool, open, served } = await setUp(t, backend);
    const stalled = await open('stall', STALLED);
    for (const { stream } of stalled) flood(stream);
    await until(() => served.length === STALLED);
    await settled(() => served.reduce((sum, stream) => sum + (stream as Http2Stream).held, 0));
    held(t, served);
    await isAsleep(t, 'while nothing can move, nothing is tried');
    const probes = await open('echo', PROBES);
    t.same(await Promise.all(probes.map(({ stream }) => ask(stream))), Array(PROBES).fill(ROUNDS));
    t.equal(pool.size, 1, 'on the same connection');
    held(t, served);
  });

  test(`${backend}: ${STALLED} readers stall at the client`, async (t) => {
    const { pool, open } = await setUp(t, backend);
    const stalled = (await open('flood', STALLED)).map(({ stream }) => stream);
    stalled.forEach(stall);
    await settled(() => stalled.reduce((sum, stream) => sum + (stream as Http2Stream).held, 0));
    held(t, stalled);
    await isAsleep(t, 'while nothing can move, nothing is tried');
    const probes = await open('echo', PROBES);
    t.same(await Promise.all(probes.map(({ stream }) => ask(stream))), Array(PROBES).fill(ROUNDS));
    t.equal(pool.size, 1, 'on the same connection');
    held(t, stalled);
  });

  test(`${backend}: ${STALLED} applications behind the tunnel stop reading`, async (t) => {
    const joined: { stream: ByteStream; app: Conn; joint: Relay }[] = [];
    const { reactor, pool, request } = await meshOn(backend)(t, (tunnel) => {
      if (tunnel.authority.startsWith('echo')) return echo(tunnel.accept([]));
      void reactor.connect({ to: silent.address }).then((app) => {
        const stream = tunnel.accept([]);
        joined.push({ stream, app, joint: relay(stream, app) });
      });
      return undefined;
    });
    const silent = await reactor.listen({ address: ANY }, stall);
    const open = (kind: string): Promise<Tunnel> => pool.open({ ...request, authority: `${kind}:80` });
    const stalled = await Promise.all(Array.from({ length: STALLED }, () => open('stall')));
    for (const { stream } of stalled) flood(stream);
    const octets = (): number[] => joined.map(({ stream, app }) => (stream as Http2Stream).held + app.buffered);
    await until(() => joined.length === STALLED);
    // The kernel takes some MB for each first.
    await settled(() => joined.reduce((sum, { joint }) => sum + joint.sent, 0));
    t.ok(Math.min(...octets()) > 0, 'they are stalled');
    t.ok(Math.max(...octets()) <= MiB + 2 * 65_536, `at most ${Math.max(...octets())} octets are held for one`);
    await isAsleep(t, 'while nothing can move, nothing is tried');
    const probes = await Promise.all(Array.from({ length: PROBES }, () => open('echo')));
    t.same(await Promise.all(probes.map(({ stream }) => ask(stream))), Array(PROBES).fill(ROUNDS));
    t.equal(pool.size, 1, 'on the same connection');
  });

  test(`${backend}: the connection itself is not read`, async (t) => {
    const { open, served, conns } = await setUp(t, backend);
    const tunnels = await open('read', STALLED);
    await until(() => served.length === STALLED);
    conns[0]?.pause();
    for (const { stream } of tunnels) flood(stream);
    await settled(() => tunnels.reduce((sum, { stream }) => sum + stream.buffered, 0));
    await isAsleep(t, 'while nothing can move, nothing is tried');
    const held = tunnels.map(({ stream }) => stream.buffered);
    t.ok(Math.max(...held) <= MiB, `at most ${Math.max(...held)} octets are held for one`);
    conns[0]?.resume();
    const echoes = await open('echo', PROBES);
    t.same(await Promise.all(echoes.map(({ stream }) => ask(stream))), Array(PROBES).fill(ROUNDS));
  });
}
