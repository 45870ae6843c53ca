// Under a real istiod (harness/peer-istiod.ts says what it must be told): its state, certificates of its CA, tunnels with them, its
// policies, and what holds while it is away.
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { GrpcEndpoint } from '#shared/grpc/dial.ts';
import { CaClient } from '#shared/identity/ca-client.ts';
import { spiffeId } from '#shared/ids.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { askUdp, DNS_PROXY } from '../harness/dns.ts';
import { Endpoint } from '../harness/endpoint.ts';
import type { LabNode } from '../harness/mesh-lab.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { ClusterPolicies, FAR_NODE, ISTIOD, IstiodLine, needs, NODE, podsOf, ztunnelEnv } from '../harness/peer-istiod.ts';
import { capturedByPeer, startPeerZtunnel, talk, tunnelsBothWays } from '../harness/peer-ztunnel.ts';
import type { TestPod } from '../harness/pod-net.ts';
import { createTestCa } from '../harness/test-ca.ts';

t.setTimeout(300_000);

const HOUR = 3_600_000;
/** That no policy of the mesh is about. */
const PORT = 47_391;

interface DumpedCertificate {
  identity: string;
  state: string;
  certChain: { pem: string }[];
  rootCerts: { pem: string }[];
}

/** Five bytes there and back; whether they came. */
async function talks(from: TestPod, ip: string, port: number): Promise<boolean> {
  return (await talk(from, { ip, port })) === 5;
}

const rejections = ({ log }: LabNode): unknown[] => log.filter(({ message }) => message === 'resource rejected');

/** A client on the near node, a server on the far one, with a ztunnel for each. */
async function twoNodes(lab: MeshLab, env: { near?: Record<string, string>; address?: string } = {}) {
  const far = await lab.node(FAR_NODE, ztunnelEnv(FAR_NODE, env.address), 'ca');
  const near = await lab.node(NODE, { ...ztunnelEnv(NODE, env.address), ...env.near }, 'ca');
  const [[client], [server]] = [podsOf(far, NODE), podsOf(far, FAR_NODE)];
  const [from, to] = [await lab.captured(client), await lab.captured(server)];
  for (const port of [PORT, PORT + 1]) await to.serve((socket) => void socket.pipe(socket), port);
  return { near, far, client, server, from, to };
}

t.test('sync, a certificate, a tunnel', { skip: needs.istiod, timeout: 90_000 }, async (t) => {
  const lab = new MeshLab(t);
  // The CNI agent is dialled when the first full state has come, which the lab waits for.
  const node = await lab.node(NODE, ztunnelEnv(NODE), 'ca');
  const [client, server] = podsOf(node, NODE);
  t.pass(`synced: ${node.app.store.workloads.size} workloads, ${node.app.store.services.size} services`);
  if (!server) throw new Error(`${ISTIOD} must know two enrolled pods on ${NODE} (PEER_ISTIOD_NODE)`);
  t.equal(await node.metric('istio_xds_connection_terminations_total'), 0, 'the stream stays up');
  t.same(rejections(node), [], 'whatever it sends is taken');

  const [from, to] = [await lab.captured(client), await lab.captured(server)];
  t.ok(await talks(from, to.ip, await to.serve((socket) => void socket.pipe(socket))));
  for (const direction of ['outbound', 'inbound'])
    t.match(await node.line({ direction, level: 'info' }), {
      'src.identity': client.identity,
      'dst.identity': server.identity,
      'dst.addr': /:15008$/u,
      bytes_sent: 5,
      bytes_recv: 5,
    });

  const dump = await fetch(`http://127.0.0.1:${node.app.ports.admin}/config_dump`);
  const { certificates } = (await dump.json()) as { certificates: DumpedCertificate[] };
  for (const { identity } of [client, server]) {
    const held = certificates.find((one) => one.identity === identity);
    t.equal(held?.state, 'Available', identity);
    const [leaf, root] = [held?.certChain[0], held?.rootCerts[0]].map(
      (one) => new X509Certificate(Buffer.from(one?.pem ?? '', 'base64')),
    );
    t.equal(leaf?.subjectAltName, `URI:${identity}`);
    t.ok(root?.ca);
    t.ok((leaf?.validToDate.getTime() ?? Infinity) < Date.now() + 25 * HOUR, 'it is a short-lived one');
  }
});

