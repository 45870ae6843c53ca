import t from 'tap';
import { candidatesOf, wildcardsOf } from '../../../ztunnel/dns/names.ts';

const NAMING = { clusterDomain: 'cluster.local', namespace: 'shop', search: [] };

function names(asked: string, search: readonly string[] = []): string[] {
  return Array.from(candidatesOf(asked, { ...NAMING, search })).map(({ name, stripped }) =>
    stripped === undefined ? name : `${stripped}: ${name}`,
  );
}

t.test('short names stand for Services and their pods', async (t) => {
  t.same(names('api'), ['api', 'api.shop.svc.cluster.local']);
  t.same(names('api.bank'), ['api.bank', 'api.bank.svc.cluster.local', 'api.bank.shop.svc.cluster.local']);
  t.same(names('api.bank.svc'), ['api.bank.svc', 'api.bank.svc.cluster.local', 'api.bank.svc.svc.cluster.local']);
  t.same(names('api.bank.shop'), ['api.bank.shop', 'api.bank.shop.svc.cluster.local']);
  t.same(names('db-0.db.bank.svc'), ['db-0.db.bank.svc', 'db-0.db.bank.svc.cluster.local']);
  t.same(names('a.b.c.d'), ['a.b.c.d']);
  t.same(names('a.b.c.d.svc'), ['a.b.c.d.svc']);
  t.same(names(''), [''], 'the root is nobody');
});

t.test('search domains of the cluster are taken off', async (t) => {
  t.same(names('www.example.com.shop.svc.cluster.local'), [
    'www.example.com.shop.svc.cluster.local',
    'www.example.com: www.example.com',
    'www.example.com: www.example.com.svc.cluster.local',
    'www.example.com.shop: www.example.com.shop',
    'www.example.com.shop.svc: www.example.com.shop.svc',
  ]);
  t.ok(names('api.cluster.local').includes('api: api.shop.svc.cluster.local'));
  t.same(names('cluster.local').slice(0, 1), ['cluster.local']);
});

t.test("the pod's other search domains are taken off names that are more than a host of theirs", async (t) => {
  t.same(names('www.example.com.corp.test', ['corp.test']), ['www.example.com.corp.test', 'www.example.com: www.example.com']);
  t.same(names('api.corp.test', ['corp.test']), ['api.corp.test', 'api.corp.test.svc.cluster.local']);
});

t.test('wildcards, the closest first', async (t) => {
  t.same(wildcardsOf('a.b.c'), ['*.b.c', '*.c']);
  t.same(wildcardsOf('a'), []);
});
