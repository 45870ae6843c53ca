// A file of revocation lists as it is replaced in production: nobody writes into it, its name comes to mean another file.
import { X509Certificate } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { followCrlFile } from '#shared/tls/crl-file.ts';
import { Revocations } from '#shared/tls/revocation.ts';
import { revoking } from '../../harness/crl.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import { createTestCa } from '../../harness/test-ca.ts';

const ca = createTestCa();
const [first, second] = [ca.issue('spiffe://cluster.local/ns/a/sa/first'), ca.issue('spiffe://cluster.local/ns/a/sa/second')];
const chainOf = (pem: string): Buffer[] => [new X509Certificate(pem).raw, new X509Certificate(ca.root).raw];

/** Follows the file, which revokes the first; `replace` makes it revoke the second. Twice, as a watch may be lost with what it watched. */
async function follows(t: Test, file: string, replace: (list: Uint8Array) => void): Promise<void> {
  const lists = new Revocations();
  const faults: string[] = [];
  using _following = followCrlFile(file, lists, ({ message }) => faults.push(message), { quiet: 10 });
  const revoked = (pem: string): boolean => lists.refusal(chainOf(pem)) !== undefined;
  t.ok(revoked(first.chain));
  for (const [now, before] of [
    [second, first],
    [first, second],
  ] as const) {
    replace(revoking(ca, now.chain));
    await eventually('the list that is there now', () => revoked(now.chain) || undefined);
    t.notOk(revoked(before.chain));
  }
  t.strictSame(faults, []);
}

t.test('a kubelet swaps the folder that a volume’s files lead to', async (t) => {
  const volume = t.testdir({ version0: { 'crl.pem': revoking(ca, first.chain) } });
  symlinkSync('version0', join(volume, '..data'));
  symlinkSync(join('..data', 'crl.pem'), join(volume, 'crl.pem'));
  let version = 0;
  await follows(t, join(volume, 'crl.pem'), (list) => {
    const old = `version${version++}`;
    mkdirSync(join(volume, `version${version}`));
    writeFileSync(join(volume, `version${version}`, 'crl.pem'), list);
    symlinkSync(`version${version}`, join(volume, '..data_tmp'));
    renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
    rmSync(join(volume, old), { recursive: true });
  });
});

t.test('a new file is renamed over the old one', async (t) => {
  const folder = t.testdir({ 'crl.pem': revoking(ca, first.chain) });
  await follows(t, join(folder, 'crl.pem'), (list) => {
    writeFileSync(join(folder, 'new'), list);
    renameSync(join(folder, 'new'), join(folder, 'crl.pem'));
  });
});
