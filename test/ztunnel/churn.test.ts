// Connections of every way come and go, and end in every manner: nothing of them stays.
//   CHURN_SECONDS=600 CHURN_BACKENDS=native npm test -- test/ztunnel/churn.test.ts
// looks for ten minutes at one backend (both, one after the other, without CHURN_BACKENDS). `CHURN_LANES` says how many connections there
// are at a time, `CHURN_REST` how many milliseconds a lane rests between two, and `TEST_SEED` gives another course of events.
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { PORT } from '#shared/ports.ts';
import t from 'tap';
import type { Test } from 'tap';
import { aWorkload } from '../fixtures/mesh.ts';
import { random } from '../harness/mutate.ts';
import { eventually } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { ZtunnelProcesses, type ZtunnelNode } from '../harness/ztunnel-processes.ts';

/** Of one backend. */
const SECONDS = Number(process.env['CHURN_SECONDS'] ?? 16);
/** Names of backends, separated by commas. */
const BACKENDS = (process.env['CHURN_BACKENDS'] ?? 'native,portable').split(',');
/** What the start, the ends and the last looks take beyond it, s. */
const AROUND = 60;
// For the file as a whole: the runner would end it after the two minutes of .taprc.
t.setTimeout(BACKENDS.length * (SECONDS + AROUND) * 1000);
const LANES = Number(process.env['CHURN_LANES'] ?? 12);
/** Milliseconds between the connections of a lane. */
const REST = Number(process.env['CHURN_REST'] ?? 0);
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

type Below = (limit: number) => number;

/** What an application may do to its connection. */
const ENDINGS: readonly ((socket: Socket) => void)[] = [
  (socket) => socket.end(),
  (socket) => socket.end('good bye'),
  (socket) => socket.resetAndDestroy(),
  (socket) => socket.destroy(),
];

/** Uses a connection for a moment and ends it somehow. */
async function use(socket: Socket, below: Below): Promise<void> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  // One in ten never reads.
  if (below(10) > 0) socket.resume();
  for (let i = below(4); i > 0 && socket.writable; i--) {
    socket.write(Buffer.alloc(1 + below([10, 1000, 100_000][below(3)] ?? 1)));
    await sleep(below(5));
  }
  if (below(10) === 0) await sleep(below(300));
  ENDINGS[below(ENDINGS.length)]?.(socket);
  await Promise.race([closed, sleep(500)]);
  socket.destroy();
}

/** Whoever comes to the port of tunnels without a certificate: a probe that says nothing, noise, half a handshake, or a whole one. */
const KNOCKS: readonly ((socket: Socket) => void)[] = [
  (socket) => socket.end(),
  (socket) => socket.end(randomBytes(200)),
  // A record of a handshake that announces more than comes.
  (socket) => socket.end(Buffer.from('160301020001000001', 'hex')),
  (socket) => connectTls({ socket, rejectUnauthorized: false }).on('error', () => undefined),
  (socket) => socket.resetAndDestroy(),
];

async function knock(socket: Socket, below: Below): Promise<void> {
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => undefined).resume();
  KNOCKS[below(KNOCKS.length)]?.(socket);
  await Promise.race([closed, sleep(500)]);
  socket.destroy();
}

/** An echo that now and then ends a connection by itself. */
function answer(below: Below): (socket: Socket) => void {
  return (socket) => {
    socket.pipe(socket);
    if (below(4) === 0) setTimeout(() => ENDINGS[below(ENDINGS.length)]?.(socket), below(20));
  };
}

interface Sample {
  readonly heap: number;
  readonly anonymous: number;
  readonly descriptors: number;
  readonly cpu: number;
}

const MB = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

for (const backend of BACKENDS)
  t.test(`${SECONDS} s of churn, ${backend} backend`, { timeout: (SECONDS + AROUND) * 1000 }, (t) => churns(t, backend));

