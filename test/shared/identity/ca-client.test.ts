import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { readResponse } from '#shared/identity/ca-client.ts';
import { spiffeId } from '#shared/ids.ts';
import { createTestCa } from '../../harness/test-ca.ts';
import { createPrivateKey } from 'node:crypto';

const identity = spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: 'web' });
const ca = createTestCa();

t.test('an answer of the CA is taken only when it is what was asked for', async (t) => {
  const issued = ca.issue(identity);
  const request = { csr: '', privateKey: createPrivateKey(issued.key) };
  const good = readResponse(identity, request, [issued.chain, ca.root]);
  t.same(good, { ...issued, roots: ca.root });

  const other = ca.issue(spiffeId({ trustDomain: 'td', namespace: 'ns', serviceAccount: 'other' }));
  t.throws(() => readResponse(identity, request, []), /holds no root/u);
  t.throws(() => readResponse(identity, request, [issued.chain]), /holds no root/u);
  t.throws(() => readResponse(identity, request, [issued.chain, 'nonsense']), /holds no root/u);
  t.throws(() => readResponse(identity, request, [other.chain, ca.root]), /did not find expected SAN .*web, got .*other/u);
  const two = ca.issue(identity, { extraUris: ['spiffe://td/ns/ns/sa/admin'] });
  t.throws(() => readResponse(identity, request, [two.chain, ca.root]), /did not find expected SAN/u);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  t.throws(() => readResponse(identity, { csr: '', privateKey }, [issued.chain, ca.root]), /for another key/u);
});

t.test('intermediates follow the leaf; the last element may hold several roots', async (t) => {
  const issued = ca.issue(identity);
  const second = createTestCa('second');
  const request = { csr: '', privateKey: createPrivateKey(issued.key) };
  const got = readResponse(identity, request, [issued.chain, second.root, `${ca.root}\n${second.root}`]);
  t.equal(got.chain, issued.chain + second.root);
  t.equal(got.roots, ca.root + second.root);
});
