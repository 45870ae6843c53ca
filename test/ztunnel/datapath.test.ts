// Connections between pods in network namespaces, as applications see them, and the line that each leaves behind.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { presence, aMatch, aPolicy, aService, aWorkload, exact } from '../fixtures/mesh.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'], services: { api: { 80: 8080 } } });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });
const legacy = aWorkload('legacy', { node: 'node-2', ips: ['10.1.0.4'], protocol: 'TCP' });
const cartService = aService('cart', { vips: ['10.96.0.1'] });
const stranger = '10.1.0.9';

/** Answers each chunk with the client's address as the application sees it, a space, and the chunk. */
function echo(socket: Socket): void {
  socket.on('data', (chunk) => socket.write(`${socket.remoteAddress?.replace('::ffff:', '')} ${chunk.toString()}`));
  socket.on('end', () => socket.end());
}

async function ask(socket: Socket, text = 'hi'): Promise<string> {
  socket.write(text);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  return answer.toString();
}

/** A connection that gets no further than being accepted, if that. */
async function refused(pod: TestPod, to: HostPort): Promise<void> {
  const socket = await pod.connect(to).catch(() => undefined);
  if (socket) await closed(socket);
}

/** Also when it ends with a reset. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) return resolve();
    socket.once('close', () => resolve());
    socket.resume();
  });
}

async function twoNodes(t: Test, env: Record<string, string> = {}) {
  const lab = new MeshLab(t);
  const [one, two] = [await lab.node('node-1', env), await lab.node('node-2', env)];
  await lab.apply(web, api, cart, legacy, cartService, aService('api', { vips: ['10.96.0.2'] }));
  return { lab, one, two };
}

t.test('captured to captured across nodes: a tunnel, both identities, the client’s address', async (t) => {
  const { lab, one, two } = await twoNodes(t);
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve(echo, 8080);
  for (const [ip, port] of [
    ['10.1.0.3', 8080],
    ['10.96.0.1', 80],
  ] as const) {
    const socket = await client.connect({ ip, port });
    t.equal(await ask(socket), '10.1.0.1 hi', 'the application sees the pod that called');
    socket.end();
    await closed(socket);
    const common = {
      message: 'connection complete',
      'src.workload': 'web',
      'src.namespace': 'shop',
      'src.identity': web.identity,
      'dst.addr': '10.1.0.3:15008',
      'dst.hbone_addr': '10.1.0.3:8080',
      'dst.service': 'cart.shop.svc.cluster.local',
      'dst.workload': 'cart',
      'dst.identity': cart.identity,
    };
    const { 'dst.service': _service, ...direct } = common;
    const outbound = await one.line({ ...(port === 80 ? common : direct), direction: 'outbound' });
    t.match(outbound, { level: 'info', bytes_sent: 2, bytes_recv: 11, 'src.cluster': 'Kubernetes' });
    t.match(await two.line({ ...common, direction: 'inbound' }), { level: 'info', bytes_sent: 11, bytes_recv: 2 });
  }
  for (const [node, reporter] of [
    [one, 'source'],
    [two, 'destination'],
  ] as const) {
    const labels = `reporter="${reporter}"`;
    t.equal(await node.metric('istio_tcp_connections_opened_total', labels), 2);
    t.equal(await node.metric('istio_tcp_connections_closed_total', labels), 2);
    t.equal(await node.metric('istio_tcp_received_bytes_total', labels), 4);
    t.equal(await node.metric('istio_tcp_sent_bytes_total', labels), 22);
    t.equal(await node.metric('istio_tcp_connections_opened_total', 'connection_security_policy="mutual_tls"'), 2);
  }
});

t.test('captured to captured on one node: joined in process, policy by the known identity, no claim of mTLS', async (t) => {
  const { lab, one } = await twoNodes(t);
  const client = await lab.captured(web);
  const server = await lab.captured(api);
  await server.serve(echo, 8080);
  const strict = aPolicy('strict', { action: 'Deny', matches: [aMatch({ notPrincipals: [presence] })] });
  await lab.apply(strict, aPolicy('web-only', { matches: [aMatch({ principals: [exact('cluster.local/ns/shop/sa/web')] })] }));
  const socket = await client.connect({ ip: '10.96.0.2', port: 80 });
  t.equal(await ask(socket), '10.1.0.1 hi');
  socket.end();
  await closed(socket);
  const both = { 'src.identity': web.identity, 'dst.identity': api.identity, 'dst.addr': '10.1.0.2:8080' };
  t.notHas(await one.line({ ...both, direction: 'outbound' }), { 'dst.hbone_addr': '10.1.0.2:8080' });
  await one.line({ ...both, direction: 'inbound', bytes_recv: 2 });
  t.equal(await one.metric('istio_tcp_connections_opened_total', 'mutual_tls'), 0);
  const relayed = await one.app.metrics.render();
  for (const reporter of ['source', 'destination']) {
    const known = `source_principal="${web.identity}".*destination_principal="${api.identity}"`;
    const labels = `reporter="${reporter}".*${known}.*connection_security_policy="unknown"`;
    t.match(relayed.body, new RegExp(`^istio_tcp_connections_opened_total\\{${labels}.*\\} 1$`, 'mu'));
  }
  t.equal(await one.metric('istio_tcp_connections_opened_total'), 2);
  await lab.apply(aPolicy('web-only', { matches: [aMatch({ principals: [exact('cluster.local/ns/shop/sa/other')] })] }));
  await refused(client, { ip: '10.96.0.2', port: 80 });
  await one.line({
    direction: 'inbound',
    error: 'connection closed due to policy rejection: allow policies exist, but none allowed',
  });
});

t.test('IPv6 all the way', async (t) => {
  const lab = new MeshLab(t);
  const [one, two] = [await lab.node('node-1'), await lab.node('node-2')];
  const source = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1', 'fd01::1'] });
  const target = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3', 'fd01::3'], services: { cart: {} } });
  const near = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2', 'fd01::2'] });
  await lab.apply(source, target, near, aService('cart', { vips: ['fd96::1'] }));
  const client = await lab.captured(source);
  for (const workload of [target, near]) await (await lab.captured(workload)).serve(echo, 8080);
  for (const [ip, port] of [
    ['fd96::1', 80],
    ['fd01::3', 8080],
    ['fd01::2', 8080],
  ] as const) {
    const socket = await client.connect({ ip, port });
    t.equal(await ask(socket), 'fd01::1 hi', ip);
    socket.end();
    await closed(socket);
  }
  await two.line({ 'dst.hbone_addr': '[fd01::3]:8080', 'src.identity': source.identity });
  await one.line({ direction: 'inbound', 'dst.addr': '[fd01::2]:8080' });
});

t.test('SAME_NODE=hbone tunnels within the node too', async (t) => {
  const { lab, one } = await twoNodes(t, { SAME_NODE: 'hbone' });
  const client = await lab.captured(web);
  const server = await lab.captured(api);
  await server.serve(echo, 8080);
  const socket = await client.connect({ ip: '10.1.0.2', port: 8080 });
  t.equal(await ask(socket), '10.1.0.1 hi');
  socket.end();
  await closed(socket);
  await one.line({ direction: 'inbound', 'dst.hbone_addr': '10.1.0.2:8080', 'src.identity': web.identity });
  t.equal(await one.metric('istio_tcp_connections_opened_total', 'mutual_tls'), 2);
});

t.test('captured to uncaptured, and to addresses that nobody knows: plaintext', async (t) => {
  const { lab, one } = await twoNodes(t);
  const client = await lab.captured(web);
  const plain = lab.pod(legacy);
  const unknown = lab.net.pod('stranger', stranger);
  await plain.serve(echo, 9000);
  await unknown.serve(echo, 9000);
  for (const ip of [legacy.ips[0] ?? '', stranger]) {
    const socket = await client.connect({ ip, port: 9000 });
    t.equal(await ask(socket), '10.1.0.1 hi');
    socket.end();
    await closed(socket);
  }
  const known = await one.line({ 'dst.addr': '10.1.0.4:9000', 'dst.workload': 'legacy', direction: 'outbound' });
  t.notOk('src.identity' in known || 'dst.identity' in known, 'no identities without mTLS');
  t.notOk('dst.workload' in (await one.line({ 'dst.addr': '10.1.0.9:9000', direction: 'outbound' })));
});

t.test('uncaptured to captured: let in without a policy, refused by STRICT, at once and while it lives', async (t) => {
  const { lab, two } = await twoNodes(t);
  const server = await lab.captured(cart);
  const client = lab.net.pod('stranger', stranger);
  await server.serve(echo, 8080);
  const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
  t.equal(await ask(open), `${stranger} hi`);
  await lab.apply(aPolicy('strict', { action: 'Deny', matches: [aMatch({ notPrincipals: [presence] })] }));
  await closed(open);
  const cut = await two.line({ direction: 'inbound', error: 'connection closed due to policy change' });
  t.match(cut, { level: 'error', 'src.addr': /^10\.1\.0\.9:/u, bytes_recv: 2 });
  await refused(client, { ip: '10.1.0.3', port: 8080 });
  await two.line({ error: 'connection closed due to policy rejection: explicitly denied by: shop/strict' });
  t.equal(await two.metric('istio_tcp_connections_failed_total', 'response_flags="DENY"'), 2);
});

t.test('a policy by service account across nodes: 401 to the tunnel, a reset to the client', async (t) => {
  const { lab, one, two } = await twoNodes(t);
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve(echo, 8080);
  const denied = aMatch({ serviceAccounts: [{ namespace: 'shop', serviceAccount: 'web' }] });
  const deny = aPolicy('no-web', { scope: 'WorkloadSelector', action: 'Deny', matches: [denied] });
  await lab.apply(deny, aWorkload('cart', { ...cart, services: { cart: { 80: 8080 } }, authorizationPolicies: [deny.key] }));
  await refused(client, { ip: '10.96.0.1', port: 80 });
  await two.line({
    'src.identity': web.identity,
    error: 'connection closed due to policy rejection: explicitly denied by: shop/no-web',
  });
  t.match(await one.line({ direction: 'outbound' }), { error: /401/u });
  await lab.apply(aWorkload('cart', { ...cart, services: { cart: { 80: 8080 } } }));
  const allowed = await client.connect({ ip: '10.96.0.1', port: 80 });
  t.equal(await ask(allowed), '10.1.0.1 hi', 'and again without it');
  await lab.apply(aWorkload('cart', { ...cart, services: { cart: { 80: 8080 } }, authorizationPolicies: [deny.key] }));
  await closed(allowed);
  await two.line({ error: 'connection closed due to policy change' });
});

t.test('a first endpoint that is gone: the second takes the connection, and the next ones at once', async (t) => {
  const { lab, one } = await twoNodes(t);
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve(echo, 8080);
  const gone = aWorkload('gone', {
    node: 'node-2',
    ips: ['10.1.0.77'],
    protocol: 'TCP',
    services: { cart: { 80: 8080 } },
    capacity: 1_000_000,
  });
  // Up, with nobody listening.
  lab.pod(gone);
  await lab.apply(gone);
  for (let i = 0; i < 4; i++) t.equal(await ask(await client.connect({ ip: '10.96.0.1', port: 80 })), '10.1.0.1 hi');
  t.equal(await one.metric('culvert_endpoint_ejections_total'), 1);
});

t.test('nothing answers at the destination: the client is reset, the line says why', async (t) => {
  const { lab, one, two } = await twoNodes(t);
  const client = await lab.captured(web);
  await lab.captured(cart);
  await refused(client, { ip: '10.1.0.3', port: 8081 });
  t.match(await two.line({ direction: 'inbound' }), { error: /connection failed: .*REFUSED/u });
  t.match(await one.line({ direction: 'outbound' }), { error: /503/u });
});

t.test('a call of the ztunnel’s own ports goes nowhere', async (t) => {
  const { lab, one, two } = await twoNodes(t);
  const client = await lab.captured(web);
  await lab.captured(cart);
  for (const port of [15_001, 15_006, 15_008]) {
    await refused(client, { ip: '10.1.0.3', port });
    await two.line({ message: 'connection failed', error: 'attempted recursive call to ourselves' });
  }
  t.equal(await one.metric('istio_tcp_connections_failed_total'), 3);
});

t.test('a pod that the agent takes back is no longer served; one that comes again is', async (t) => {
  const { lab, two } = await twoNodes(t);
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve(echo, 8080);
  const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
  await ask(open);
  t.equal(await two.agent.remove('zds-cart'), '');
  await closed(open);
  await refused(client, { ip: '10.1.0.3', port: 8080 });
  await lab.enrol(cart, server);
  await eventually('the pod to be served again', async () => {
    const socket = await client.connect({ ip: '10.1.0.3', port: 8080 });
    socket.write('hi');
    const answer = await Promise.race([once(socket, 'data'), closed(socket)]);
    return answer === undefined ? undefined : true;
  });
});

t.test('a node that drains: tunnels live on until they end or the deadline, new ones go nowhere', async (t) => {
  const { lab, one, two } = await twoNodes(t, { CONNECTION_TERMINATION_DEADLINE: '3s' });
  const client = await lab.captured(web);
  const server = await lab.captured(cart);
  await server.serve(echo, 8080);
  const open = await client.connect({ ip: '10.1.0.3', port: 8080 });
  await ask(open);
  const started = performance.now();
  const stopped = two.app.stop();
  // A tunnel that is asked for before the GOAWAY arrives still counts as an old one.
  await sleep(200);
  await refused(client, { ip: '10.1.0.3', port: 8080 });
  await one.line({ level: 'error', direction: 'outbound' });
  t.equal(await ask(open), '10.1.0.1 hi');
  open.end();
  await closed(open);
  await stopped;
  t.ok(performance.now() - started < 2500, 'ends when the last connection has');
  t.match(await two.line({ direction: 'inbound', level: 'info' }), { message: 'connection complete' });
});