async function churns(t: Test, backend: string): Promise<void> {
  const lab = new ZtunnelProcesses(t, [web, api, cart]);
  const nodes = [await lab.node('node-1', { CULVERT_BACKEND: backend }), await lab.node('node-2', { CULVERT_BACKEND: backend })];
  const pods = { web: await lab.captured(web), api: await lab.captured(api), cart: await lab.captured(cart) };
  const stranger = lab.net.pod('stranger', '10.1.0.9');
  const below = random(Number(process.env['TEST_SEED'] ?? 1));
  const portOf = new Map<TestPod, number>();
  for (const pod of [pods.api, pods.cart, stranger]) portOf.set(pod, await pod.serve(answer(below)));
  const ways: [from: TestPod, to: TestPod][] = [
    [pods.web, pods.cart],
    [pods.web, pods.api],
    [stranger, pods.cart],
    [pods.web, stranger],
    [pods.api, pods.cart],
  ];

  let connections = 0;
  const churn = async (until: number): Promise<void> => {
    const lane = async (): Promise<void> => {
      while (performance.now() < until) {
        const [from, to] = ways[below(ways.length)] ?? [pods.web, pods.api];
        // One in twenty asks for a port where nobody listens, and is reset.
        const port = below(20) === 0 ? 9 : (portOf.get(to) ?? 0);
        connections++;
        if (below(8) === 0) {
          const caller = await stranger.connect({ ip: pods.cart.ip, port: PORT.hbone }).catch(() => undefined);
          if (caller) await knock(caller, below);
          continue;
        }
        const socket = await from.connect({ ip: to.ip, port }).catch(() => undefined);
        if (socket) await use(socket, below);
        if (REST > 0) await sleep(below(2 * REST));
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  };
  /** Every connection has ended; what is left is what the process keeps. */
  const quiet = async (): Promise<Sample[]> => {
    for (const node of nodes) await eventually('the end of all connections', () => isIdle(node));
    await sleep(100);
    return Promise.all(nodes.map((node) => node.usage()));
  };

  const started = performance.now();
  await churn(started + SECONDS * 250);
  const first = await quiet();
  await churn(started + SECONDS * 500);
  const middle = await quiet();
  await churn(started + SECONDS * 1000);
  const last = await quiet();
  t.comment(`${connections} connections`);
  await sleep(1000);
  for (const [i, node] of nodes.entries()) {
    const busy = (await node.usage()).cpu - (last[i]?.cpu ?? 0);
    t.ok(busy < 500_000, `${Math.round(busy / 1000)} ms of CPU in a second without a connection`);
  }
  const none: Sample = { heap: 0, anonymous: 0, descriptors: 0, cpu: 0 };
  for (const [i, { heap, anonymous, descriptors }] of last.entries()) {
    const [early, half] = [first[i] ?? none, middle[i] ?? none];
    t.comment(
      `node-${i + 1}: heap ${MB(early.heap)}, ${MB(half.heap)}, ${MB(heap)}; anonymous ${MB(early.anonymous)}, ${MB(half.anonymous)}, ${MB(anonymous)}; descriptors ${early.descriptors}, ${half.descriptors}, ${descriptors}`,
    );
    t.ok(descriptors <= half.descriptors + 2, `${descriptors} descriptors, ${half.descriptors} in the middle`);
    t.ok(heap < half.heap * 1.05 + 500_000, `${MB(heap)} of heap, ${MB(half.heap)} in the middle`);
    // What is free is given back now and then: the most that it had by the middle counts.
    const before = Math.max(early.anonymous, half.anonymous);
    t.ok(anonymous < before * 1.1 + 4_000_000, `${MB(anonymous)} of anonymous memory, ${MB(before)} by the middle`);
  }
}

/** As many connections have closed as were opened, and none is open. */
async function isIdle(node: ZtunnelNode): Promise<true | undefined> {
  const [opened, closed] = [
    await node.metric('istio_tcp_connections_opened_total'),
    await node.metric('istio_tcp_connections_closed_total'),
  ];
  return opened === closed && (await node.metric('istio_tcp_sockets_open')) === 0 ? true : undefined;
}