t.test('whom its CA gives a certificate, and what of it is believed', { skip: needs.istiod, timeout: 90_000 }, async (t) => {
  const lab = new MeshLab(t);
  const [{ identity }] = podsOf(await lab.node(NODE, ztunnelEnv(NODE), 'ca'), NODE);
  const env = ztunnelEnv(NODE);
  const endpoint: GrpcEndpoint = {
    address: ISTIOD,
    rootCert: env['CA_ROOT_CA'] ?? './var/run/secrets/istio/root-cert.pem',
    altHostname: env['ALT_CA_HOSTNAME'],
    authToken: env['AUTH_TOKEN'],
    clusterId: env['CLUSTER_ID'] ?? 'Kubernetes',
  };
  const ask = async (change: Partial<GrpcEndpoint>, impersonate = true, wanted = identity): Promise<string> => {
    using ca = new CaClient({ endpoint: { ...endpoint, ...change }, impersonate });
    return (await ca.fetch(wanted, AbortSignal.timeout(10_000))).identity;
  };
  t.equal(await ask({}), identity);
  await t.rejects(ask({ rootCert: createTestCa().root }), /self.signed|unable to (get|verify)/iu, 'another root');
  await t.rejects(ask({ altHostname: 'elsewhere.example' }), /does not match certificate|Hostname/iu, 'another name');
  await t.rejects(ask({ authToken: undefined }), /UNAUTHENTICATED/u, 'no token');
  await t.rejects(ask({ authToken: 'nobody' }), /UNAUTHENTICATED/u, 'a token of nobody');
  const foreign = spiffeId({ trustDomain: 'cluster.local', namespace: 'no-such-namespace', serviceAccount: 'nobody' });
  await t.rejects(ask({}, true, foreign), /UNAUTHENTICATED/u, 'an identity that no pod of the node has');
  await t.rejects(ask({}, false), /did not find expected SAN/u, 'its own identity in place of the one that was asked for');
});

t.test('two nodes, and a policy', { skip: needs.istiod || needs.twoNodes || needs.kubernetes, timeout: 90_000 }, async (t) => {
  const { near, far, client, server, from, to } = await twoNodes(new MeshLab(t));
  t.ok(await talks(from, to.ip, PORT));
  const told = { 'src.identity': client.identity, 'dst.identity': server.identity, bytes_sent: 5, bytes_recv: 5 };
  t.match(await near.line({ direction: 'outbound', level: 'info' }), told);
  t.match(await far.line({ direction: 'inbound', level: 'info' }), told);

  const policies = new ClusterPolicies(t);
  const open = await Endpoint.open(from, { ip: to.ip, port: PORT });
  open.socket.write('hello');
  await open.untilBytes(5);
  const name = `culvert-test-${process.pid}`;
  await policies.create(server.namespace, name, { action: 'DENY', rules: [{ to: [{ operation: { ports: [String(PORT)] } }] }] });
  await open.until('closed');
  const refused = async () => (await far.line({ direction: 'inbound', level: 'error' }))['error'];
  t.equal(await refused(), 'connection closed due to policy change', 'what is open is cut');
  t.notOk(await talks(from, to.ip, PORT), 'what is new is refused');
  t.match(await refused(), `explicitly denied by: ${server.namespace}/${name}`);
  t.ok(await talks(from, to.ip, PORT + 1), 'another port is not meant');
  await policies.remove(name);
  await eventually('the end of the policy', async () => (await talks(from, to.ip, PORT)) || undefined);
  for (const node of [near, far]) t.same(rejections(node), []);
});

