// A peer with a good certificate that breaks the rules of HTTP/2 at port 15008 ends its own connection, with an error that the log names:
// nobody else's tunnel notices. `TEST_SEED` repeats the mutations of a run that failed.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TLSSocket } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import { Flag, FrameType } from '#shared/http2/frames.ts';
import type { HeaderList } from '#shared/http2/headers.ts';
import { spiffeId } from '#shared/ids.ts';
import { PORT } from '#shared/ports.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { CONNECTION_FAULTS, FLOODS } from '../../harness/http2-faults.ts';
import { eventually, type LabNode, MeshLab } from '../../harness/mesh-lab.ts';
import { mutate, pieces, random } from '../../harness/mutate.ts';
import type { TestPod } from '../../harness/pod-net.ts';
import { frame, HeaderMaker, OPENING, uint32 } from '../../harness/raw-http2.ts';

t.setTimeout(120_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const stranger = spiffeId({ trustDomain: 'cluster.local', namespace: 'far', serviceAccount: 'stranger' });
const APP_PORT = 8080;
const CONNECT: HeaderList = [
  [':method', 'CONNECT'],
  [':authority', `10.1.0.3:${APP_PORT}`],
  ['baggage', 'k8s.namespace.name=far'],
];
const MUTATIONS = 60;
/** Until the ztunnel has closed a connection, ms. */
const PATIENCE = 5000;
const SEED = Number(process.env['TEST_SEED'] ?? Date.now() % 1e9);

interface Scene {
  readonly far: LabNode;
  /** Opens mTLS to the pod's 15008 as somebody whom its ztunnel trusts. */
  dial(): Promise<TLSSocket>;
  /** The tunnel of somebody else, open all the time: an answer comes through it. */
  ping(): Promise<void>;
}

for (const backend of BACKENDS)
  t.test(backend, async (t) => {
    const scene = await setUp(t, backend);

    for (const [what, code, send] of CONNECTION_FAULTS)
      await t.test(what, async () => {
        await ends(scene, Buffer.concat(send(new HeaderMaker())));
        await told(scene, new RegExp(`HTTP/2: .+ \\(${code}\\)`, 'u'));
        await scene.ping();
      });

    for (const [what, send] of FLOODS)
      await t.test(`flood: ${what}`, async () => {
        await ends(scene, Buffer.concat([OPENING, send(new HeaderMaker(), CONNECT)]));
        await told(scene, /HTTP\/2: .+ \(ENHANCE_YOUR_CALM\)/u);
        await scene.ping();
      });

    await t.test(`mutations of a good conversation, TEST_SEED=${SEED}`, async (t) => {
      t.comment(`TEST_SEED=${SEED}`);
      const below = random(SEED);
      for (let i = 0; i < MUTATIONS; i++) {
        await ends(scene, mutate(conversation(), below), below);
        await scene.ping();
      }
    });

    const faults = scene.far.log.filter(({ level, scope }) => level === 'error' && scope !== 'access');
    t.strictSame(faults, [], 'none of it was a fault of ours');
    t.equal(await scene.far.metric('istio_tcp_connections_closed_total', 'source_workload="web"'), 0, 'the bystander is open');
  });

async function setUp(t: Test, backend: string): Promise<Scene> {
  const lab = new MeshLab(t);
  const env = { CULVERT_BACKEND: backend };
  const [, far] = [await lab.node('node-1', env), await lab.node('node-2', env)];
  await lab.apply(web, cart);
  const [client, server] = [await lab.captured(web), await lab.captured(cart)];
  await server.serve((socket) => socket.pipe(socket), APP_PORT);
  const outside = lab.net.pod('stranger', '10.1.0.9');
  const bystander = await Endpoint.open(client, { ip: server.ip, port: APP_PORT });
  const certificate = lab.ca.issue(stranger);
  const scene: Scene = {
    far,
    dial: () => dialTls(outside, server.ip, certificate),
    async ping() {
      const before = bystander.bytes;
      bystander.socket.write('!');
      await bystander.untilBytes(before + 1);
    },
  };
  await scene.ping();
  return scene;
}

async function dialTls(
  pod: TestPod,
  ip: string,
  { chain, key, roots }: { chain: string; key: string; roots: string },
): Promise<TLSSocket> {
  const socket = await pod.connect({ ip, port: PORT.hbone });
  const tls = connect({ socket, cert: chain, key, ca: roots, ALPNProtocols: ['h2'], checkServerIdentity: () => undefined });
  tls.on('error', () => undefined);
  await once(tls, 'secureConnect');
  return tls.resume();
}

/** Sends it all, and resolves when the ztunnel has closed; with `below` in pieces, and after an end of our own. */
async function ends(scene: Scene, bytes: Buffer, below?: (limit: number) => number): Promise<void> {
  const tls = await scene.dial();
  const over = new Promise<void>((resolve) => tls.once('end', resolve).once('close', resolve));
  for (const piece of below ? pieces(bytes, below) : [bytes]) tls.write(piece);
  if (below) tls.end();
  await before('the end of the connection', over);
  tls.destroy();
}

async function before(what: string, promise: Promise<void>): Promise<void> {
  const late = new AbortController();
  const patience = sleep(PATIENCE, undefined, { signal: late.signal }).then(() =>
    Promise.reject(new Error(`waited in vain for ${what}`)),
  );
  try {
    await Promise.race([promise, patience]);
  } finally {
    patience.catch(() => undefined);
    late.abort();
  }
}

/** A line of the log names the error, and whose connection it was. */
async function told({ far }: Scene, error: RegExp): Promise<void> {
  await eventually(`an error like ${error} in the log`, () => {
    const at = far.log.findIndex((line) => line['src.identity'] === stranger && error.test(String(line['error'])));
    return at < 0 ? undefined : far.log.splice(at, 1);
  });
}

/** A tunnel to the pod, with some of everything that a client may send. */
function conversation(): Buffer {
  const maker = new HeaderMaker();
  const data = (id: number, size: number, flags = 0): Buffer => frame(FrameType.data, flags, id, Buffer.alloc(size, 'x'));
  return Buffer.concat([
    OPENING,
    maker.headers(1, CONNECT),
    data(1, 100),
    frame(FrameType.ping, 0, 0, Buffer.alloc(8, 1)),
    frame(FrameType.windowUpdate, 0, 0, uint32(65_535)),
    maker.headers(3, CONNECT),
    data(3, 1000, Flag.endStream),
    frame(FrameType.rstStream, 0, 3, uint32(8)),
    data(1, 10, Flag.endStream),
    frame(FrameType.goaway, 0, 0, uint32(0, 0)),
  ]);
}
