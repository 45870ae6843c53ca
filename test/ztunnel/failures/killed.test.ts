// kill -9 of a ztunnel under load: whose connections passed it hear of it at once, nothing goes past the mesh meanwhile, the other node
// and its connections do not suffer, and a new process serves the same pods soon.
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import type { TestPod } from '../../harness/pod-net.ts';
import { ZtunnelProcesses } from '../../harness/ztunnel-processes.ts';

t.setTimeout(120_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const BULK = 4;

/** A connection that sends without pause, and one new short connection after another; what became of them. */
class Load {
  readonly bulk: Endpoint[] = [];
  served = 0;
  failed = 0;
  #stopped = false;
  readonly #done: Promise<void>;

  static async start(from: TestPod, to: TestPod, port: number): Promise<Load> {
    const bulk = Array.from({ length: BULK }, () => Endpoint.open(from, { ip: to.ip, port }));
    const load = new Load(from, { ip: to.ip, port });
    load.bulk.push(...(await Promise.all(bulk)));
    for (const end of load.bulk) {
      const more = (): unknown => end.socket.writable && end.socket.write(Buffer.alloc(16_384));
      end.socket.on('data', more);
      // A killed process may leave an end instead of a reset behind, here and with the short ones.
      end.socket.on('end', () => end.socket.destroy());
      more();
    }
    return load;
  }

  private constructor(from: TestPod, to: { ip: string; port: number }) {
    this.#done = this.#arrivals(from, to);
  }

  stop(): Promise<void> {
    this.#stopped = true;
    for (const { socket } of this.bulk) socket.destroy();
    return this.#done;
  }

  async #arrivals(from: TestPod, to: { ip: string; port: number }): Promise<void> {
    while (!this.#stopped) {
      const end = await from.connect(to).then(
        (socket) => new Endpoint(socket),
        () => undefined,
      );
      end?.socket.on('end', () => end.socket.destroy());
      end?.socket.write('hello');
      if (await end?.gets(5)) this.served++;
      else this.failed++;
      end?.socket.destroy();
      await sleep(10);
    }
  }
}

for (const killed of ['node-2', 'node-1'])
  t.test(`the ztunnel of the ${killed === 'node-1' ? 'client' : 'server'}`, async (t) => {
    const lab = new ZtunnelProcesses(t, [web, api, cart]);
    const nodes = new Map([
      ['node-1', await lab.node('node-1')],
      ['node-2', await lab.node('node-2')],
    ]);
    const [client, near, far] = [await lab.captured(web), await lab.captured(api), await lab.captured(cart)];
    const seen = new Set<string>();
    const echo = (socket: Socket): void => {
      seen.add(socket.remoteAddress ?? '');
      socket.pipe(socket);
    };
    const [farPort, nearPort] = [await far.serve(echo), await near.serve(echo)];
    const across = await Load.start(client, far, farPort);
    const within = await Load.start(client, near, nearPort);
    t.teardown(() => Promise.all([across.stop(), within.stop()]));
    await eventually('load', () => (across.served > 10 && within.served > 10 ? true : undefined));

    const node = nodes.get(killed);
    await node?.kill();
    const gone = performance.now();
    await Promise.all(across.bulk.map((end) => end.until('closed')));
    t.ok(performance.now() - gone < 3000, `clients knew after ${Math.round(performance.now() - gone)} ms`);
    const { served } = across;
    await eventually('refusals', () => (across.failed > 3 ? true : undefined));
    t.ok(across.served - served <= 1, 'nothing gets past the mesh while it is away');
    if (killed === 'node-2') {
      t.same(within.failed, 0, 'connections within the other node go on');
      const lost = await nodes.get('node-1')?.metric('istio_tcp_connections_failed_total', 'response_flags="UC"');
      t.ok(Number(lost) >= BULK, `${lost} tunnels that were open are told as lost`);
    }

    const started = performance.now();
    await node?.restart();
    const before = across.served;
    await eventually('service', () => (across.served > before + 10 ? true : undefined));
    t.comment(`served again ${Math.round(performance.now() - started)} ms after the start of the process`);
    const { failed } = across;
    await sleep(500);
    t.equal(across.failed, failed, 'for good');
    if (killed === 'node-2') {
      t.same(within.failed, 0);
      t.same(
        within.bulk.map(({ seen: fate }) => fate),
        within.bulk.map(() => []),
        'long ones too',
      );
    }
    t.same(
      [...seen].sort(),
      [client.ip, `::ffff:${client.ip}`].filter((ip) => seen.has(ip)),
      'the application saw its client only',
    );
  });
