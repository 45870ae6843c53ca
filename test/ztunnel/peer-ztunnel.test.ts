// Beside another ztunnel of ambient mode, built by hand: PEER_ZTUNNEL=PATH. Both read the same state file and get certificates of the same
// CA; tunnels go both ways, and both ends tell the same of them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { CertificateSource } from '#shared/identity/certificate.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { TestControlPlane } from '../harness/control-plane.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { MeshLab } from '../harness/mesh-lab.ts';
import { random } from '../harness/mutate.ts';
import { capturedByPeer, startPeerZtunnel, talk, tunnelsBothWays } from '../harness/peer-ztunnel.ts';
import type { TestPod } from '../harness/pod-net.ts';
import type { TestCa } from '../harness/test-ca.ts';
import type { Lane } from '../harness/transfer.ts';
import { transfers } from '../harness/transfer.ts';

const LANES = 8;
const TRANSFERS = 100;
const PEER = process.env['PEER_ZTUNNEL'];
const ours = aWorkload('ours', { node: 'node-1', ips: ['10.1.0.1'] });
const theirs = aWorkload('theirs', { node: 'node-2', ips: ['10.1.0.3'] });
const STATE = `
workloads:
  - { uid: u-ours, name: ours, namespace: shop, serviceAccount: ours, trustDomain: cluster.local, node: node-1, protocol: HBONE, workloadIps: [10.1.0.1], workloadName: ours, workloadType: deployment, canonicalName: ours, canonicalRevision: v1, clusterId: Kubernetes, locality: { region: r1, zone: z1, subzone: "" }, services: { shop/ours.shop.svc.cluster.local: { 80: 8080 } } }
  - { uid: u-theirs, name: theirs, namespace: shop, serviceAccount: theirs, trustDomain: cluster.local, node: node-2, protocol: HBONE, workloadIps: [10.1.0.3], workloadName: theirs, workloadType: deployment, canonicalName: theirs, canonicalRevision: v2, clusterId: Kubernetes, services: { shop/theirs.shop.svc.cluster.local: { 80: 8080 } } }
services:
  - { name: ours, namespace: shop, hostname: ours.shop.svc.cluster.local, vips: [/10.96.0.1], ports: { 80: 8080 }, subjectAltNames: [] }
  - { name: theirs, namespace: shop, hostname: theirs.shop.svc.cluster.local, vips: [/10.96.0.2], ports: { 80: 8080 }, subjectAltNames: [] }
policies:
  - { name: no-9000, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: [[[{destinationPorts: [9000]}]]] }
`;

async function startPeer(t: Test, path: string, lab: MeshLab, dir: string) {
  const plane = new TestControlPlane(lab.ca);
  t.teardown(() => plane.stop());
  await plane.start(lab.ca.issue('spiffe://cluster.local/ns/istio-system/sa/istiod', { dnsNames: ['localhost'] }));
  await writeFile(join(dir, 'root.pem'), lab.ca.root);
  return startPeerZtunnel(t, path, dir, {
    NODE_NAME: 'node-2',
    XDS_ADDRESS: '',
    CA_ADDRESS: `https://localhost:${plane.port}`,
    CA_ROOT_CA: join(dir, 'root.pem'),
    LOCAL_XDS_PATH: join(dir, 'state.yaml'),
  });
}

async function setUp(t: Test, certificates?: (ca: TestCa) => CertificateSource) {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-peer-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'state.yaml'), STATE);
  const lab = new MeshLab(t);
  const near = await lab.node('node-1', { LOCAL_XDS_PATH: join(dir, 'state.yaml') }, certificates?.(lab.ca));
  const far = await startPeer(t, PEER ?? '', lab, dir);
  const here = await lab.captured(ours);
  const there = await capturedByPeer(lab, far, theirs);
  return { near, far, here, there };
}

const skip = PEER === undefined && 'PEER_ZTUNNEL is not set';
const DENIED = 'connection closed due to policy rejection: explicitly denied by: shop/no-9000';

