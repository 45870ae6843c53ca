import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import { splitCertificates } from '#shared/identity/pem.ts';
import { createSigningRequest } from '#shared/identity/csr.ts';
import { spiffeId } from '#shared/ids.ts';
import { Issuer } from '../../../controlplane/ca/issuer.ts';
import { loadAuthority } from '../../../controlplane/ca/root.ts';
import type { Authority } from '../../../controlplane/ca/root.ts';
import { readSigningRequest } from '../../../controlplane/ca/signing-request.ts';
import { readOrCreate } from '../../../controlplane/ca/state-file.ts';
import { folder, openssl } from './ca-fixture.ts';

t.setTimeout(30_000);

const YEAR = 365 * 24 * 3_600_000;
const identity = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });

function load(stateDir: string, cacertsDir?: string, clock = systemClock): Promise<Authority> {
  return loadAuthority({ stateDir, cacertsDir, trustDomain: 'cluster.local', clock });
}

async function leafOf(authority: Authority): Promise<string[]> {
  const issuer = new Issuer({ authority, clock: systemClock, defaultTtl: 3_600_000, maxTtl: 3_600_000 });
  const { csr } = await createSigningRequest(identity);
  return issuer.issueWorkload(identity, readSigningRequest(csr), 0).chain;
}

t.test('a root of our own, as openssl sees it, kept over restarts', async (t) => {
  await using dir = await folder();
  const state = join(dir.path, 'deep', 'state');
  const first = await load(state);
  const path = join(state, 'root-cert.pem');
  t.match(await openssl('verify', '-x509_strict', '-check_ss_sig', '-CAfile', path, path), /: OK/u);
  const text = await openssl('x509', '-in', path, '-noout', '-text');
  t.match(text, /Subject: O = cluster.local/u);
  t.match(text, /Basic Constraints: critical\s+CA:TRUE/u);
  t.match(text, /Key Usage: critical\s+Certificate Sign, CRL Sign/u);
  const again = await load(state);
  t.equal(again.roots, first.roots);
  t.equal((await stat(join(state, 'ca.pem'))).mode & 0o777, 0o600);
  t.equal((await stat(state)).mode & 0o777, 0o700);
});

t.test('processes that start together agree on one root', async (t) => {
  await using dir = await folder();
  const all = await Promise.all(Array.from({ length: 8 }, () => load(dir.path)));
  t.equal(new Set(all.map(({ roots }) => roots)).size, 1);
  let made = 0;
  const create = (): string => `${(made += 1)}`;
  const path = join(dir.path, 'secret');
  const read = await Promise.all(Array.from({ length: 8 }, () => readOrCreate(path, create)));
  t.equal(new Set(read).size, 1);
});

t.test('an old root is renewed with the same key, so what it signed still verifies', async (t) => {
  await using dir = await folder();
  const then = new FakeClock(Date.now() - 8.5 * YEAR);
  const old = await load(dir.path, undefined, then);
  const [leaf = ''] = await leafOf(old);
  const renewed = await load(dir.path);
  t.not(renewed.roots, old.roots);
  t.ok(new X509Certificate(renewed.roots).validToDate.getTime() > Date.now() + 9 * YEAR);
  const path = join(dir.path, 'leaf.pem');
  await writeFile(path, leaf);
  t.match(await openssl('verify', '-CAfile', join(dir.path, 'root-cert.pem'), path), /: OK/u);
});