t.test('beside another ztunnel', { skip: needs.istiod || needs.twoNodes || needs.ztunnel, timeout: 90_000 }, async (t) => {
  const lab = new MeshLab(t);
  const near = await lab.node(NODE, ztunnelEnv(NODE), 'ca');
  const [[client], [server]] = [podsOf(near, NODE), podsOf(near, FAR_NODE)];
  const dir = await mkdtemp(join(tmpdir(), 'culvert-peer-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const far = await startPeerZtunnel(t, process.env['PEER_ZTUNNEL'] ?? '', dir, { NODE_NAME: FAR_NODE, ...ztunnelEnv(FAR_NODE) });
  const [from, to] = [await lab.captured(client), await capturedByPeer(lab, far, server)];
  for (const pod of [from, to]) await pod.serve((socket) => void socket.pipe(socket), PORT);

  const { out, home } = await tunnelsBothWays(t, {
    near,
    far,
    ours: { pod: from, identity: client.identity, at: { ip: from.ip, port: PORT } },
    theirs: { pod: to, identity: server.identity, at: { ip: to.ip, port: PORT } },
  });
  for (const line of [out, home]) t.match(line, { 'dst.addr': /:15008$/u });
});

t.test('on demand', { skip: needs.istiod || needs.twoNodes, timeout: 90_000 }, async (t) => {
  const lab = new MeshLab(t);
  const { near, far, server, from, to } = await twoNodes(lab, { near: { XDS_ON_DEMAND: 'true' } });
  const held = (): string[] => Array.from(near.app.store.workloads.values(), ({ uid }) => uid);
  await eventually('the pods of the own node', () => held().includes(podsOf(far, NODE)[0].uid) || undefined);
  t.ok(near.app.store.workloads.size < far.app.store.workloads.size, 'not all of the mesh');
  t.notOk(held().includes(server.uid));
  t.ok(await talks(from, to.ip, PORT), 'the first connection waits for what it needs');
  t.match(await near.line({ direction: 'outbound', level: 'info' }), { 'dst.identity': server.identity, 'dst.addr': /:15008$/u });
  t.ok(held().includes(server.uid));

  const [{ namespace, name }] = podsOf(far, NODE);
  for (const { key, hostname, vips } of far.app.store.services.values()) {
    const [vip] = vips.map((one) => one.slice(one.indexOf('/') + 1)).filter((ip) => !ip.includes(':'));
    if (vip === undefined || !hostname.endsWith('.svc.cluster.local')) continue;
    await fetch(`http://127.0.0.1:${near.app.ports.admin}/explain?src=${namespace}/${name}&dst=${vip}:80`);
    t.equal(near.app.store.services.get(key)?.hostname, hostname, `${hostname} by its address`);
    const reply = await askUdp(from.netns.fd, DNS_PROXY, { name: hostname, type: 'A' });
    t.match(reply.answers, [{ data: vip }], 'and then its name');
  }

  const outside = lab.pod(aWorkload('outside', { ips: ['10.1.250.250'] }));
  await outside.serve((socket) => void socket.pipe(socket), PORT);
  t.ok(await talks(from, outside.ip, PORT), 'what the mesh does not have is passed through');
  await sleep(10_500);
  const before = held();
  t.ok(await talks(from, outside.ip, PORT), 'and when it is asked for again');
  t.ok(await talks(from, to.ip, PORT));
  t.same(held(), before, 'which takes nothing away');
  t.same(rejections(near), []);
});

t.test('istiod goes away', { skip: needs.istiod || needs.twoNodes || needs.kubernetes, timeout: 120_000 }, async (t) => {
  const line = new IstiodLine(t);
  await line.join();
  const { near, far, server, from, to } = await twoNodes(new MeshLab(t), { address: line.address });
  const policies = new ClusterPolicies(t);
  const [kept, made] = [`culvert-test-${process.pid}-a`, `culvert-test-${process.pid}-b`];
  const deny = (port: number): object => ({ action: 'DENY', rules: [{ to: [{ operation: { ports: [String(port)] } }] }] });
  await policies.create(server.namespace, kept, deny(PORT + 1));
  await eventually('the policy', async () => !(await talks(from, to.ip, PORT + 1)) || undefined);
  const open = await Endpoint.open(from, { ip: to.ip, port: PORT });
  open.socket.write('hello');
  await open.untilBytes(5);

  line.cut();
  for (const node of [near, far])
    await eventually(
      'the end of the stream',
      async () => (await node.metric('istio_xds_connection_terminations_total')) || undefined,
    );
  open.socket.write('hello');
  await open.untilBytes(10);
  t.ok(await talks(from, to.ip, PORT), 'what is new is served too');
  t.notOk(await talks(from, to.ip, PORT + 1), 'policies hold');
  await policies.remove(kept);
  await policies.create(server.namespace, made, deny(PORT));
  const [workloads, services] = [far.app.store.workloads.size, far.app.store.services.size];

  await line.join();
  await open.until('closed');
  t.notOk(await talks(from, to.ip, PORT), 'a policy that was made meanwhile');
  await eventually('the end of the other', async () => (await talks(from, to.ip, PORT + 1)) || undefined);
  t.equal(far.app.store.workloads.size, workloads, 'nothing else has changed');
  t.equal(far.app.store.services.size, services);
  for (const node of [near, far]) t.same(rejections(node), []);
});
