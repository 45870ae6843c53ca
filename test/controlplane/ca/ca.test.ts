import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { copyFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { SignJWT } from 'jose';
import t from 'tap';
import { CaClient } from '#shared/identity/ca-client.ts';
import type { CaClientOptions } from '#shared/identity/ca-client.ts';
import type { WorkloadCertificate } from '#shared/identity/certificate.ts';
import { createSigningRequest } from '#shared/identity/csr.ts';
import { splitCertificates } from '#shared/identity/pem.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '#shared/gen/istio/ca/ca_pb.ts';
import { spiffeId } from '#shared/ids.ts';
import type { SpiffeId } from '#shared/ids.ts';
import { openssl, startCa } from './ca-fixture.ts';
import type { RunningCa } from './ca-fixture.ts';

t.setTimeout(30_000);

const NEVER = new AbortController().signal;
const id = (namespace: string, serviceAccount: string): SpiffeId =>
  spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount });

async function fetchAs(
  ca: RunningCa,
  authToken: string,
  identity: SpiffeId,
  over: Partial<CaClientOptions> = {},
): Promise<WorkloadCertificate> {
  using client = new CaClient({
    endpoint: { address: ca.address, rootCert: join(ca.stateDir, 'root-cert.pem'), authToken },
    impersonate: true,
    ...over,
  });
  return await client.fetch(identity, NEVER);
}

t.test('a node proxy gets certificates for the pods of its node, as openssl sees them', async (t) => {
  await using ca = await startCa();
  const web = id('shop', 'web');
  const certificate = await fetchAs(ca, await ca.token({}), web);
  t.equal(certificate.identity, web);
  const leaf = join(ca.stateDir, 'leaf.pem');
  await writeFile(leaf, certificate.chain);
  t.match(
    await openssl('verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', join(ca.stateDir, 'root-cert.pem'), leaf),
    /: OK/u,
  );
  t.match(
    await openssl('verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', join(ca.stateDir, 'root-cert.pem'), leaf),
    /: OK/u,
  );
  const text = await openssl('x509', '-in', leaf, '-noout', '-text');
  t.match(text, /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster.local\/ns\/shop\/sa\/web\n/u);
  t.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/u);
  t.match(text, /Extended Key Usage:\s+TLS Web Server Authentication, TLS Web Client Authentication\n/u);
  t.match(text, /CA:FALSE/u);
  t.match(text, /Subject: \n/u);
  t.match(text, /ASN1 OID: prime256v1/u);
  const { serialNumber, validFromDate } = new X509Certificate(certificate.chain);
  t.equal(serialNumber.length, 32, '128 bits');
  t.equal(certificate.notAfter - certificate.notBefore, 24 * 3_600_000 + 120_000);
  t.ok(validFromDate.getTime() < Date.now() - 100_000, 'backdated');
  const { body } = await ca.metrics.render();
  t.match(body, /citadel_server_success_cert_issuance_count 1\n/u);
  t.match(body, /citadel_server_root_cert_expiry_timestamp 2\d{9}\n/u);
  t.match(
    ca.lines.join(''),
    /certificate issued\tidentity="spiffe:\/\/cluster.local\/ns\/shop\/sa\/web" caller=\S+ztunnel" node="node-1"/u,
  );
});

t.test(
  'roots that were replaced are read at the next fetch: a client that lives through the rotation heals itself',
  async (t) => {
    await using ca = await startCa();
    await using stranger = await startCa();
    const rootCert = join(ca.stateDir, 'trusted.pem');
    const trust = async ({ stateDir }: RunningCa): Promise<void> => copyFile(join(stateDir, 'root-cert.pem'), rootCert);
    await trust(stranger);
    const endpoint = { address: ca.address, rootCert, authToken: await ca.token({}) };
    using client = new CaClient({ endpoint, impersonate: true });
    const web = id('shop', 'web');
    await t.rejects(client.fetch(web, NEVER), { code: 'no_certificate', message: /UNAVAILABLE/u });
    await trust(ca);
    t.equal((await client.fetch(web, NEVER)).identity, web);
  },
);

