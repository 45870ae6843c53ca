// Revocation lists: what they say, in which form, who must have signed them; and that both backends refuse whom they name.
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { MeshError } from '#shared/errors.ts';
import { toPem } from '#shared/identity/pem.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import { tcpPair, useReactor } from '../reactor/suite/pairs.ts';
import { crl, der, revoking, serialOf } from '../../harness/crl.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import { mutate, random } from '../../harness/mutate.ts';

const ca = createTestCa();
const bad = ca.issue('spiffe://cluster.local/ns/a/sa/bad');
const good = ca.issue('spiffe://cluster.local/ns/a/sa/good');
const chainOf = (pem: string, root = ca.root): Buffer[] => [new X509Certificate(pem).raw, new X509Certificate(root).raw];

t.test('a listed certificate is refused, in PEM, in DER, and among several lists', async (t) => {
  const list = revoking(ca, bad.chain);
  const other = crl(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, ['01'], 'somebody else');
  for (const file of [list, toPem('X509 CRL', list), toPem('X509 CRL', other) + toPem('X509 CRL', list)]) {
    const lists = new Revocations();
    t.ok(lists.empty);
    lists.update(Buffer.from(file));
    t.match(lists.refusal(chainOf(bad.chain)), { code: 'cert_revoked', message: /revoked by CRL/u });
    t.equal(lists.refusal(chainOf(good.chain)), undefined);
    lists.update(Buffer.from('\n'));
    t.equal(lists.refusal(chainOf(bad.chain)), undefined, 'an empty file takes it back');
  }
});

t.test('a list that its issuer did not sign revokes nothing', async (t) => {
  const lists = new Revocations();
  lists.update(crl(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, [serialOf(bad.chain)]));
  t.equal(lists.refusal(chainOf(bad.chain)), undefined);
  lists.update(revoking(ca, ca.root));
  t.match(lists.refusal(chainOf(good.chain)), { message: /an issuer/u }, 'every certificate of the chain is looked up');
});

// The first list with the name and the serial was the only one that was asked.
t.test('of several lists of one name, any that the issuer signed revokes', async (t) => {
  const mine = toPem('X509 CRL', revoking(ca, bad.chain));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const foreign = toPem('X509 CRL', crl(privateKey, [serialOf(bad.chain)]));
  const lists = new Revocations();
  for (const file of [foreign + mine, mine + foreign]) {
    lists.update(Buffer.from(file));
    t.match(lists.refusal(chainOf(bad.chain)), { code: 'cert_revoked' });
  }
});

t.test('a list that the key of its issuer cannot have signed revokes nothing', async (t) => {
  const { publicKey } = generateKeyPairSync('ed25519');
  const authority = ca.issue('spiffe://cluster.local', { publicKey: publicKey.export({ format: 'der', type: 'spki' }) });
  const lists = new Revocations();
  lists.update(revoking(ca, bad.chain));
  t.equal(lists.refusal(chainOf(bad.chain, authority.chain)), undefined);
});

for (const nextUpdate of ['past', 'future', 'none'] as const)
  t.test(`a list whose next one is due in the ${nextUpdate} counts all the same`, async (t) => {
    const lists = new Revocations();
    lists.update(crl(ca.key, [serialOf(bad.chain)], 'culvert test', undefined, nextUpdate));
    t.match(lists.refusal(chainOf(bad.chain)), { code: 'cert_revoked' });
    t.equal(lists.refusal(chainOf(good.chain)), undefined);
  });

t.test('what is no list is refused and changes nothing', async (t) => {
  const lists = new Revocations();
  lists.update(revoking(ca, bad.chain));
  const unknown = der(0x30, Buffer.from('06082a8648ce3d040305', 'hex'));
  for (const [file, reason] of [
    [Buffer.from('nonsense'), /CRL 1/u],
    [Buffer.from(ca.root), /no block/u],
    [new X509Certificate(ca.root).raw, /CRL 1/u],
    [crl(ca.key, [], 'culvert test', unknown), /algorithm 2a8648ce3d040305/u],
  ] as const)
    t.throws(() => lists.update(file), { code: 'invalid_config', message: reason });
  t.ok(lists.refusal(chainOf(bad.chain)));
});

t.test('broken lists are refused or harmless, never a crash', async (t) => {
  const list = revoking(ca, bad.chain, good.chain);
  for (let seed = 1; seed <= 500; seed++) {
    const lists = new Revocations();
    try {
      lists.update(mutate(list, random(seed)));
      lists.refusal(chainOf(bad.chain));
    } catch (thrown) {
      if (!(thrown instanceof MeshError)) t.fail(String(thrown));
    }
  }
});

