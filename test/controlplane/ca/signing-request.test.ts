import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { Metadata, status } from '@grpc/grpc-js';
import type { Client, ServiceError } from '@grpc/grpc-js';
import fc from 'fast-check';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { IstioCertificateRequestSchema } from '#shared/gen/istio/ca/ca_pb.ts';
import { dial } from '#shared/grpc/dial.ts';
import { createSigningRequest } from '#shared/identity/csr.ts';
import { fromPem, toPem } from '#shared/identity/pem.ts';
import { spiffeId } from '#shared/ids.ts';
import { readSigningRequest } from '../../../controlplane/ca/signing-request.ts';
import { folder, startCa } from './ca-fixture.ts';

t.setTimeout(30_000);

const LABEL = 'CERTIFICATE REQUEST';
const { csr } = await createSigningRequest(spiffeId({ trustDomain: 'td', namespace: 'a', serviceAccount: 'b' }));
const der = fromPem(LABEL, csr)[0] ?? Buffer.alloc(0);

/** True when it is accepted; a refusal must be a `bad_request`, anything else escapes. */
function accepts(pem: string): boolean {
  try {
    readSigningRequest(pem);
    return true;
  } catch (error) {
    if (error instanceof MeshError && error.code === 'bad_request') return false;
    throw error;
  }
}

t.test('requests made by openssl with each kind of key', async (t) => {
  await using dir = await folder();
  const make = (name: string, key: string[]): string => {
    const out = join(dir.path, `${name}.pem`);
    const files = ['-nodes', '-keyout', join(dir.path, 'key'), '-out', out, '-subj', '/CN=x'];
    execFileSync('openssl', ['req', '-new', ...key, ...files], { stdio: 'pipe' });
    return readFileSync(out, 'utf8');
  };
  const ec = (curve: string): string[] => ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${curve}`];
  t.ok(accepts(make('p256', ec('P-256'))));
  t.ok(accepts(make('p384', [...ec('P-384'), '-sha384'])));
  t.ok(accepts(make('rsa', ['-newkey', 'rsa:2048'])));
  t.ok(accepts(make('ed', ['-newkey', 'ed25519'])));
  t.throws(() => readSigningRequest(make('small', ['-newkey', 'rsa:1024'])), /an RSA key of 1024 bits/u);
  t.throws(() => readSigningRequest(make('k1', ec('secp256k1'))), /curve secp256k1 is not one of/u);
  t.throws(
    () => readSigningRequest(make('sha1', [...ec('P-256'), '-sha1'])),
    /signature algorithm 1.2.840.10045.4.1 is not supported/u,
  );
});

t.test('what is not one request is refused in words', async (t) => {
  t.throws(() => readSigningRequest(''), /not exactly one PEM block/u);
  t.throws(() => readSigningRequest(csr + csr), /not exactly one PEM block/u);
  t.throws(() => readSigningRequest(csr.replaceAll(LABEL, 'CERTIFICATE')), /not exactly one PEM block/u);
  t.throws(() => readSigningRequest('x'.repeat(20_000)), /larger than 16384 bytes/u);
  t.throws(() => readSigningRequest(toPem(LABEL, Buffer.from('3000', 'hex'))), /not a PKCS#10 request/u);
  const nested = Buffer.concat(Array.from({ length: 5000 }, () => Buffer.from([0x30, 0x80])));
  t.throws(() => readSigningRequest(toPem(LABEL, nested)), { code: 'bad_request' });
});

t.test('no changed byte gets another key or name signed, and none crashes', async (t) => {
  const key = createPublicKey({ key: readSigningRequest(csr), format: 'der', type: 'spki' });
  t.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  const position = fc.nat(der.length - 1);
  fc.assert(
    fc.property(position, fc.integer({ min: 1, max: 255 }), (at, change) => {
      const mutated = Buffer.from(der);
      mutated[at] = (mutated[at] ?? 0) ^ change;
      return !accepts(toPem(LABEL, mutated));
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(position, position, fc.uint8Array({ maxLength: 40 }), (from, to, inserted) => {
      const mutated = Buffer.concat([der.subarray(0, from), inserted, der.subarray(to)]);
      return mutated.equals(der) || !accepts(toPem(LABEL, mutated));
    }),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => !accepts(toPem(LABEL, bytes))),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(fc.nat(csr.length - 1), fc.string({ maxLength: 5 }), (at, text) => {
      const mutated = csr.slice(0, at) + text + csr.slice(at + text.length);
      // Outside of the block, and in its white space, changes mean nothing.
      return typeof accepts(mutated) === 'boolean';
    }),
    { numRuns: 1000 },
  );
});

t.test('the service answers INVALID_ARGUMENT and goes on', async (t) => {
  await using ca = await startCa();
  const endpoint = { address: ca.address, rootCert: join(ca.stateDir, 'root-cert.pem') };
  const client = await dial(endpoint);
  t.teardown(() => client.close());
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${await ca.token({})}`);
  const encode = (text: string): Uint8Array =>
    toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, { csr: text }));
  const requests: Uint8Array[] = [
    Uint8Array.of(0xff, 0xff),
    encode(''),
    encode('garbage'),
    encode(toPem(LABEL, Buffer.from('junk'))),
  ];
  for (const bytes of [...requests, ...fc.sample(fc.uint8Array({ minLength: 1, maxLength: 300 }), 100)]) {
    const error = await send(client, metadata, bytes);
    t.equal(error?.code, status.INVALID_ARGUMENT, Buffer.from(bytes).toString('hex').slice(0, 40));
  }
  t.equal(await send(client, metadata, encode(csr)), undefined, 'a good one is answered');
});

function send(client: Client, metadata: Metadata, bytes: Uint8Array): Promise<ServiceError | undefined> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      (value: Uint8Array) => Buffer.from(value),
      (value) => value,
      bytes,
      metadata,
      (error) => resolve(error ?? undefined),
    );
  });
}
