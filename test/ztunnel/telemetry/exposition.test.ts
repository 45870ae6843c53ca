// What dashboards and collectors read of a ztunnel that serves connections: metric names, labels and values, and lines in both formats
// (facts: ztunnel 12). Response flags by cause beyond these are in test/ztunnel/failures.
import type { Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { aMatch, aPolicy, aService, aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { MeshLab } from '../../harness/mesh-lab.ts';

t.setTimeout(60_000);

const locality = { region: 'r1', zone: 'z1', subzone: '' };
const web = aWorkload('web-1', { node: 'node-1', ips: ['10.1.0.1'], workloadName: 'web', canonicalName: 'web', locality });
const cart = aWorkload('cart-1', {
  node: 'node-2',
  ips: ['10.1.0.3'],
  workloadName: 'cart',
  canonicalName: 'cart',
  canonicalRevision: 'v2',
  services: { cart: { 80: 8080, 81: 8081 } },
});
const plain = aWorkload('plain', { node: 'node-3', ips: ['10.1.0.9'], protocol: 'TCP' });
const service = aService('cart', { ports: { 80: 8080, 81: 8081 } });
const noPort9000 = aPolicy('no-9000', { action: 'Deny', matches: [aMatch({ destinationPorts: [9000] })] });

/** Istio's traffic labels; each set has all of them. */
const LABELS = [
  'reporter',
  ...['source', 'destination'].flatMap((side) =>
    [
      'workload',
      'canonical_service',
      'canonical_revision',
      'workload_namespace',
      'principal',
      'app',
      'version',
      'cluster',
      'region',
      'zone',
    ].map((name) => `${side}_${name}`),
  ),
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
].sort();

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

function samplesOf(body: string): Sample[] {
  return [...body.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gmu)].map(([, name = '', labels = '', value]) => ({
    name,
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/gu)].map(([, key = '', text = '']) => [key, text])),
    value: Number(value),
  }));
}

async function setUp(t: Test) {
  const lab = new MeshLab(t);
  const [near, far] = [await lab.node('node-1', { LOG_FORMAT: 'json' }), await lab.node('node-2')];
  await lab.apply(web, cart, plain, service, noPort9000);
  const [client, server, outside] = [await lab.captured(web), await lab.captured(cart), lab.pod(plain)];
  const echo = (socket: Socket): void => void socket.pipe(socket);
  for (const port of [8080, 9000]) await server.serve(echo, port);
  await outside.serve(echo, 8080);
  /** Five bytes there and back, and an end; or a refusal. */
  const talk = async (from: typeof client, ip: string, port: number): Promise<void> => {
    // A reset may come before the connect is told.
    const socket = await from.connect({ ip, port }).catch(() => undefined);
    if (!socket) return;
    const end = new Endpoint(socket);
    end.socket.write('hello');
    await end.gets(5);
    end.socket.end();
    await end.until('closed');
  };
  return { near, far, client, outside, talk };
}

