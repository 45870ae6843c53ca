import t from 'tap';
import { FakeClock } from '#shared/clock.ts';
import { MeshError } from '#shared/errors.ts';
import type { Meter } from '#shared/hbone/relay.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import type { Carried, ConnectionFacts } from '../../../ztunnel/telemetry/connection-result.ts';
import { ConnectionTelemetry } from '../../../ztunnel/telemetry/connection-result.ts';
import { peerOf } from '../../../ztunnel/telemetry/peer.ts';
import { TrafficMetrics } from '../../../ztunnel/telemetry/traffic-metrics.ts';
import { aService, aWorkload } from '../../fixtures/mesh.ts';

const web = aWorkload('web-1', { workloadName: 'web', canonicalName: 'web', serviceAccount: 'web' });
const cart = aWorkload('cart-1', { workloadName: 'cart', canonicalName: 'cart', serviceAccount: 'cart' });
const facts: ConnectionFacts = {
  reporter: 'source',
  from: { ip: '10.1.0.5', port: 41_000 },
  to: { ip: '10.1.0.9', port: 15_008 },
  hboneAddress: '10.1.0.9:8080',
  source: peerOf(web, web.identity),
  destination: peerOf(cart, cart.identity),
  service: aService('cart'),
  mutualTls: true,
};

/** What has passed by the time a result hears of it, and what passes later. */
function carrying(sent: number, received: number): Carried & { pass(sent: number, received: number): void } {
  const meters: { sent: Meter; received: Meter }[] = [];
  const counts = { sent: 0, received: 0 };
  const relay = {
    get sent() {
      return counts.sent;
    },
    get received() {
      return counts.received;
    },
    countInto(toSent: Meter, toReceived: Meter) {
      toSent.add(counts.sent);
      toReceived.add(counts.received);
      meters.push({ sent: toSent, received: toReceived });
    },
    pass(more: number, back: number) {
      counts.sent += more;
      counts.received += back;
      for (const meter of meters) {
        meter.sent.add(more);
        meter.received.add(back);
      }
    },
  };
  relay.pass(sent, received);
  return relay;
}

