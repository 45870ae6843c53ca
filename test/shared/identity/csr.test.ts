import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { createSigningRequest } from '#shared/identity/csr.ts';
import { fromPem, splitCertificates, toPem } from '#shared/identity/pem.ts';
import { spiffeId } from '#shared/ids.ts';

t.test('openssl reads and verifies a signing request', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'culvert-csr-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const { csr } = await createSigningRequest(
    spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' }),
  );
  const path = join(dir, 'request.pem');
  await writeFile(path, csr);
  const { stdout, stderr } = await promisify(execFile)('openssl', ['req', '-in', path, '-noout', '-verify', '-text']);
  t.match(stdout + stderr, /verify OK/u);
  t.match(stdout, /Subject: \n/u);
  t.match(stdout, /ASN1 OID: prime256v1/u);
  t.match(stdout, /Subject Alternative Name: \n\s+URI:spiffe:\/\/cluster.local\/ns\/shop\/sa\/web\n/u, 'one URI, not critical');
  t.match(stdout, /Signature Algorithm: ecdsa-with-SHA256/u);
});

t.test('every request has a key of its own', async (t) => {
  const identity = spiffeId({ trustDomain: 'td', namespace: 'a', serviceAccount: 'b' });
  const [one, two] = await Promise.all([createSigningRequest(identity), createSigningRequest(identity)]);
  t.notOk(one.privateKey.equals(two.privateKey));
});

t.test('PEM: blocks by label, text around them ignored, nonsense inside refused', async (t) => {
  const der = Buffer.from('some bytes that are longer than one line of base64, so that it wraps');
  const pem = toPem('THING', der);
  t.ok(pem.split('\n').every((line) => line.length <= 64));
  t.same(fromPem('THING', `text\n${pem}\nmore\n${pem.replaceAll('\n', '\r\n')}`), [der, der]);
  t.same(fromPem('OTHER', pem), []);
  t.same(fromPem('THING', pem.replace('c', '%')), []);
  t.same(splitCertificates('no certificate here'), []);
});
