import t from 'tap';
import { spiffeId } from '#shared/ids.ts';
import { TrustDomains } from '#shared/identity/trust-domains.ts';

const of = (trustDomain: string) => spiffeId({ trustDomain, namespace: 'ns', serviceAccount: 'sa' });

t.test('an identity is known in every domain of the mesh, and one of others in its own alone', async (t) => {
  const trust = new TrustDomains('new', ['old', 'new']);
  t.strictSame(trust.alike('old'), ['new', 'old']);
  t.strictSame(trust.alike('elsewhere'), ['elsewhere']);
  t.strictSame(trust.spellings(of('old')), [of('new'), of('old')]);
  t.strictSame(trust.spellings(of('elsewhere')), [of('elsewhere')]);
  t.strictSame(trust.spellingsOf([of('new'), of('elsewhere')]), [of('new'), of('old'), of('elsewhere')]);
});

t.test('without aliases nothing is made', async (t) => {
  const list = [of('new')];
  t.equal(new TrustDomains('new', []).spellingsOf(list), list);
});