function setUp(level = 'info') {
  const lines: string[] = [];
  const clock = new FakeClock(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  const logging = new Logging({ clock, level, sink: { write: (line: string) => lines.push(line.trimEnd()) } });
  const metrics = new Metrics();
  const telemetry = new ConnectionTelemetry(new TrafficMetrics(metrics), logging.scope('access'), clock);
  return { lines, clock, metrics, telemetry };
}

t.test('the line: Istio’s fields in Istio’s order', async (t) => {
  const { lines, clock, telemetry } = setUp();
  const result = telemetry.open(facts, clock.monotonic());
  result.carry(carrying(120, 340));
  clock.advance(9);
  result.end();
  result.end(new MeshError('internal', 'too late'));
  t.strictSame(lines, [
    [
      '2026-01-02T03:04:05.687Z\tinfo\taccess\tconnection complete\tsrc.addr=10.1.0.5:41000 src.workload="web-1" src.namespace="shop"',
      'src.identity="spiffe://cluster.local/ns/shop/sa/web" src.cluster="Kubernetes" dst.addr=10.1.0.9:15008',
      'dst.hbone_addr=10.1.0.9:8080 dst.service="cart.shop.svc.cluster.local" dst.workload="cart-1" dst.namespace="shop"',
      'dst.identity="spiffe://cluster.local/ns/shop/sa/cart" dst.cluster="Kubernetes" direction="outbound" bytes_sent=120',
      'bytes_recv=340 duration="9ms"',
    ].join(' '),
  ]);
});

t.test('at debug the opening is told too, with all that is known then', async (t) => {
  const { lines, telemetry } = setUp('info,access=debug');
  telemetry.open(facts, 0).end();
  t.equal(lines.length, 2);
  t.match(
    lines[0],
    /\tdebug\taccess\tconnection opened\tsrc.addr=10.1.0.5:41000 .* dst.cluster="Kubernetes" direction="outbound"$/u,
  );
});

t.test('bytes are told from the side of the reporter’s application; metrics are not turned', async (t) => {
  const { lines, metrics, telemetry } = setUp();
  const result = telemetry.open({ ...facts, reporter: 'destination' }, 0);
  result.carry(carrying(120, 340));
  result.end();
  t.match(lines[0], /bytes_sent=340 bytes_recv=120/u);
  const { body } = await metrics.render();
  t.match(body, /istio_tcp_received_bytes_total\{.*\} 120$/mu);
  t.match(body, /istio_tcp_sent_bytes_total\{.*\} 340$/mu);
});

t.test('an error is told, flagged and counted; a drain is no failure', async (t) => {
  const { lines, metrics, telemetry } = setUp();
  telemetry.open(facts, 0).end(new MeshError('policy_denied', 'why'));
  telemetry.open(facts, 0).end(new MeshError('draining', 'connection closed due to connection drain'));
  t.match(lines[0], /\terror\taccess\tconnection complete\t.*error="why"$/u);
  t.match(lines[1], /\tinfo\taccess\tconnection complete\t.*error="connection closed due to connection drain"$/u);
  const { body } = await metrics.render();
  t.match(body, /istio_tcp_connections_failed_total\{.*response_flags="DENY"\} 1$/mu);
  t.match(body, /istio_tcp_connections_closed_total\{.*response_flags="-"\} 1$/mu);
  t.match(body, /istio_tcp_connections_opened_total\{.*response_flags="-"\} 2$/mu);
});

t.test('live bytes and open connections are seen at any time', async (t) => {
  const { metrics, telemetry } = setUp();
  const relay = carrying(5, 0);
  const result = telemetry.open(facts, 0);
  result.carry(relay);
  t.match((await metrics.render()).body, /istio_tcp_received_bytes_total\{.*\} 5$/mu);
  relay.pass(3, 0);
  const { body } = await metrics.render();
  t.match(body, /istio_tcp_received_bytes_total\{.*\} 8$/mu);
  t.match(body, /istio_tcp_sockets_open\{reporter="source"\} 1$/mu);
  result.end();
  t.match((await metrics.render()).body, /istio_tcp_sockets_open\{reporter="source"\} 0$/mu);
});

t.test('the labels of a connection', async (t) => {
  const { metrics, telemetry } = setUp();
  telemetry.open(facts, 0);
  const line =
    (await metrics.render()).body.split('\n').find((text) => text.startsWith('istio_tcp_connections_opened_total{')) ?? '';
  for (const label of [
    'reporter="source"',
    'source_workload="web"',
    'source_canonical_service="web"',
    'source_canonical_revision="v1"',
    'source_workload_namespace="shop"',
    'source_principal="spiffe://cluster.local/ns/shop/sa/web"',
    'source_app="web"',
    'source_version="v1"',
    'source_cluster="Kubernetes"',
    'source_region="unknown"',
    'destination_workload="cart"',
    'destination_principal="spiffe://cluster.local/ns/shop/sa/cart"',
    'destination_service="cart.shop.svc.cluster.local"',
    'destination_service_name="cart"',
    'destination_service_namespace="shop"',
    'request_protocol="tcp"',
    'response_flags="-"',
    'connection_security_policy="mutual_tls"',
  ])
    t.ok(line.includes(label), label);
});

t.test('a handshake that failed tells both ends, as far as they are known', async (t) => {
  const { lines, telemetry } = setUp();
  const error = new MeshError('identity_mismatch', 'why');
  const [from, to] = [
    { ip: '10.1.0.5', port: 41_000 },
    { ip: '10.1.0.9', port: 15_008 },
  ];
  telemetry.refusedEarly(from, to, 'inbound', error, { own: cart.identity, peer: 'spiffe://other/ns/a/sa/b' });
  telemetry.refusedEarly(from, to, 'inbound', error);
  t.match(
    lines[0],
    /\twarn\taccess\tconnection failed\tsrc.addr=10.1.0.5:41000 src.identity="spiffe:\/\/other\/ns\/a\/sa\/b" dst.addr=10.1.0.9:15008 dst.identity="spiffe:\/\/cluster.local\/ns\/shop\/sa\/cart" direction="inbound" error="why"$/u,
  );
  t.match(lines[1], /src.addr=10.1.0.5:41000 dst.addr=10.1.0.9:15008 direction="inbound" error="why"$/u);
});