t.test('what a node proxy may not have, by reason', async (t) => {
  await using ca = await startCa();
  const token = await ca.token({});
  const refused = async (identity: string, reason: RegExp, as = token): Promise<void> => {
    const error: unknown = await fetchAs(ca, as, identity as SpiffeId).catch((caught: unknown) => caught);
    t.match(error, { code: 'no_certificate', message: reason }, `${identity}: ${String(reason)}`);
  };
  await refused(id('shop', 'cart'), /UNAUTHENTICATED: .*no pod of shop\/cart runs on node node-1/u);
  await refused(id('shop', 'job'), /no pod of shop\/job runs on node node-1/u);
  await refused('spiffe://other.org/ns/shop/sa/web', /not of trust domain cluster.local/u);
  await refused('spiffe://cluster.local/web', /is not a SPIFFE ID of the form/u);
  await refused(
    id('shop', 'cart'),
    /not a trusted node account/u,
    await ca.token({ namespace: 'shop', serviceAccount: 'web', podName: 'web-0', podUid: 'u1' }),
  );
  t.match((await ca.metrics.render()).body, /citadel_server_id_extraction_err_count 5\n/u);
});

t.test('a node proxy whose pod is known is held to what its pod says', async (t) => {
  const pod = { namespace: 'culvert-system', name: 'ztunnel-node-1', uid: 'u-zt', serviceAccount: 'ztunnel', nodeName: 'node-2' };
  const web = { namespace: 'shop', name: 'web-0', uid: 'u1', serviceAccount: 'web', nodeName: 'node-1' };
  await using ca = await startCa({ pods: [pod, web] });
  await t.rejects(fetchAs(ca, await ca.token({}), id('shop', 'web')), /no pod of shop\/web runs on node node-2/u);
  await t.rejects(fetchAs(ca, await ca.token({ podUid: 'before' }), id('shop', 'web')), /the token is of an earlier pod/u);
});

