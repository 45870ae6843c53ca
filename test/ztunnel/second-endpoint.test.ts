// A first endpoint that cannot take a connection through a tunnel: another one takes it, and what was learnt spares the next ones the
// detour, as far as it was the endpoint's fault. The bad endpoint has nearly all of the capacity, so that it is drawn first.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import type { IncomingTunnel } from '#shared/hbone/api.ts';
import { serveHbone } from '#shared/hbone/server.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { aMatch, aPolicy, aService, aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { type LabNode, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';
import type { Policy, Service, Workload } from '../../ztunnel/state/model.ts';

t.setTimeout(60_000);

const HBONE = 15_008;
/** `shop` is served on 8080, `news` by the same pods on 9090. */
const services = { shop: { 80: 8080 }, news: { 80: 9090 } };
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const good = aWorkload('good', { node: 'node-2', ips: ['10.1.0.3'], services });
const bad = aWorkload('bad', { node: 'node-2', ips: ['10.1.0.4'], services, capacity: 1_000_000 });
const shop = { ip: '10.96.0.1', port: 80 };
const news = { ip: '10.96.0.2', port: 80 };

interface Mesh {
  readonly lab: MeshLab;
  readonly node: LabNode;
  readonly client: TestPod;
  /** When the first of them was made, monotonic ms. */
  readonly since: number;
  /** Names of the pods that answered so many connections to a service, one after the other. */
  answers(to: typeof shop, count: number): Promise<string[]>;
}

async function meshOf(t: Test, ...entries: readonly (Workload | Service | Policy)[]): Promise<Mesh> {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1');
  await lab.node('node-2');
  await lab.apply(web, aService('shop', { vips: [shop.ip] }), aService('news', { vips: [news.ip] }), ...entries);
  const client = await lab.captured(web);
  let since: number | undefined;
  const answer = async (to: typeof shop): Promise<string> => {
    const socket = client.dial(to);
    const [name] = (await once(socket, 'data')) as [Buffer];
    socket.end();
    return name.toString();
  };
  return {
    lab,
    node,
    client,
    get since() {
      return since ?? performance.now();
    },
    async answers(to, count) {
      since ??= performance.now();
      const names: string[] = [];
      for (let i = 0; i < count; i++) names.push(await answer(to));
      return names;
    },
  };
}

/** An enrolled pod whose applications on these ports tell its name. */
async function serve(lab: MeshLab, workload: Workload, ...ports: number[]): Promise<void> {
  const pod = await lab.captured(workload);
  for (const port of ports) await pod.serve((socket) => void socket.end(workload.name), port);
}

/** What is left out comes back after a second, and may then be found out again: on a busy machine once for each. */
function aboutOnce(t: Test, { since }: Mesh, counted: number, what: string): void {
  const most = 1 + Math.floor((performance.now() - since) / 1000);
  t.ok(counted >= 1 && counted <= most, `${what}: ${counted}, at most ${most}`);
}

const ejected = ({ node }: Mesh): Promise<number> => node.metric('culvert_endpoint_ejections_total');

t.test('its port 15008 is down: another takes the connection, and all of the workload is left out', async (t) => {
  const mesh = await meshOf(t, good, bad);
  await serve(mesh.lab, good, 8080, 9090);
  mesh.lab.pod(bad);
  t.same(await mesh.answers(shop, 3), ['good', 'good', 'good']);
  aboutOnce(t, mesh, await ejected(mesh), 'left out');
  t.equal(await mesh.node.metric('culvert_endpoints_ejected'), 1);
  t.match(await mesh.node.line({ direction: 'outbound', level: 'info' }), { 'dst.workload': 'good' });
});

t.test('what is left out as a workload is left out for all of its ports', async (t) => {
  const mesh = await meshOf(t, good, bad);
  await serve(mesh.lab, good, 8080, 9090);
  let dialled = 0;
  const hangUp = (socket: Socket): void => {
    dialled++;
    socket.destroy();
  };
  await mesh.lab.pod(bad).serve(hangUp, HBONE);
  t.same([...(await mesh.answers(shop, 2)), ...(await mesh.answers(news, 2))], ['good', 'good', 'good', 'good']);
  aboutOnce(t, mesh, dialled, 'nobody dials it again, not for its other service either');
  aboutOnce(t, mesh, await ejected(mesh), 'left out');
});