for (const backend of ['native', 'portable'] as const)
  for (const side of ['client', 'server'] as const)
    t.test(`${backend}: a revoked ${side} is refused, from the moment the list says so`, async (t) => {
      const revocations = new Revocations();
      const reactor = useReactor(t, () => createReactor({ backend, revocations }));
      const attempt = async (): Promise<Record<'client' | 'server', PromiseSettledResult<{ peer: object }>>> => {
        const tcp = await tcpPair(reactor);
        const own = (name: 'client' | 'server') => ({
          certificate: name === side ? bad : good,
          alpn: ['h2'],
          verifyPeer: () => undefined,
        });
        const [client, server] = await Promise.allSettled([
          reactor.tlsClient(tcp.client, own('client')),
          reactor.tlsServer(tcp.server, own('server')),
        ]);
        return { client, server };
      };
      const judge = side === 'client' ? 'server' : 'client';
      t.match((await attempt())[judge], { status: 'fulfilled' });
      revocations.update(crl(ca.key, ['0123']));
      const fine = (await attempt())[judge];
      t.equal(fine.status, 'fulfilled');
      const peer = fine.status === 'fulfilled' ? (fine.value.peer as { chain?: Uint8Array[] }) : {};
      t.equal(peer.chain?.length, 2, 'the chain is kept, to be asked again');
      const asked = Promise.withResolvers<unknown>();
      revocations.onChange(() => asked.resolve(revocations.refusal(peer.chain)));
      revocations.update(revoking(ca, bad.chain));
      t.match(await asked.promise, { code: 'cert_revoked' });
      t.match((await attempt())[judge], { status: 'rejected', reason: { code: 'cert_revoked', flag: 'CERT_REVOKED' } });
    });

async function settle(done: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !done(); i++) await sleep(10);
}

t.test('a file is followed; a fault in it is told and changes nothing', async (t) => {
  const file = path.join(t.testdir({}), 'crl.pem');
  const lists = new Revocations();
  const faults: MeshError[] = [];
  using _following = followCrlFile(file, lists, (error) => faults.push(error), { quiet: 10 });
  t.match(faults.splice(0), [{ code: 'invalid_config', message: /CRL_PATH .*crl\.pem: .*no such file/u }]);
  writeFileSync(file, toPem('X509 CRL', revoking(ca, bad.chain)));
  await settle(() => !lists.empty);
  t.ok(lists.refusal(chainOf(bad.chain)));
  writeFileSync(file, 'nonsense');
  await settle(() => faults.length > 0);
  t.match(faults, [{ message: /CRL 1/u }]);
  t.ok(lists.refusal(chainOf(bad.chain)));
  rmSync(file);
});

t.test('a folder that is made after the start, or made anew, is found', async (t) => {
  const folder = path.join(t.testdir({}), 'mounted');
  const file = path.join(folder, 'crl.pem');
  const lists = new Revocations();
  const faults: MeshError[] = [];
  using _following = followCrlFile(file, lists, (error) => faults.push(error), { quiet: 10, retry: 20 });
  await sleep(100);
  t.match(faults.splice(0), [{ message: /CRL_PATH .*no such file/u }], 'which is told once');
  t.equal(faults.length, 0);
  const list = toPem('X509 CRL', revoking(ca, bad.chain));
  mkdirSync(folder);
  writeFileSync(file, list);
  await settle(() => !lists.empty);
  t.ok(lists.refusal(chainOf(bad.chain)));

  rmSync(folder, { recursive: true });
  await settle(() => faults.length > 0);
  t.match(faults, [{ message: /no such file/u }]);
  t.ok(lists.refusal(chainOf(bad.chain)), 'what was known still holds');
  mkdirSync(folder);
  writeFileSync(file, '');
  await settle(() => lists.empty);
  t.ok(lists.empty);
  writeFileSync(file, list);
  await settle(() => !lists.empty);
  t.notOk(lists.empty, 'and its changes are seen again');
});

// Each change put the reading off by the time of quiet, for as long as something else wrote there: a log, another agent's file.
t.test('a file in a folder that never becomes quiet is read all the same', async (t) => {
  const folder = t.testdir({ 'crl.pem': '' });
  const lists = new Revocations();
  using _following = followCrlFile(path.join(folder, 'crl.pem'), lists, () => undefined, { quiet: 200, longest: 400 });
  writeFileSync(path.join(folder, 'crl.pem'), revoking(ca, bad.chain));
  let reads = 0;
  lists.onChange(() => reads++);
  for (let i = 0; i < 60; i++) {
    writeFileSync(path.join(folder, 'log'), `${i}`);
    await sleep(20);
  }
  t.ok(lists.refusal(chainOf(bad.chain)));
  t.ok(reads >= 1 && reads <= 4, `read ${reads} times in 1.2 s`);
});