t.test('tokens that are no good', async (t) => {
  await using ca = await startCa();
  const web = id('shop', 'web');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const forged = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256' })
    .setAudience('istio-ca')
    .setExpirationTime('1h')
    .sign(privateKey);
  const real = await ca.token({});
  const [header = '', payload = '', signature = ''] = real.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
  const altered = Buffer.from(JSON.stringify({ ...claims, sub: 'system:serviceaccount:a:b' })).toString('base64url');
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`;
  for (const bad of ['garbage', 'a.b.c', forged, `${header}.${altered}.${signature}`, unsigned, 'x'.repeat(9000)])
    await t.rejects(fetchAs(ca, bad, web), /UNAUTHENTICATED: the token is refused/u, bad.slice(0, 40));
  t.match((await ca.metrics.render()).body, /citadel_server_authentication_failure_count 6\n/u);
});

t.test('a token for another audience, or expired, is refused by its reason', async (t) => {
  await using ca = await startCa();
  const { TokenIssuer } = await import('../../../controlplane/ca/token-issuer.ts');
  const { FakeClock } = await import('#shared/clock.ts');
  const yesterday = await TokenIssuer.load(ca.stateDir, new FakeClock(Date.now() - 13 * 3_600_000));
  const old = await yesterday.issue({
    namespace: 'culvert-system',
    serviceAccount: 'ztunnel',
    podName: 'p',
    podUid: 'u',
    nodeName: 'node-1',
  });
  await t.rejects(
    fetchAs(ca, old.token, id('shop', 'web')),
    /UNAUTHENTICATED: the token is refused: "exp" claim timestamp check failed/u,
  );

  const { createPrivateKey } = await import('node:crypto');
  const { readFile } = await import('node:fs/promises');
  const key = createPrivateKey(await readFile(join(ca.stateDir, 'token-key.pem')));
  const elsewhere = await new SignJWT({ sub: 'system:serviceaccount:culvert-system:ztunnel' })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer('culvert')
    .setAudience('https://kubernetes.default.svc')
    .setExpirationTime('1h')
    .sign(key);
  await t.rejects(fetchAs(ca, elsewhere, id('shop', 'web')), /the token is refused: unexpected "aud" claim value/u);
});

t.test('own identity: by token, then again by the certificate itself', async (t) => {
  await using ca = await startCa();
  const token = await ca.token({ namespace: 'shop', serviceAccount: 'waypoint', podName: 'wp', podUid: 'u9' });
  const own = id('shop', 'waypoint');
  const certificate = await fetchAs(ca, token, own, { impersonate: false });
  t.equal(certificate.identity, own);

  const byCertificate = await call(ca, certificate, '');
  t.equal(byCertificate.error, undefined);
  t.equal(new X509Certificate(byCertificate.chain[0] ?? '').subjectAltName, `URI:${own}`);
  const another = await call(ca, certificate, id('shop', 'web'));
  t.equal(another.error?.code, status.UNAUTHENTICATED);
  const nobody = await call(ca, undefined, '');
  t.equal(nobody.error?.code, status.UNAUTHENTICATED);
  t.match(nobody.error?.details, /neither a token/u);
});

t.test('a client certificate of another CA counts for nothing', async (t) => {
  await using ca = await startCa();
  await using other = await startCa();
  const token = await other.token({ namespace: 'shop', serviceAccount: 'waypoint', podName: 'wp', podUid: 'u9' });
  const foreign = await fetchAs(other, token, id('shop', 'waypoint'), { impersonate: false });
  t.equal((await call(ca, foreign, '')).error?.code, status.UNAUTHENTICATED);
});

t.test('the asked-for life is kept within bounds', async (t) => {
  await using ca = await startCa();
  const token = await ca.token({});
  const life = async (ttl: number): Promise<number> => {
    const { notBefore, notAfter } = await fetchAs(ca, token, id('shop', 'web'), { ttl });
    return Math.round((notAfter - notBefore - 120_000) / 1000);
  };
  t.equal(await life(600_000), 600);
  t.equal(await life(0), 86_400, 'none asked: the default');
  t.equal(await life(1e15), 90 * 86_400, 'too long: the maximum');
});

t.test('a server with another root is not talked to', async (t) => {
  await using ca = await startCa();
  await using other = await startCa();
  const endpoint = { address: ca.address, rootCert: join(other.stateDir, 'root-cert.pem'), authToken: await ca.token({}) };
  await t.rejects(fetchAs(ca, '', id('shop', 'web'), { endpoint }), /UNAVAILABLE/u);
});

t.test('secrets are readable by their owner only', async (t) => {
  await using ca = await startCa();
  for (const name of ['ca.pem', 'token-key.pem']) t.equal((await stat(join(ca.stateDir, name))).mode & 0o777, 0o600, name);
  t.equal((await stat(join(ca.stateDir, 'root-cert.pem'))).mode & 0o777, 0o644);
});

/** A call as only a raw client can make it: with a client certificate and no token. */
async function call(
  ca: RunningCa,
  certificate: WorkloadCertificate | undefined,
  impersonated: string,
): Promise<{ error: ServiceError | undefined; chain: string[] }> {
  const tls = credentials.createSsl(
    Buffer.from(splitCertificates(ca.ca.roots).join('')),
    certificate ? Buffer.from(certificate.key) : undefined,
    certificate ? Buffer.from(certificate.chain) : undefined,
  );
  const client = new Client(ca.address.replace('https://', ''), tls, { 'grpc.ssl_target_name_override': 'localhost' });
  const { csr } = await createSigningRequest(id('a', 'b'));
  const request = create(IstioCertificateRequestSchema, {
    csr,
    ...(impersonated && { metadata: { ImpersonatedIdentity: impersonated } }),
  });
  const result = await new Promise<{ error: ServiceError | undefined; chain: string[] }>((resolve) => {
    client.makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      (value: Uint8Array) => Buffer.from(value),
      (bytes) => fromBinary(IstioCertificateResponseSchema, bytes).certChain,
      toBinary(IstioCertificateRequestSchema, request),
      new Metadata(),
      (error, chain) => resolve({ error: error ?? undefined, chain: chain ?? [] }),
    );
  });
  client.close();
  return result;
}