t.test('its application refuses: another takes the connection, and only that port is left out', async (t) => {
  const mesh = await meshOf(t, good, bad);
  await serve(mesh.lab, good, 8080, 9090);
  await serve(mesh.lab, bad, 9090);
  t.same(await mesh.answers(shop, 3), ['good', 'good', 'good']);
  const far = mesh.lab.nodes.get('node-2');
  t.match(await far?.line({ 'dst.workload': 'bad' }), { error: /connection failed: .*ECONNREFUSED/u });
  const inbound = 'reporter="destination"';
  aboutOnce(t, mesh, (await far?.metric('istio_tcp_connections_failed_total', inbound)) ?? 0, 'asked');
  aboutOnce(t, mesh, await ejected(mesh), 'left out');
  t.same(await mesh.answers(news, 2), ['bad', 'bad'], 'its other port serves');
});

t.test('there is no other: the client is reset, and the line has what the only one said', async (t) => {
  const mesh = await meshOf(t, bad);
  await mesh.lab.captured(bad);
  const end = new Endpoint(mesh.client.dial(shop));
  await end.until('closed');
  t.same(end.seen, ['reset', 'closed']);
  const line = await mesh.node.line({ direction: 'outbound', level: 'error' });
  t.match(line, { 'dst.workload': 'bad', error: /answered CONNECT with http status: 503 Service Unavailable/u });
});

t.test('a policy refuses: no other endpoint is asked, and nobody is left out', async (t) => {
  const selected = { authorizationPolicies: ['shop/nobody'] };
  const closed = aWorkload('bad', { ...bad, services, ...selected });
  const deny = aPolicy('nobody', { scope: 'WorkloadSelector', action: 'Deny', matches: [aMatch({ destinationPorts: [8080] })] });
  const mesh = await meshOf(t, good, closed, deny);
  await serve(mesh.lab, good, 8080);
  await serve(mesh.lab, closed, 8080);
  const end = new Endpoint(mesh.client.dial(shop));
  await end.until('closed');
  t.same([end.seen, end.bytes], [['reset', 'closed'], 0]);
  t.match(await mesh.node.line({ direction: 'outbound' }), { error: /401 Unauthorized/u, 'dst.workload': 'bad' });
  t.equal(await ejected(mesh), 0);
});

const waypoint = aService('waypoint', { vips: ['10.96.0.8'], ports: { [HBONE]: HBONE } });
const bound = aService('bound', { vips: ['10.96.0.9'], waypoint: { kind: 'hostname', host: waypoint.key, port: HBONE } });
const ofWaypoint = { node: 'node-2', nativeTunnel: true, services: { waypoint: {} } };
const ready = aWorkload('ready', { ...ofWaypoint, ips: ['10.1.0.7'] });
const busy = aWorkload('busy', { ...ofWaypoint, ips: ['10.1.0.8'], capacity: 1_000_000 });
const throughWaypoint = { ip: '10.96.0.9', port: 80 };

/** A waypoint's pod whose tunnels `onTunnel` gets. */
async function serveWaypoint(t: Test, { lab }: Mesh, workload: Workload, onTunnel: (tunnel: IncomingTunnel) => void) {
  const { netns } = lab.pod(workload);
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  const tlsOptions = { certificate: lab.ca.issue(workload.identity), alpn: ['h2'], verifyPeer: () => undefined };
  await reactor.listen({ netns: netns.fd, address: { ip: '::', port: HBONE } }, (conn) => {
    reactor.tlsServer(conn, tlsOptions).then(
      (tls) => serveHbone(tls, { reactor, clock: systemClock }, onTunnel),
      () => undefined,
    );
  });
}

function tellName({ name }: Workload): (tunnel: IncomingTunnel) => void {
  return (tunnel) => {
    const stream = tunnel.accept([]);
    stream.start({ onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: () => undefined });
    stream.write(Buffer.from(name));
    stream.end();
  };
}

t.test('a waypoint that says 503 may mean what was asked for: another one is tried, and it is asked again', async (t) => {
  const mesh = await meshOf(t, waypoint, bound, ready, busy);
  await serveWaypoint(t, mesh, ready, tellName(ready));
  let asked = 0;
  await serveWaypoint(t, mesh, busy, (tunnel) => {
    asked++;
    tunnel.refuse(503);
  });
  t.same(await mesh.answers(throughWaypoint, 3), ['ready', 'ready', 'ready']);
  t.equal(asked, 3);
  t.equal(await ejected(mesh), 0);
});

t.test('a waypoint whose port is down is left out like any other endpoint', async (t) => {
  const mesh = await meshOf(t, waypoint, bound, ready, busy);
  await serveWaypoint(t, mesh, ready, tellName(ready));
  mesh.lab.pod(busy);
  t.same(await mesh.answers(throughWaypoint, 3), ['ready', 'ready', 'ready']);
  aboutOnce(t, mesh, await ejected(mesh), 'left out');
});
