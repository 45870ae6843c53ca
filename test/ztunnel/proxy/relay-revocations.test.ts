// Relays within the node and revocation lists, where the end-to-end test (../revocation.test.ts) cannot choose the moment.
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import type { CertificateSource, WorkloadCertificate } from '#shared/identity/certificate.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { CancelScope } from '#shared/lifecycle/cancel.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import { RelayRevocations } from '../../../ztunnel/proxy/relay-revocations.ts';
import { TrafficMetrics } from '../../../ztunnel/telemetry/traffic-metrics.ts';
import { aWorkload } from '../../fixtures/mesh.ts';
import { revoking } from '../../harness/crl.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ca = createTestCa();
const source = aWorkload('web').identity;
const destination = aWorkload('cart').identity;
const issued = new Map([source, destination].map((identity) => [identity, ca.issue(identity)]));

function setUp(get: CertificateSource['get'] = async (identity) => certificateOf(identity)) {
  const lists = new Revocations();
  const asked: SpiffeId[] = [];
  const certificates = {
    get: (identity: SpiffeId) => {
      asked.push(identity);
      return get(identity);
    },
  };
  const metrics = new Metrics();
  const relays = new RelayRevocations(lists, certificates, new TrafficMetrics(metrics));
  lists.onChange(() => void relays.review());
  /** By reporter. */
  const counted = async (): Promise<Record<string, number>> => {
    const { body } = await metrics.render();
    const lines = body.matchAll(/^istio_crl_policy_rejections_total\{reporter="(\w+)"\} (\d+)$/gmu);
    return Object.fromEntries(Array.from(lines, ([, reporter = '', count]) => [reporter, Number(count)]));
  };
  return { lists, relays, counted, asked, scope: new CancelScope() };
}

function certificateOf(identity: SpiffeId): WorkloadCertificate {
  const certificate = issued.get(identity);
  if (!certificate) throw new MeshError('no_certificate', `none for ${identity}`);
  return certificate;
}

t.test('without lists nobody’s certificate is asked for', async (t) => {
  const { relays, asked, scope } = setUp();
  await relays.watch({ source, destination }, scope);
  t.strictSame(asked, []);
});

t.test('with lists, an end that has no certificate is refused, as a tunnel would be', async (t) => {
  const { lists, relays, counted, scope } = setUp((identity) =>
    identity === source ? Promise.resolve(certificateOf(identity)) : Promise.reject(new MeshError('no_certificate', 'no CA')),
  );
  lists.update(revoking(ca));
  await t.rejects(relays.watch({ source, destination }, scope), { code: 'no_certificate' });
  t.strictSame(await counted(), {});
});

t.test('lists that come while a certificate is fetched count', async (t) => {
  const fetching = Promise.withResolvers<WorkloadCertificate>();
  const { lists, relays, counted, scope } = setUp((identity) =>
    identity === destination ? fetching.promise : Promise.resolve(certificateOf(identity)),
  );
  lists.update(revoking(ca));
  const watching = relays.watch({ source, destination }, scope);
  // By now the source is found good.
  await new Promise(setImmediate);
  lists.update(revoking(ca, certificateOf(source).chain));
  fetching.resolve(certificateOf(destination));
  await watching;
  t.equal(scope.reason?.code, 'cert_revoked');
  t.strictSame(await counted(), { destination: 1 });
});

t.test('lists that come just before a certificate is looked up refuse it, and count once', async (t) => {
  const { lists, relays, counted, scope } = setUp();
  lists.update(revoking(ca));
  const watching = relays.watch({ source, destination }, scope);
  lists.update(revoking(ca, certificateOf(source).chain));
  await t.rejects(watching, { code: 'cert_revoked' });
  await new Promise(setImmediate);
  t.strictSame(await counted(), { destination: 1 });
});

t.test('both ends revoked at once: cut and counted once; what is over is neither', async (t) => {
  const { lists, relays, counted, scope } = setUp();
  const over = new CancelScope();
  await relays.watch({ source, destination }, scope);
  (await relays.watch({ source, destination }, over))[Symbol.dispose]();
  lists.update(revoking(ca, certificateOf(source).chain, certificateOf(destination).chain));
  await new Promise(setImmediate);
  t.equal(scope.reason?.message, 'connection closed: peer certificate revoked by CRL');
  t.equal(over.reason, undefined);
  t.strictSame(await counted(), { destination: 1 });
});
