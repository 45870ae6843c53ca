// Certificates that a real Envoy and a ztunnel refuse each other, in both roles: no byte passes, and both ends say why.
import t from 'tap';
import { type SpiffeId, spiffeId } from '#shared/ids.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { cart, envoyMesh, web } from '../harness/envoy-mesh.ts';
import { noEnvoy } from '../harness/envoy.ts';
import { eventually } from '../harness/mesh-lab.ts';
import { createTestCa, type TestCa } from '../harness/test-ca.ts';

t.setTimeout(120_000);

const HOUR = 3_600_000;
const stranger = spiffeId({ trustDomain: 'elsewhere', namespace: 'shop', serviceAccount: 'stranger' });

interface Fault {
  readonly issue: (ca: TestCa, identity: SpiffeId) => WorkloadCertificate;
  /** What the ztunnel says that refuses it. */
  readonly ours: RegExp;
  /** What Envoy says that refuses it. */
  readonly envoy: RegExp;
  /** The alert by which Envoy says it to the ztunnel. */
  readonly alert: RegExp;
}

const FAULTS: Record<string, Fault> = {
  expired: {
    issue: (ca, identity) =>
      ca.issue(identity, { notBefore: new Date(Date.now() - 2 * HOUR), notAfter: new Date(Date.now() - HOUR) }),
    ours: /tls handshake error: .*certificate has expired/u,
    envoy: /certificate_has_expired/u,
    alert: /alert certificate expired/u,
  },
  'of an unknown authority': {
    issue: (ca, identity) => createTestCa('somebody else').issue(identity, { roots: ca.root }),
    ours: /tls handshake error: .*(unable to get local issuer|unable to verify the first) certificate/u,
    envoy: /unable_to_get_local_issuer_certificate/u,
    alert: /alert unknown ca/u,
  },
  'of another name': {
    issue: (ca) => ca.issue(stranger),
    ours: /identity verification error: .*, got spiffe:\/\/elsewhere\/ns\/shop\/sa\/stranger/u,
    envoy: /SAN_matcher,_certificate_SANs_are_\[spiffe:\/\/elsewhere\/ns\/shop\/sa\/stranger\]/u,
    alert: /alert certificate unknown/u,
  },
};

for (const backend of BACKENDS)
  for (const role of ['the server', 'the client'] as const) {
    const [own, other] = role === 'the server' ? [web, cart] : [cart, web];
    for (const [what, { issue, ours, envoy, alert }] of Object.entries(FAULTS)) {
      t.test(`${backend}, Envoy is ${role}: its certificate is ${what}`, { skip: noEnvoy }, async (t) => {
        const mesh = await envoyMesh(t, role, { backend, certificate: (ca) => issue(ca, other.identity) });
        const end = await attempt(mesh);
        t.same([end.seen, end.bytes], [['reset', 'closed'], 0]);
        if (role === 'the client') {
          const line = await mesh.node.line({ message: 'connection failed', level: 'warn', direction: 'inbound' });
          t.match(line, { error: ours, 'dst.identity': own.identity });
          await eventually('what Envoy makes of it', () => /^UF,URX\|/mu.test(mesh.envoy.log()) || undefined);
          return;
        }
        t.match(await mesh.node.line({ level: 'error', direction: 'outbound' }), { error: ours, bytes_sent: 0, bytes_recv: 0 });
        t.equal(await mesh.node.metric('istio_tcp_connections_failed_total', 'response_flags="TLS_FAILURE"'), 1);
      });

      t.test(`${backend}, Envoy is ${role}: ours is ${what}`, { skip: noEnvoy }, async (t) => {
        const mesh = await envoyMesh(t, role, { backend, ours: (ca) => issue(ca, own.identity) });
        const end = await attempt(mesh);
        t.same([end.seen, end.bytes], [['reset', 'closed'], 0]);
        await eventually('why Envoy refused', () => envoy.test(mesh.envoy.log()) || undefined);
        if (role === 'the client') {
          const line = await mesh.node.line({ message: 'connection failed', level: 'warn', direction: 'inbound' });
          t.match(line['error'], alert);
          return;
        }
        const line = await mesh.node.line({ level: 'error', direction: 'outbound' });
        const failures = (flag: string) => mesh.node.metric('istio_tcp_connections_failed_total', `response_flags="${flag}"`);
        if (backend === 'native') {
          t.match(line['error'], alert);
          t.equal(await failures('TLS_FAILURE'), 1);
          return;
        }
        // node:tls takes the handshake for finished, and hears of the alert or only of the end.
        const told = alert.test(String(line['error']));
        if (told) t.match(line['error'], /^10\.1\.0\.3:15008: [a-z0-9 /]+$/u, 'in its words, and no more');
        if (!told) t.match(line['error'], /it may have refused this identity/u);
        t.equal(await failures(told ? 'TLS_FAILURE' : 'H2_HANDSHAKE_FAILURE'), 1);
      });
    }
  }

t.test('an Envoy that takes only some callers', { skip: noEnvoy }, async (t) => {
  const mesh = await envoyMesh(t, 'the server', { backend: BACKENDS[0], peers: 'spiffe://cluster.local/ns/admin/' });
  const end = await attempt(mesh);
  t.same([end.seen, end.bytes], [['reset', 'closed'], 0]);
  await eventually('whom Envoy refused', () => mesh.envoy.log().includes(`SANs_are_[${web.identity}]`) || undefined);
});

/** A connection with some bytes, to its end. */
async function attempt({ dial }: { dial: () => Endpoint['socket'] }): Promise<Endpoint> {
  const end = new Endpoint(dial());
  end.socket.write('secret');
  await end.until('closed');
  return end;
}