t.test('tunnels both ways', { skip, timeout: 60_000 }, async (t) => {
  const { near, far, here, there } = await setUp(t);
  for (const pod of [here, there]) for (const port of [8080, 9000]) await pod.serve((socket) => void socket.pipe(socket), port);

  const { out, home } = await tunnelsBothWays(t, {
    near,
    far,
    ours: { pod: here, identity: ours.identity, at: { ip: '10.96.0.1', port: 80 } },
    theirs: { pod: there, identity: theirs.identity, at: { ip: '10.96.0.2', port: 80 } },
  });
  t.equal(out['dst.hbone_addr'], '10.1.0.3:8080');
  t.equal(home['dst.hbone_addr'], '10.1.0.1:8080');

  t.equal(await talk(here, { ip: '10.1.0.3', port: 9000 }), 0);
  t.match(await near.line({ direction: 'outbound' }), { error: /http status: 401 Unauthorized/u });
  t.match(await far.line('inbound'), { error: DENIED });
  t.equal(await talk(there, { ip: '10.1.0.1', port: 9000 }), 0);
  t.match(await far.line('outbound'), { error: 'http status: 401 Unauthorized' });
  t.match(await near.line({ direction: 'inbound' }), { error: DENIED });
});

t.test('random transfers both ways, many at a time, each direction ends on its own', { skip, timeout: 90_000 }, async (t) => {
  const { here, there } = await setUp(t);
  for (const [name, from, to] of [
    ['ours to theirs', here, there],
    ['theirs to ours', there, here],
  ] as const) {
    const lanes = await Promise.all(Array.from({ length: LANES }, () => laneOf(from, to)));
    await transfers(lanes, TRANSFERS, 1, { random });
    t.pass(`${TRANSFERS} transfers, ${LANES} at a time: ${name}`);
  }
});

t.test('a hundred tunnels at a time', { skip, timeout: 60_000 }, async (t) => {
  const { here, there } = await setUp(t);
  for (const [from, to] of [
    [here, there],
    [there, here],
  ] as const) {
    const port = await to.serve((socket) => void socket.pipe(socket));
    const ends = await Promise.all(Array.from({ length: 100 }, () => Endpoint.open(from, { ip: to.ip, port })));
    for (const end of ends) end.socket.write('hello');
    for (const end of ends) await end.untilBytes(5);
    for (const end of ends) end.socket.resetAndDestroy();
    t.pass(`from ${from.name}`);
  }
});

t.test('a certificate that is not good is refused by either', { skip, timeout: 60_000 }, async (t) => {
  const expired = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) };
  const { near, far, here, there } = await setUp(t, (ca) => ({ get: async (identity) => ca.issue(identity, expired) }));
  for (const pod of [here, there]) await pod.serve((socket) => void socket.pipe(socket), 8080);
  t.equal(await talk(here, { ip: '10.1.0.3', port: 8080 }), 0);
  t.match(await near.line({ direction: 'outbound', level: 'error' }), { error: /alert certificate expired/u });
  t.match(await far.line('inbound'), { error: /tls handshake error: .*[Ee]xpired/u });
  t.equal(await talk(there, { ip: '10.1.0.1', port: 8080 }), 0);
  t.match(await near.line({ direction: 'inbound' }), { error: /tls handshake error: .*alert certificate expired/u });
  t.match(await far.line('outbound'), { error: /[Ee]xpired/u });
});

/** Connections of one lane go to a port of its own, so that the next one accepted is its own. */
async function laneOf(from: TestPod, to: TestPod): Promise<Lane> {
  let waiting = Promise.withResolvers<Socket>();
  const port = await to.serve((socket) => waiting.resolve(socket));
  return {
    connect: () => from.connect({ ip: to.ip, port }),
    accepted: () => (waiting = Promise.withResolvers<Socket>()).promise,
  };
}
