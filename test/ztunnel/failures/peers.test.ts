// Peers whose certificate is not good, as server and as client: no byte passes, both ends say why, and who comes with a good one is served.
import type { Socket } from 'node:net';
import t from 'tap';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { spiffeId } from '#shared/ids.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { Endpoint } from '../../harness/endpoint.ts';
import { certificatesOf, MeshLab } from '../../harness/mesh-lab.ts';
import type { LabNode } from '../../harness/mesh-lab.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import type { TestCa } from '../../harness/test-ca.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const elsewhere = (serviceAccount: string) => spiffeId({ trustDomain: 'elsewhere', namespace: 'shop', serviceAccount });
const minutes = (count: number): Date => new Date(Date.now() + count * 60_000);

interface Fault {
  readonly what: string;
  readonly issue: (ca: TestCa, identity: SpiffeId) => WorkloadCertificate;
  /** What the end that checks it says. */
  readonly refusal: RegExp;
  /** Refused by its name, after a handshake that TLS has no fault with: the other end is told nothing but the end. */
  readonly afterTls?: true;
  /** Who presents it: whoever it is not wrong for is let in. */
  readonly sides?: readonly ('client' | 'server')[];
}

const FAULTS: readonly Fault[] = [
  {
    what: 'expired five minutes ago',
    issue: (ca, identity) => ca.issue(identity, { notBefore: minutes(-60), notAfter: minutes(-5) }),
    refusal: /tls handshake error: .*expired/iu,
  },
  {
    what: 'valid in five minutes',
    issue: (ca, identity) => ca.issue(identity, { notBefore: minutes(5), notAfter: minutes(60) }),
    refusal: /tls handshake error: .*not yet valid/iu,
  },
  {
    what: 'of another trust domain',
    issue: (ca, identity) => ca.issue(elsewhere(identity.split('/').at(-1) ?? '')),
    refusal: /identity verification error: .*(cluster\.local).*got spiffe:\/\/elsewhere\/ns\/shop\/sa\//u,
    afterTls: true,
  },
  {
    what: 'of another identity of the mesh',
    issue: (ca) => ca.issue(spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'admin' })),
    refusal: /identity verification error: .*expected SAN \(.*\/sa\/cart\), got .*\/sa\/admin/u,
    afterTls: true,
    sides: ['server'],
  },
  {
    what: 'without a SPIFFE identity',
    issue: (ca) => ca.issue('https://cart.shop.svc'),
    refusal: /identity verification error: .*got https:\/\/cart\.shop\.svc/u,
    afterTls: true,
  },
  {
    what: 'of an unknown authority',
    issue: (ca, identity) => createTestCa('somebody else').issue(identity, { roots: ca.root }),
    refusal: /tls handshake error: .*(unable to get|unable to verify|self.signed|certificate verify)/iu,
  },
];

/** Good certificates, but for whom there is a bad one. */
function withFaults(ca: TestCa): { source: CertificateSource; bad: Map<SpiffeId, WorkloadCertificate> } {
  const bad = new Map<SpiffeId, WorkloadCertificate>();
  const good = certificatesOf(ca);
  return { bad, source: { get: async (identity) => bad.get(identity) ?? good.get(identity) } };
}

for (const backend of BACKENDS)
  t.test(backend, async (t) => {
    const lab = new MeshLab(t);
    const { source, bad } = withFaults(lab.ca);
    // Workers keep a certificate until another one is pushed; the main thread asks for each connection.
    const env = { CULVERT_BACKEND: backend, ZTUNNEL_WORKER_THREADS: 'main' };
    const [near, far] = [await lab.node('node-1', env, source), await lab.node('node-2', env, source)];
    await lab.apply(web, cart);
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    let accepted = 0;
    const port = await server.serve((socket: Socket) => {
      accepted++;
      socket.pipe(socket);
    });
    const attempt = async (): Promise<Endpoint> => {
      const end = await Endpoint.open(client, { ip: server.ip, port });
      end.socket.write('secret');
      return end;
    };
    const failures = (node: LabNode, labels: string) => node.metric('istio_tcp_connections_failed_total', labels);

    for (const { what, issue, refusal, afterTls, sides = ['client', 'server'] } of FAULTS)
      for (const side of sides)
        await t.test(`a ${side} ${what}`, async (t) => {
          const identity = side === 'client' ? web.identity : cart.identity;
          bad.set(identity, issue(lab.ca, identity));
          t.teardown(() => bad.delete(identity));
          // node:tls tells a client that it refuses only by hanging up.
          const told = backend === 'native' && afterTls !== true;
          const flagged = (flag: string) => failures(near, `response_flags="${flag}"`);
          const [tls, h2] = [await flagged('TLS_FAILURE'), await flagged('H2_HANDSHAKE_FAILURE')];
          const end = await attempt();
          await end.until('closed');
          t.same(end.seen, ['reset', 'closed']);
          t.equal(end.bytes, 0);
          const outbound = await near.line({ direction: 'outbound', message: 'connection complete', level: 'error' });
          const inbound = afterTls && side === 'server' ? {} : await far.line({ message: 'connection failed', level: 'warn' });
          const [checks, other] = side === 'server' ? [outbound, inbound] : [inbound, outbound];
          t.match(checks['error'], refusal, 'who checks says why');
          if (told) t.match(other['error'], /alert/u, 'and the other end was told');
          if (told || side === 'server') t.equal(await flagged('TLS_FAILURE'), tls + 1, 'a TLS failure is not CONNECT');
          else if (backend === 'native') {
            t.match(other['error'], /it may have refused this identity/u);
            t.equal(await flagged('H2_HANDSHAKE_FAILURE'), h2 + 1, 'TLS had no fault with it');
          }
        });

    t.equal(accepted, 0, 'the application saw none of them');
    const end = await attempt();
    await end.untilBytes(6);
    t.equal(await failures(far, 'response_flags'), 0, 'who is refused before its tunnel is no connection of the pod');
  });