t.test('the traffic set of each kind of connection, from both reporters', async (t) => {
  const { near, far, client, outside, talk } = await setUp(t);
  await talk(client, '10.96.0.1', 80);
  await talk(client, '10.1.0.9', 8080);
  await talk(outside, '10.1.0.3', 8080);
  await talk(client, '10.1.0.3', 9000);
  await talk(client, '10.96.0.1', 81);
  await far.line({ direction: 'inbound', 'src.workload': 'plain' });
  await near.line({ direction: 'outbound', 'dst.hbone_addr': '10.1.0.3:8081' });
  const samples = [...samplesOf((await near.app.metrics.render()).body), ...samplesOf((await far.app.metrics.render()).body)];
  const traffic = samples.filter(({ name }) => /^istio_tcp_(connections|received|sent)_/u.test(name));
  for (const { labels } of traffic) t.same(Object.keys(labels).sort(), LABELS);
  t.ok(
    traffic.every(({ labels }) => Object.values(labels).every((value) => value !== '')),
    'what is not known is `unknown`',
  );
  const value = (name: string, labels: Record<string, string>): number =>
    traffic
      .filter((sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text))
      .reduce((sum, sample) => sum + sample.value, 0);

  const tunnelled = {
    source_workload: 'web',
    source_canonical_service: 'web',
    source_canonical_revision: 'v1',
    source_workload_namespace: 'shop',
    source_principal: web.identity,
    source_app: 'web',
    source_version: 'v1',
    source_cluster: 'Kubernetes',
    source_region: 'r1',
    source_zone: 'z1',
    destination_workload: 'cart',
    destination_principal: cart.identity,
    destination_version: 'v2',
    destination_region: 'unknown',
    destination_service: 'cart.shop.svc.cluster.local',
    destination_service_name: 'cart',
    destination_service_namespace: 'shop',
    request_protocol: 'tcp',
    connection_security_policy: 'mutual_tls',
    response_flags: '-',
  };
  for (const reporter of ['source', 'destination']) {
    t.equal(value('istio_tcp_connections_closed_total', { ...tunnelled, reporter }), 1, `${reporter}: closed`);
    t.equal(value('istio_tcp_received_bytes_total', { ...tunnelled, reporter }), 5, `${reporter}: from the client`);
    t.equal(value('istio_tcp_sent_bytes_total', { ...tunnelled, reporter }), 5, `${reporter}: to the client`);
    t.equal(value('istio_tcp_connections_failed_total', { reporter, response_flags: '-' }), 0);
  }
  // Both are known by the control plane's word; who the client is was not proved.
  const plaintext = { connection_security_policy: 'unknown', source_principal: 'unknown', response_flags: '-' };
  t.equal(
    value('istio_tcp_connections_closed_total', { ...plaintext, reporter: 'source', destination_principal: plain.identity }),
    1,
  );
  t.equal(
    value('istio_tcp_connections_closed_total', { ...plaintext, reporter: 'destination', destination_principal: cart.identity }),
    1,
  );
  const failed = (reporter: string, response_flags: string): number =>
    value('istio_tcp_connections_failed_total', { reporter, response_flags });
  t.equal(failed('destination', 'DENY'), 1, 'a policy');
  t.equal(failed('destination', 'CONNECT'), 1, 'an application that refuses');
  t.equal(failed('source', 'CONNECT'), 2, 'answers other than 200');
  t.equal(value('istio_tcp_connections_opened_total', { reporter: 'source' }), 4);
  t.equal(value('istio_tcp_connections_opened_total', { reporter: 'destination' }), 4);
});

