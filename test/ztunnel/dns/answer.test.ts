// What the mesh answers, as a pure function: one row of the facts (ztunnel 11) per test.
import t from 'tap';
import type { Service, Workload } from '../../../ztunnel/state/model.ts';
import { networkAddress } from '../../../ztunnel/state/model.ts';
import type { AnswerOptions, MeshAnswer } from '../../../ztunnel/dns/answer.ts';
import { answerFromMesh } from '../../../ztunnel/dns/answer.ts';
import { aService, aStore, aWorkload } from '../../fixtures/mesh.ts';

const OPTIONS: AnswerOptions = { clusterDomain: 'cluster.local', ipv6: true, preferredNamespace: undefined, search: [] };
const web = aWorkload('web');

interface Ask {
  readonly entries: readonly (Service | Workload)[];
  readonly name: string;
  readonly family?: 'IPv4' | 'IPv6';
  readonly client?: Workload;
  readonly options?: Partial<AnswerOptions>;
}

function ask({ entries, name, family = 'IPv4', client = web, options = {} }: Ask): MeshAnswer | undefined {
  return answerFromMesh({ name, family }, aStore(...entries), client, { ...OPTIONS, ...options });
}

t.test('a service by each of its names', async (t) => {
  const entries = [aService('api', { vips: ['10.96.0.5'] })];
  for (const name of ['api', 'api.shop', 'api.shop.svc', 'api.shop.svc.cluster.local'])
    t.same(ask({ entries, name }), { host: 'api.shop.svc.cluster.local', addresses: ['10.96.0.5'] }, name);
  t.equal(ask({ entries, name: 'api', client: aWorkload('other', { namespace: 'bank' }) }), undefined);
  t.same(ask({ entries, name: 'api.shop', client: aWorkload('other', { namespace: 'bank' }) })?.addresses, ['10.96.0.5']);
});

