import t from 'tap';
import { parseSpiffeId, spiffeId } from '#shared/ids.ts';

t.test('a SPIFFE ID has exactly trust domain, namespace and service account', async (t) => {
  const id = spiffeId({ trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });
  t.equal(id, 'spiffe://cluster.local/ns/shop/sa/web');
  t.same(parseSpiffeId(id), { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' });
  for (const bad of [
    'spiffe://cluster.local/ns/shop',
    `${id}/x`,
    'https://cluster.local/ns/a/sa/b',
    'spiffe:///ns/a/sa/b',
    'spiffe://td/ns//sa/b',
  ]) {
    t.equal(parseSpiffeId(bad), undefined, bad);
  }
});