t.test('names and types in both formats', async (t) => {
  const { near, client, talk } = await setUp(t);
  await talk(client, '10.96.0.1', 80);
  // The client may hear of the end before the line and the counts are there.
  await near.line({ direction: 'outbound' });
  const plainText = await near.app.metrics.render();
  t.equal(plainText.type, 'text/plain; version=0.0.4; charset=utf-8');
  const open = await near.app.metrics.render('application/openmetrics-text');
  t.match(open.type, /^application\/openmetrics-text; *version=1\.0\.0; *charset=utf-8$/u);
  t.ok(open.body.endsWith('# EOF\n'));
  t.match(open.body, /^# HELP istio_tcp_connections_opened The/mu, 'OpenMetrics names families without _total');
  t.match(open.body, /^istio_tcp_connections_opened_total\{/mu);
  for (const [name, type] of Object.entries({
    istio_build: 'gauge',
    istio_tcp_connections_opened_total: 'counter',
    istio_tcp_connections_closed_total: 'counter',
    istio_tcp_connections_failed_total: 'counter',
    istio_tcp_received_bytes_total: 'counter',
    istio_tcp_sent_bytes_total: 'counter',
    istio_tcp_sockets_open: 'gauge',
    istio_crl_policy_rejections_total: 'counter',
    istio_dns_requests_total: 'counter',
    istio_dns_upstream_requests_total: 'counter',
    istio_dns_upstream_failures_total: 'counter',
    istio_dns_upstream_request_duration_seconds: 'histogram',
    workload_manager_active_proxy_count: 'gauge',
    workload_manager_pending_proxy_count: 'gauge',
    workload_manager_proxies_started_total: 'counter',
    workload_manager_proxies_stopped_total: 'counter',
    process_open_fds: 'gauge',
    process_max_fds: 'gauge',
  }))
    t.match(plainText.body, new RegExp(`^# TYPE ${name} ${type}$`, 'mu'));
  const samples = samplesOf(plainText.body);
  t.match(
    samples.find(({ name }) => name === 'istio_build'),
    { labels: { component: 'ztunnel', tag: 'unknown' }, value: 1 },
  );
  t.same(
    samples.filter(({ name }) => name === 'istio_tcp_sockets_open').map(({ labels, value }) => [labels['reporter'], value]),
    [
      ['source', 0],
      ['destination', 0],
    ],
  );
  t.equal(samples.find(({ name }) => name === 'workload_manager_proxies_started_total')?.value, 1);
});

t.test('lines of both ends: fields, units, and none that is not known', async (t) => {
  const { near, far, client, outside, talk } = await setUp(t);
  await talk(client, '10.96.0.1', 80);
  const common = {
    level: 'info',
    scope: 'access',
    message: 'connection complete',
    'src.workload': 'web-1',
    'src.namespace': 'shop',
    'src.identity': web.identity,
    'src.cluster': 'Kubernetes',
    'dst.addr': '10.1.0.3:15008',
    'dst.hbone_addr': '10.1.0.3:8080',
    'dst.service': 'cart.shop.svc.cluster.local',
    'dst.workload': 'cart-1',
    'dst.namespace': 'shop',
    'dst.identity': cart.identity,
    'dst.cluster': 'Kubernetes',
    bytes_sent: 5,
    bytes_recv: 5,
  };
  const [out, into] = [await near.line({ direction: 'outbound' }), await far.line({ direction: 'inbound' })];
  for (const line of [out, into]) {
    t.match(line, common);
    t.match(line['duration'], /^\d+ms$/u);
    t.match(line['time'], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z$/u);
    t.notOk('error' in line);
  }
  t.same(Object.keys(out), [
    'level',
    'time',
    'scope',
    'message',
    'src.addr',
    'src.workload',
    'src.namespace',
    'src.identity',
    'src.cluster',
    'dst.addr',
    'dst.hbone_addr',
    'dst.service',
    'dst.workload',
    'dst.namespace',
    'dst.identity',
    'dst.cluster',
    'direction',
    'bytes_sent',
    'bytes_recv',
    'duration',
  ]);
  await talk(outside, '10.1.0.3', 8080);
  const unproved = await far.line({ direction: 'inbound', 'src.workload': 'plain' });
  for (const field of ['src.identity', 'dst.identity', 'dst.hbone_addr']) t.notOk(field in unproved, `no ${field} without mTLS`);

  await talk(client, '10.1.0.3', 9000);
  t.match(await far.line({ direction: 'inbound', level: 'error' }), {
    error: 'connection closed due to policy rejection: explicitly denied by: shop/no-9000',
  });
  t.match(await near.line({ direction: 'outbound', level: 'error' }), { error: /http status: 401 Unauthorized/u });
  await talk(client, '127.0.0.1', 15_001).catch(() => undefined);
  const early = await near.line({ message: 'connection failed' });
  t.match(early, { level: 'warn', direction: 'outbound', error: 'attempted recursive call to ourselves' });
  t.same(Object.keys(early), ['level', 'time', 'scope', 'message', 'src.addr', 'dst.addr', 'direction', 'error']);
});
