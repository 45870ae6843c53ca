// 300 random transfers over each way through a ztunnel, with the digest of every direction: within a node, through a tunnel to another
// ztunnel, with a real Envoy as either end of the tunnel, and through Envoy and back. Each run has a seed of its own; `TEST_SEED` repeats
// that of one that failed.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { BACKENDS, type Backend } from '#shared/reactor/create.ts';
import type { HostPort } from '#shared/address.ts';
import type { Workload } from '../../ztunnel/state/model.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { hboneEnvoy } from '../harness/envoy-hbone.ts';
import type { EnvoyPlace } from '../harness/envoy-json.ts';
import { noEnvoy } from '../harness/envoy.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { serversOf, through } from '../harness/lanes.ts';
import { random } from '../harness/mutate.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { type Lane, type TransferOptions, transfers } from '../harness/transfer.ts';

const COUNT = 300;
const SEED = Number(process.env['TEST_SEED'] ?? Date.now() % 1e9);
/**
 * In which the server ends last: when it ends before the client has, Envoy takes nothing more, and gives the tunnel up (RST_STREAM
 * INTERNAL_ERROR) with bytes of the answer in it.
 */
const ORDERS_OF_ENVOY = ['client', 'answered'] as const;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
/** Has no ztunnel: Envoy ends tunnels for it. */
const hop = aWorkload('hop', { node: 'node-3', ips: ['10.1.0.4'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

async function meshLab(t: Test, backend: Backend): Promise<MeshLab> {
  const lab = new MeshLab(t);
  for (const name of ['node-1', 'node-2']) await lab.node(name, { CULVERT_BACKEND: backend });
  await lab.apply(web, api, cart, hop);
  return lab;
}

async function run(t: Test, lanes: readonly Lane[], options: TransferOptions = {}): Promise<void> {
  await transfers(lanes, COUNT, SEED, { ...options, random });
  t.pass(`${COUNT} transfers, TEST_SEED=${SEED}`);
}

/** Envoy in a pod's namespace. */
function placeIn(pod: TestPod, address: HostPort): EnvoyPlace {
  const answers = async (): Promise<boolean> => {
    const socket = await pod.connect(address).catch(() => undefined);
    if (!socket) await sleep(50);
    socket?.destroy();
    return socket !== undefined;
  };
  return { netns: pod.netns.name, address, answers };
}

for (const backend of BACKENDS) {
  const certificateOf = (lab: MeshLab, { identity }: Workload) => lab.ca.issue(identity);

  t.test(`${backend}: within a node`, async (t) => {
    const lab = await meshLab(t, backend);
    await run(t, await through(await lab.captured(web), await lab.captured(api)));
  });

  t.test(`${backend}: through a tunnel`, async (t) => {
    const lab = await meshLab(t, backend);
    await run(t, await through(await lab.captured(web), await lab.captured(cart)));
  });

  t.test(`${backend}: our ztunnel to Envoy`, { skip: noEnvoy }, async (t) => {
    const lab = await meshLab(t, backend);
    const [client, pod] = [await lab.captured(web), lab.pod(cart)];
    const apps = await serversOf(pod);
    const upstreams = Object.fromEntries(apps.map(({ address }) => [`${address.ip}:${address.port}`, address]));
    const place = placeIn(pod, { ip: pod.ip, port: 15_008 });
    await using envoy = await hboneEnvoy({ kind: 'server', upstreams }, certificateOf(lab, cart), place);
    const lanes = apps.map(({ address, accepted }) => ({ connect: () => client.connect(address), accepted }));
    await run(t, lanes, { orders: ORDERS_OF_ENVOY }).catch((thrown: unknown) => t.fail(String(thrown), { envoy: envoy.log() }));
  });

  t.test(`${backend}: Envoy to our ztunnel`, { skip: noEnvoy }, async (t) => {
    const lab = await meshLab(t, backend);
    const [client, pod] = [lab.pod(web), await lab.captured(cart)];
    const apps = await serversOf(pod);
    const peer = { ip: pod.ip, port: 15_008 };
    const authorities = apps.map(({ address }) => `${address.ip}:${address.port}`);
    // A connection to a port of Envoy's is one to the application behind it, so who asks whether it listens is a client there.
    const first = { ip: client.ip, port: 19_000 };
    await using envoy = await hboneEnvoy(
      { kind: 'client', peer, authorities: ['10.1.0.3:1', ...authorities] },
      certificateOf(lab, web),
      placeIn(client, first),
    );
    const lanes = apps.map(({ accepted }, i) => ({
      connect: () => client.connect({ ip: client.ip, port: 19_001 + i }),
      accepted,
    }));
    await run(t, lanes).catch((thrown: unknown) => t.fail(String(thrown), { envoy: envoy.log() }));
  });

  t.test(`${backend}: our ztunnel to Envoy, and Envoy back to our ztunnel`, { skip: noEnvoy }, async (t) => {
    const lab = await meshLab(t, backend);
    const [client, between, pod] = [await lab.captured(web), lab.pod(hop), await lab.captured(cart)];
    const apps = await serversOf(pod);
    const certificate = certificateOf(lab, hop);
    const [first, ...entries] = [0, ...apps.keys()].map((_, i) => ({ ip: between.ip, port: 19_000 + i }));
    if (!first) throw new Error('no place for Envoy');
    await using back = await hboneEnvoy(
      {
        kind: 'client',
        peer: { ip: pod.ip, port: 15_008 },
        authorities: ['10.1.0.3:1', ...apps.map(({ address }) => `${address.ip}:${address.port}`)],
      },
      certificate,
      placeIn(between, first),
    );
    // What comes out of the tunnel goes into the next one.
    const upstreams = Object.fromEntries(entries.map((entry) => [`${entry.ip}:${entry.port}`, entry]));
    const place = placeIn(between, { ip: between.ip, port: 15_008 });
    await using envoy = await hboneEnvoy({ kind: 'server', upstreams }, certificate, place);
    const lanes = apps.map(({ accepted }, i) => ({
      connect: () => client.connect(entries[i] ?? first),
      accepted,
    }));
    await run(t, lanes, { orders: ORDERS_OF_ENVOY }).catch((thrown: unknown) =>
      t.fail(String(thrown), { envoy: envoy.log(), back: back.log() }),
    );
    for (const [name, direction] of [
      ['node-1', 'outbound'],
      ['node-2', 'inbound'],
    ] as const)
      await eventually(`${COUNT} ${direction} tunnels`, () => {
        const lines = lab.nodes.get(name)?.lines ?? [];
        return lines.filter((line) => line['direction'] === direction && line['dst.hbone_addr'] !== undefined).length >= COUNT
          ? true
          : undefined;
      });
  });
}
