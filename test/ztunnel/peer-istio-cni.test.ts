// With a real istio-cni node agent (harness/peer-istio-cni.ts says what it must be told): its rules in the pods, its ZDS, and what holds
// while it or the ztunnel is away. Mesh and certificates are the lab's.
import { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import t from 'tap';
import type { Test } from 'tap';
import { clientTcp, listenTcp } from '#shared/os/socket-factory.ts';
import { closeFd } from '#shared/os/netns.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import type { LabNode } from '../harness/mesh-lab.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import { ClusterNamespace, IstioCni, needsIstioCni, NODE_IP } from '../harness/peer-istio-cni.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(300_000);

const NODE = 'node-1';
const [HEARS, ECHO] = [8080, 8081];

async function setUp(t: Test) {
  const lab = new MeshLab(t);
  const cni = new IstioCni(t, lab.net);
  const cluster = new ClusterNamespace(t);
  await cluster.create();
  await cni.start(NODE);
  const start = (): Promise<LabNode> => lab.node(NODE, { INPOD_UDS: cni.zds, SAME_NODE: 'hbone' });
  /** On the wire and in the API, not enrolled. Its server says whom it hears. */
  const pod = async (name: string, ip: string, namespace = cluster.name) => {
    const member = namespace === cluster.name;
    const workload = aWorkload(name, { namespace, ips: [ip], node: NODE, protocol: member ? 'HBONE' : 'TCP' });
    const there = lab.pod(workload);
    there.netns.exec('ip', 'route', 'replace', 'default', 'via', NODE_IP);
    await there.serve((socket) => void socket.end(socket.remoteAddress ?? ''), HEARS);
    await there.serve((socket) => void socket.pipe(socket), ECHO);
    await lab.apply(workload);
    return { there, uid: member ? await cluster.pod(workload) : '' };
  };
  const running = async (name: string, ip: string): Promise<TestPod> => {
    const { there, uid } = await pod(name, ip);
    t.equal(await cni.add(there, cluster.name), '200');
    await cluster.run(there, uid);
    await eventually('the annotation', async () => (await cluster.redirection(name)) === 'enabled' || undefined);
    return there;
  };
  const identity = (name: string): string => `spiffe://cluster.local/ns/${cluster.name}/sa/${name}`;
  return { lab, cni, cluster, start, pod, running, identity };
}

/** Whom the server of a pod hears when this one calls. */
const hears = async (from: TestPod, to: TestPod): Promise<string> =>
  (await text(await from.connect({ ip: to.ip, port: HEARS }))).replace('::ffff:', '');

const served = ({ app }: LabNode): string[] =>
  app.pods
    .list()
    .map(({ who, state }) => `${who.name} ${state}`)
    .sort();

const ready = ({ app }: LabNode, wanted = true) =>
  eventually(`ready: ${wanted}`, () => app.readiness.ready === wanted || undefined);

async function echoed(end: Endpoint): Promise<boolean> {
  const before = end.bytes;
  end.socket.write('hello');
  return end.gets(before + 5);
}

t.test('what it tells is served', { skip: needsIstioCni, timeout: 120_000 }, async (t) => {
  const { lab, cni, cluster, start, pod, running, identity } = await setUp(t);
  const { there: early } = await pod('early', '10.0.1.9');
  t.equal(await cni.add(early, cluster.name), '500 no ztunnel connection', 'a pod waits for its ztunnel');
  const node = await start();
  await ready(node);
  const [client, server] = [await running('client', '10.0.1.1'), await running('server', '10.0.1.2')];
  const { there: plain } = await pod('plain', '10.0.1.3', 'elsewhere');

  t.equal(await hears(client, server), client.ip);
  const both = { 'src.identity': identity('client'), 'dst.identity': identity('server'), 'dst.addr': `${server.ip}:15008` };
  for (const direction of ['outbound', 'inbound']) t.match(await node.line({ direction, 'dst.workload': 'server' }), both);
  t.equal(await hears(plain, server), plain.ip, 'from outside of the mesh');
  t.notOk((await node.line({ direction: 'inbound', 'src.workload': 'plain' }))['src.identity']);
  t.equal(await hears(client, plain), client.ip, 'to the outside');
  t.notOk((await node.line({ direction: 'outbound', 'dst.workload': 'plain' }))['dst.identity']);

  const told = node.lines.length;
  const fd = clientTcp({ netns: lab.net.fabric.fd, to: { ip: server.ip, port: HEARS } });
  const probe = new Socket({ fd }).connect({ host: server.ip, port: HEARS });
  t.equal(await text(probe), '::ffff:169.254.7.127', 'a probe of the kubelet');
  t.equal(node.lines.length, told, 'is not ours');

  const { there: taken, uid } = await pod('taken', '10.0.1.4');
  const { fd: holder } = listenTcp({ netns: taken.netns.fd, address: { ip: '::', port: 15008 } });
  t.match(await cni.add(taken, cluster.name), /^500 got ack error: failure to start proxy : .*EADDRINUSE/u, 'what we refuse');
  closeFd(holder);
  t.equal(await cni.add(taken, cluster.name), '200', 'is asked for again');
  await cluster.run(taken, uid);
  await ready(node);
  await cluster.remove('taken');
  await eventually('its end', () => !served(node).includes('taken Up') || undefined);
});

t.test('it or the ztunnel is away, and the label', { skip: needsIstioCni, timeout: 120_000 }, async (t) => {
  const { cni, cluster, start, running, identity } = await setUp(t);
  let node = await start();
  await ready(node);
  const [client, server, gone] = [
    await running('client', '10.0.1.1'),
    await running('server', '10.0.1.2'),
    await running('gone', '10.0.1.3'),
  ];
  const open = await Endpoint.open(client, { ip: server.ip, port: ECHO });
  t.ok(await echoed(open));

  await cni.kill();
  await ready(node, false);
  t.ok(await echoed(open), 'what is open goes on without an agent');
  t.equal(await hears(client, server), client.ip, 'and what is new is served');
  await cluster.remove(gone.name);
  await cni.start(NODE);
  await ready(node);
  t.strictSame(served(node), ['client Up', 'server Up'], 'its snapshot says who is left');
  t.ok(await echoed(open), 'and cuts nothing else');

  await node.app.stop();
  await t.rejects(hears(client, server), { code: 'ECONNREFUSED' }, 'without a ztunnel nothing passes');
  node = await start();
  await ready(node);
  t.strictSame(served(node), ['client Up', 'server Up'], 'the next one is told of all');
  t.equal(await hears(client, server), client.ip);
  const mesh = { direction: 'inbound', 'src.identity': identity('client') };
  t.ok(await node.line(mesh));

  const cut = await Endpoint.open(client, { ip: server.ip, port: ECHO });
  t.ok(await echoed(cut));
  await cluster.label(null);
  await eventually('the end of both', () => served(node).length === 0 || undefined);
  // The agent takes its rules away before it tells us: what we say to an end of ours is no longer translated, and only who sends hears of it.
  await cut.writeUntilReset();
  const told = node.lines.length;
  t.equal(await hears(client, server), client.ip, 'without the label it goes directly');
  t.equal(node.lines.length, told);
  t.notMatch(client.netns.exec('nft', 'list', 'ruleset'), /redirect/u);
  await cluster.label('ambient');
  await eventually('both again', () => served(node).length === 2 || undefined);
  t.equal(await hears(client, server), client.ip);
  t.ok(await node.line(mesh), 'with it through the mesh');
});
