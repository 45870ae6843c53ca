import t from 'tap';
import type { SpiffeId } from '#shared/ids.ts';
import { uriSans, verifyServer, verifyTrustDomain } from '#shared/tls/verify.ts';

const A = 'spiffe://cluster.local/ns/a/sa/a' as SpiffeId;
const B = 'spiffe://cluster.local/ns/b/sa/b' as SpiffeId;

t.test('a server is known by its whole identity', async (t) => {
  verifyServer([B, A])({ uris: [A], serial: '1' });
  t.throws(() => verifyServer([A])({ uris: [B], serial: '1' }), {
    code: 'identity_mismatch',
    message: `identity verification error: peer did not present the expected SAN (${A}), got ${B}`,
  });
  t.throws(() => verifyServer([])({ uris: [B], serial: '1' }), { code: 'identity_mismatch' });
  t.throws(() => verifyServer([A])({ uris: [`${A}x`], serial: '1' }), { code: 'identity_mismatch' });
  t.throws(() => verifyServer([A])({ uris: [], serial: '1' }), { message: /got no URI SAN/u });
});

t.test('a client is known by its trust domain', async (t) => {
  verifyTrustDomain(['other', 'cluster.local'])({ uris: [A], serial: '1' });
  t.throws(() => verifyTrustDomain(['cluster.loca'])({ uris: [A], serial: '1' }), {
    message: `identity verification error: peer did not present the expected trustdomain (cluster.loca), got ${A}`,
  });
  t.throws(() => verifyTrustDomain([''])({ uris: ['https://cluster.local/'], serial: '1' }), { code: 'identity_mismatch' });
});

t.test('URI SANs are read as Node writes them', async (t) => {
  t.strictSame(uriSans(`URI:${A}`), [A]);
  t.strictSame(uriSans(`DNS:a.b, URI:${A}, IP Address:1.2.3.4, URI:${B}`), [A, B]);
  t.strictSame(
    uriSans('URI:"spiffe://a, URI:b", DNS:"URI:c"'),
    ['spiffe://a, URI:b'],
    'a quoted value cannot smuggle another entry in',
  );
  t.strictSame(uriSans(undefined), []);
});