t.test('a name that the resolver library has appended a search domain to is answered with its alias', async (t) => {
  const entries = [aService('ext', { hostname: 'www.example.com', vips: ['240.240.0.1'] })];
  for (const domain of ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'])
    t.same(ask({ entries, name: `www.example.com.${domain}` }), {
      host: 'www.example.com',
      alias: 'www.example.com',
      addresses: ['240.240.0.1'],
    });
  t.same(ask({ entries, name: 'www.example.com.corp.test', options: { search: ['corp.test'] } })?.alias, 'www.example.com');
  t.equal(ask({ entries, name: 'www.example.com.corp.test' }), undefined);
});

t.test('wildcards: any depth, the closest one, no alias', async (t) => {
  const entries = [
    aService('wide', { hostname: '*.example.com', vips: ['240.240.0.1'] }),
    aService('near', { hostname: '*.b.example.com', vips: ['240.240.0.2'] }),
    aService('exact', { hostname: 'a.b.example.com', vips: ['240.240.0.3'] }),
  ];
  t.same(ask({ entries, name: 'x.y.example.com' })?.addresses, ['240.240.0.1']);
  t.same(ask({ entries, name: 'x.b.example.com' })?.addresses, ['240.240.0.2']);
  t.same(ask({ entries, name: 'a.b.example.com' })?.addresses, ['240.240.0.3']);
  t.equal(ask({ entries, name: 'example.com' }), undefined);
  t.same(ask({ entries, name: 'x.example.com.cluster.local' }), { host: '*.example.com', addresses: ['240.240.0.1'] });
});

t.test('whose service: own namespace, canonical, preferred, first', async (t) => {
  const at = (namespace: string, vip: string, canonical = false) =>
    aService('ext', { namespace, hostname: 'www.example.com', vips: [vip], canonical });
  const [a, b, own, canonical] = [at('a', '1.0.0.1'), at('b', '1.0.0.2'), at('shop', '1.0.0.3'), at('z', '1.0.0.4', true)];
  const first = (entries: readonly Service[], preferredNamespace = '') =>
    ask({ entries, name: 'www.example.com', options: { preferredNamespace } })?.addresses[0];
  t.equal(first([a, b, canonical, own]), '1.0.0.3');
  t.equal(first([a, b, canonical], 'b'), '1.0.0.4');
  t.equal(first([a, b], 'b'), '1.0.0.2');
  t.equal(first([a, b]), '1.0.0.1');
});

t.test('what is not eligible is left to the name servers', async (t) => {
  const external = aService('ext', { hostname: 'www.example.com', vips: [] });
  t.equal(ask({ entries: [external], name: 'www.example.com' }), undefined, 'no address of its own');
  const cidr = aService('net', {
    hostname: 'net.example.com',
    vips: [],
    cidrVips: [{ network: '', ip: '10.9.0.0', length: 16 }],
  });
  t.equal(ask({ entries: [cidr], name: 'net.example.com' }), undefined, 'a block is no address');
  const hidden = aService('api', { namespace: 'bank', visibility: 'Namespace' });
  t.equal(ask({ entries: [hidden], name: 'api.bank' }), undefined, 'not visible');
  t.ok(ask({ entries: [hidden], name: 'api.bank', client: aWorkload('x', { namespace: 'bank' }) }));
});

t.test("addresses of the client's network and of the asked family", async (t) => {
  const api: Service = {
    ...aService('api'),
    vips: [networkAddress('', '10.96.0.5'), networkAddress('', 'fd00::5'), networkAddress('far', '10.96.0.6')],
  };
  t.same(ask({ entries: [api], name: 'api' })?.addresses, ['10.96.0.5']);
  t.same(ask({ entries: [api], name: 'api', family: 'IPv6' })?.addresses, ['fd00::5']);
  t.same(ask({ entries: [api], name: 'api', client: aWorkload('w', { network: 'far' }) })?.addresses, ['10.96.0.6']);
});

t.test('a known name with no address of the family is known', async (t) => {
  const api = aService('api', { vips: ['10.96.0.5'] });
  t.same(ask({ entries: [api], name: 'api', family: 'IPv6' }), { host: 'api.shop.svc.cluster.local', addresses: [] });
  const dual = aService('dual', { vips: ['10.96.0.5', 'fd00::5'], ipFamilies: 'IPv4' });
  t.same(ask({ entries: [dual], name: 'dual', family: 'IPv6' })?.addresses, [], 'the service does not offer it');
  const both = aService('both', { vips: ['10.96.0.5', 'fd00::5'] });
  t.same(ask({ entries: [both], name: 'both', family: 'IPv6', options: { ipv6: false } })?.addresses, [], 'IPv6 is off');
  const six = aService('six', { vips: ['10.96.0.5', 'fd00::5'], ipFamilies: 'IPv6' });
  t.same(ask({ entries: [six], name: 'six' })?.addresses, []);
  t.same(
    ask({ entries: [api], name: 'api.shop.svc.cluster.local.cluster.local', family: 'IPv6' }),
    {
      host: 'api.shop.svc.cluster.local',
      addresses: [],
    },
    'no alias without addresses',
  );
});

t.test('headless services: one address of each endpoint that can take traffic', async (t) => {
  const services = { db: { 5432: 5432 } };
  const db = aService('db', { vips: [] });
  const entries = [
    db,
    aWorkload('db-0', { ips: ['10.1.0.1', '10.1.0.9', 'fd00::1'], services }),
    aWorkload('db-1', { ips: ['10.1.0.2'], services }),
    aWorkload('db-2', { ips: ['10.1.0.3'], services, status: 'Unhealthy' }),
    aWorkload('db-3', { ips: ['10.1.0.4'], services, network: 'far' }),
  ];
  t.same(ask({ entries, name: 'db' })?.addresses.toSorted(), ['10.1.0.1', '10.1.0.2']);
  t.same(ask({ entries, name: 'db', family: 'IPv6' })?.addresses, ['fd00::1']);
  t.same(ask({ entries: [db], name: 'db' })?.addresses, [], 'known, and empty');
  const all: Service = { ...db, loadBalancing: { mode: 'Standard', preferences: [], health: 'AllowAll' } };
  t.same(ask({ entries: [...entries.slice(1), all], name: 'db' })?.addresses.toSorted(), ['10.1.0.1', '10.1.0.2', '10.1.0.3']);
});

t.test('pods of a headless service by host name', async (t) => {
  const services = { db: { 5432: 5432 } };
  const entries = [
    aService('db', { vips: [] }),
    aService('api'),
    aWorkload('db-0', { ips: ['10.1.0.1', 'fd00::1'], services }),
    aWorkload('db-1', { ips: ['10.1.0.2'], services }),
    aWorkload('api-0', { ips: ['10.1.0.3'], services: { api: { 80: 80 } } }),
  ];
  for (const name of ['db-0.db', 'db-0.db.shop', 'db-0.db.shop.svc', 'db-0.db.shop.svc.cluster.local', '10-1-0-1.db'])
    t.same(ask({ entries, name })?.addresses, ['10.1.0.1'], name);
  t.same(ask({ entries, name: 'db-0.db', family: 'IPv6' })?.addresses, ['fd00::1']);
  t.same(ask({ entries, name: 'db-1.db', family: 'IPv6' })?.addresses, []);
  t.equal(ask({ entries, name: 'db-2.db' }), undefined);
  t.equal(ask({ entries, name: 'api-0.api' }), undefined, 'a service with an address has no names for its pods');
});
