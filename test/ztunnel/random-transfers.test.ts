// 300 random transfers over each way through a ztunnel, with the digest of every direction: within a node, through a tunnel to another
// ztunnel, and with a real Envoy as either end of the tunnel.
import type { Socket } from 'node:net';
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
import { MeshLab } from '../harness/mesh-lab.ts';
import { random } from '../harness/mutate.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { type Lane, type TransferOptions, transfers } from '../harness/transfer.ts';

const LANES = 6;
const COUNT: Record<Backend, number> = { native: 300, portable: 100 };
const SEED = Number(process.env['TEST_SEED'] ?? 1);
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

async function meshLab(t: Test, backend: Backend): Promise<MeshLab> {
  const lab = new MeshLab(t);
  for (const name of ['node-1', 'node-2']) await lab.node(name, { CULVERT_BACKEND: backend });
  await lab.apply(web, api, cart);
  return lab;
}

/** A server of the pod: where it is, and what it accepts, one by one. */
async function server(pod: TestPod): Promise<{ address: HostPort; accepted: Lane['accepted'] }> {
  let waiting = Promise.withResolvers<Socket>();
  const port = await pod.serve((socket) => waiting.resolve(socket));
  return {
    address: { ip: pod.ip, port },
    accepted() {
      waiting = Promise.withResolvers<Socket>();
      return waiting.promise;
    },
  };
}

const servers = (pod: TestPod) => Promise.all(Array.from({ length: LANES }, () => server(pod)));

async function through(client: TestPod, pod: TestPod): Promise<Lane[]> {
  return (await servers(pod)).map(({ address, accepted }) => ({ connect: () => client.connect(address), accepted }));
}

async function run(t: Test, lanes: readonly Lane[], backend: Backend, options: TransferOptions = {}): Promise<void> {
  await transfers(lanes, COUNT[backend], SEED, { ...options, random });
  t.pass(`${COUNT[backend]} transfers from seed ${SEED} on`);
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
    await run(t, await through(await lab.captured(web), await lab.captured(api)), backend);
  });

  t.test(`${backend}: through a tunnel`, async (t) => {
    const lab = await meshLab(t, backend);
    await run(t, await through(await lab.captured(web), await lab.captured(cart)), backend);
  });

  t.test(`${backend}: our ztunnel to Envoy`, { skip: noEnvoy }, async (t) => {
    const lab = await meshLab(t, backend);
    const [client, pod] = [await lab.captured(web), lab.pod(cart)];
    const apps = await servers(pod);
    const upstreams = Object.fromEntries(apps.map(({ address }) => [`${address.ip}:${address.port}`, address]));
    const place = placeIn(pod, { ip: pod.ip, port: 15_008 });
    await using envoy = await hboneEnvoy({ kind: 'server', upstreams }, certificateOf(lab, cart), place);
    const lanes = apps.map(({ address, accepted }) => ({ connect: () => client.connect(address), accepted }));
    // When its application ends first, Envoy takes nothing more from the client.
    await run(t, lanes, backend, { orders: ['client'] }).catch((thrown: unknown) =>
      t.fail(String(thrown), { envoy: envoy.log() }),
    );
  });

  t.test(`${backend}: Envoy to our ztunnel`, { skip: noEnvoy }, async (t) => {
    const lab = await meshLab(t, backend);
    const [client, pod] = [lab.pod(web), await lab.captured(cart)];
    const apps = await servers(pod);
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
    await run(t, lanes, backend).catch((thrown: unknown) => t.fail(String(thrown), { envoy: envoy.log() }));
  });
}
