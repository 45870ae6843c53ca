// Connections that are not HTTP through our waypoint: TCP ports, and ports whose protocol only the first bytes tell.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import { AppProtocol } from '#shared/gen/istio/workload/workload_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { waypointResources } from '../../controlplane/translate/envoy/waypoint.ts';
import { aMesh, aPolicy, aScope, aService, aWorkload } from '../controlplane/translate/envoy/mesh.ts';
import { endTunnels, eventually, ownAddress, startWaypoint, testOnBackends } from '../harness/waypoint-lab.ts';

const backend = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'default' });
const VIP = '10.96.0.1';
const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

testOnBackends('TCP ports: bytes, half-close, policy by identity', { timeout: 30_000 }, async (t, kind) => {
  const ip = ownAddress();
  const redis = aService({ name: 'redis', vip: VIP, ports: [{ port: 6379, target: 6379, protocol: AppProtocol.TCP }] });
  const policies = [
    aPolicy('only-client', {
      targetRefs: [{ group: '', kind: 'Service', name: 'redis' }],
      rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/client'] } }] }],
    }),
  ];
  const resources = waypointResources(
    aMesh({ services: [redis], policies, workloads: [aWorkload({ name: 'r', ip, service: redis })] }),
    aScope({ services: [redis] }),
  );
  const lab = await startWaypoint(t, kind, resources);
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => void chunks.push(chunk));
    socket.on('end', () => socket.end(hash(Buffer.concat(chunks))));
  });
  await new Promise<void>((resolve) => server.listen(6379, ip, resolve));
  t.teardown(() => server.close());
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  await endTunnels(reactor, lab.certificates, ip, backend);
  const bytes = randomBytes(2_000_000);
  const socket = await lab.connect(`${VIP}:6379`);
  socket.end(bytes);
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    socket.on('data', (chunk: Buffer) => void (text += chunk.toString()));
    socket.on('end', () => resolve(text));
  });
  t.equal(answer, hash(bytes), 'the end of sending travels on and the answer comes back');
  await t.rejects(
    lab.connect(`${VIP}:6379`, spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'other' })),
    /403/u,
  );
  await t.rejects(lab.connect('10.96.0.77:80'), /503|404/u, 'what is not served is refused');
});

testOnBackends('a TCP connection that a new policy forbids is cut, others live on', { timeout: 30_000 }, async (t, kind) => {
  const ip = ownAddress();
  const redis = aService({ name: 'redis', vip: VIP, ports: [{ port: 6380, target: 6380, protocol: AppProtocol.TCP }] });
  const resources = (...policies: ReturnType<typeof aPolicy>[]) =>
    waypointResources(
      aMesh({ services: [redis], policies, workloads: [aWorkload({ name: 'r', ip, service: redis })] }),
      aScope({ services: [redis] }),
    );
  const lab = await startWaypoint(t, kind, resources());
  const server = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await new Promise<void>((resolve) => server.listen(6380, ip, resolve));
  t.teardown(() => server.close());
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  await endTunnels(reactor, lab.certificates, ip, backend);
  const account = (serviceAccount: string) => spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount });
  const [bad, good] = await Promise.all([
    lab.connect(`${VIP}:6380`, account('bad')),
    lab.connect(`${VIP}:6380`, account('good')),
  ]);
  const echoed = (socket: typeof good): Promise<string> =>
    new Promise((resolve) => {
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
      socket.write('hi');
    });
  t.same(await Promise.all([echoed(bad), echoed(good)]), ['hi', 'hi']);
  const cut = new Promise((resolve) => bad.on('error', () => undefined).on('close', resolve));
  const deny = aPolicy('deny', {
    targetRefs: [{ group: '', kind: 'Service', name: 'redis' }],
    action: 'DENY',
    rules: [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/bad'] } }] }],
  });
  await lab.update(resources(deny));
  await cut;
  t.equal(await echoed(good), 'hi');
  good.destroy();
});

testOnBackends(
  'ports of unknown protocol: HTTP is recognised, anything else and silence are TCP',
  { timeout: 30_000 },
  async (t, kind) => {
    const ip = ownAddress();
    const echo = aService({ name: 'echo', vip: VIP, ports: [{ port: 81, target: 8081, protocol: AppProtocol.UNKNOWN }] });
    const policies = [
      aPolicy('no-delete', {
        targetRefs: [{ group: '', kind: 'Service', name: 'echo' }],
        action: 'DENY',
        rules: [{ to: [{ operation: { ports: ['9'] } }] }],
      }),
    ];
    const lab = await startWaypoint(
      t,
      kind,
      waypointResources(
        aMesh({ services: [echo], policies, workloads: [aWorkload({ name: 'e', ip, service: echo })] }),
        aScope({ services: [echo] }),
      ),
    );
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined);
      const greet = setTimeout(() => socket.write('220 hello\r\n'), 20);
      socket.on('data', (chunk: Buffer) => {
        clearTimeout(greet);
        socket.write(chunk.toString().startsWith('GET') ? 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok' : chunk);
      });
    });
    await new Promise<void>((resolve) => server.listen(8081, ip, resolve));
    t.teardown(() => server.close());
    const reactor = createReactor();
    t.teardown(() => reactor.close());
    await endTunnels(reactor, lab.certificates, ip, backend);
    // What is silent for 200 ms is TCP, and on a busy machine the first request may come later than that.
    await eventually(async () => {
      const { headers } = await lab.ask({ to: `${VIP}:81` });
      assert(headers['x-envoy-upstream-service-time'] !== undefined, 'HTTP went through the HTTP chain');
    });
    const binary = await lab.connect(`${VIP}:81`);
    binary.write(Buffer.from([0, 1, 2, 3]));
    t.same(await new Promise((resolve) => binary.once('data', resolve)), Buffer.from([0, 1, 2, 3]));
    binary.destroy();
    const silent = await lab.connect(`${VIP}:81`);
    t.match(String(await new Promise((resolve) => silent.once('data', resolve))), /220 hello/u, 'a server may speak first');
    silent.destroy();
  },
);