t.test('a plugged-in RSA intermediate, in both layouts of files', async (t) => {
  await using dir = await folder();
  const at = (name: string): string => join(dir.path, name);
  await openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    at('root.key'),
    '-out',
    at('root.pem'),
    '-subj',
    '/O=corp/CN=root',
    '-days',
    '30',
    '-addext',
    'keyUsage=critical,keyCertSign',
  );
  await openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    at('int.key'),
    '-out',
    at('int.csr'),
    '-subj',
    '/O=corp/CN=mesh',
  );
  await writeFile(
    at('ext'),
    'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n',
  );
  await openssl(
    'x509',
    '-req',
    '-in',
    at('int.csr'),
    '-CA',
    at('root.pem'),
    '-CAkey',
    at('root.key'),
    '-CAcreateserial',
    '-days',
    '20',
    '-extfile',
    at('ext'),
    '-out',
    at('int.pem'),
  );
  const layouts = [
    { 'ca-cert.pem': 'int.pem', 'ca-key.pem': 'int.key', 'root-cert.pem': 'root.pem', 'cert-chain.pem': 'int.pem' },
    { 'tls.crt': 'int.pem', 'tls.key': 'int.key', 'ca.crt': 'root.pem' },
  ];
  for (const [index, files] of layouts.entries()) {
    const plugged = at(`cacerts-${index}`);
    await mkdir(plugged);
    for (const [name, source] of Object.entries(files)) await writeFile(join(plugged, name), await readFile(at(source)));
    const authority = await load(at(`state-${index}`), plugged);
    const chain = await leafOf(authority);
    t.equal(chain.length, 3, 'leaf, intermediate, root');
    t.equal(chain[2], splitCertificates(await readFile(at('root.pem'), 'utf8')).join(''));
    await writeFile(at('leaf.pem'), chain[0] ?? '');
    t.match(
      await openssl('verify', '-x509_strict', '-CAfile', at('root.pem'), '-untrusted', at('int.pem'), at('leaf.pem')),
      /: OK/u,
    );
    t.equal(await readFile(join(at(`state-${index}`), 'root-cert.pem'), 'utf8'), chain[2]);
  }
});

t.test('a plugged-in CA that cannot work is refused by name', async (t) => {
  await using dir = await folder();
  const plugged = join(dir.path, 'cacerts');
  await mkdir(plugged);
  const own = await load(dir.path, plugged);
  t.equal(own.intermediates, '', 'an empty folder: a root of our own');
  const pair = await readFile(join(dir.path, 'ca.pem'), 'utf8');
  await writeFile(join(plugged, 'ca-cert.pem'), own.roots);
  await t.rejects(load(dir.path, plugged), /cacerts: the plugged-in CA is incomplete, missing ca-key.pem, root-cert.pem/u);
  await writeFile(join(plugged, 'ca-key.pem'), pair.slice(pair.indexOf('-----BEGIN PRIVATE')));
  await writeFile(join(plugged, 'root-cert.pem'), 'nothing');
  await t.rejects(load(dir.path, plugged), /cacerts: no root certificate/u);
  await using other = await folder();
  await load(other.path);
  const foreign = await readFile(join(other.path, 'ca.pem'), 'utf8');
  await writeFile(join(plugged, 'ca-key.pem'), foreign.slice(foreign.indexOf('-----BEGIN PRIVATE')));
  await t.rejects(load(dir.path, plugged), /the CA key is not the certificate's key/u);
  await writeFile(join(plugged, 'ca-cert.pem'), 'garbage');
  await t.rejects(load(dir.path, plugged), /cannot read the CA certificate and key/u);
  await writeFile(join(dir.path, 'ca.pem'), 'truncated');
  await t.rejects(load(dir.path), /ca.pem: cannot read the CA certificate and key/u);
});

t.test('an expired signer refuses, and a leaf never outlives its signer', async (t) => {
  await using dir = await folder();
  const clock = new FakeClock(Date.now());
  const authority = await load(dir.path, undefined, clock);
  const issuer = new Issuer({ authority, clock, defaultTtl: YEAR, maxTtl: YEAR });
  const { csr } = await createSigningRequest(identity);
  const publicKey = readSigningRequest(csr);
  clock.advance(9.5 * YEAR);
  const { leaf } = issuer.issueWorkload(identity, publicKey, 0);
  t.equal(leaf.validToDate.getTime(), authority.certificate.validToDate.getTime());
  clock.advance(YEAR);
  t.throws(() => issuer.issueWorkload(identity, publicKey, 0), /the CA certificate has expired/u);
});
