// What is explained is what the data path does: rows of the outbound table, endpoints, verdicts, and the ways to ask.
import t from 'tap';
import { describe } from '../../../cli/commands/explain.ts';
import type { Explanation } from '../../../ztunnel/explain/explain.ts';
import { aMatch, aPolicy, aService, aWorkload } from '../../fixtures/mesh.ts';
import { MeshLab } from '../../harness/mesh-lab.ts';

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const api = aWorkload('api', { node: 'node-1', ips: ['10.1.0.2'], authorizationPolicies: [] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'], services: { cart: { 80: 8080 } } });
const ill = aWorkload('ill', { node: 'node-2', ips: ['10.1.0.4'], services: { cart: { 80: 8080 } }, status: 'Unhealthy' });
const plain = aWorkload('plain', { node: 'node-2', ips: ['10.1.0.5'], protocol: 'TCP' });
const gate = aWorkload('gate', { node: 'node-2', ips: ['10.1.0.6'] });
const way = aService('way', {
  vips: ['10.96.0.2'],
  waypoint: { kind: 'address', network: '', ip: '10.1.0.6', port: 15_008 },
});
const aside = aWorkload('aside', {
  node: 'node-2',
  ips: ['10.1.0.7'],
  applicationTunnel: { protocol: 'PROXY', port: 15_088 },
});
const onto = aWorkload('onto', { node: 'node-2', ips: ['10.1.0.8'], applicationTunnel: { protocol: 'PROXY', port: 9000 } });
const empty = aService('empty', { vips: ['10.96.0.3'] });

t.test('every row, over the admin server', { timeout: 60_000 }, async (t) => {
  const lab = new MeshLab(t);
  const node = await lab.node('node-1');
  const deny = aPolicy('no-9000', { action: 'Deny', matches: [aMatch({ destinationPorts: [9000] })] });
  await lab.apply(web, api, cart, ill, plain, gate, aside, onto, aService('cart'), way, empty, deny);
  await lab.captured(api);
  const get = async (src: string, dst: string): Promise<{ status: number; text: string }> => {
    const query = new URLSearchParams({ src, dst });
    const answer = await fetch(`http://127.0.0.1:${node.app.ports.admin}/explain?${query.toString()}`);
    return { status: answer.status, text: await answer.text() };
  };
  const ask = async (dst: string, src = 'shop/web'): Promise<Explanation> =>
    JSON.parse((await get(src, dst)).text) as Explanation;

  const service = await ask('cart:80');
  t.match(service, {
    source: { workload: 'shop/web', identity: web.identity, node: 'node-1' },
    destination: '10.96.0.1:80',
    service: 'shop/cart.shop.svc.cluster.local',
    rule: 'service',
    nextHop: { kind: 'hbone', address: '10.1.0.3:15008', authority: '10.1.0.3:8080', identities: [cart.identity] },
    policies: { allowed: true },
    endpoints: [
      { workload: 'shop/cart', address: '10.1.0.3:8080', group: 0 },
      { workload: 'shop/ill', reason: 'it is not healthy' },
    ],
  });
  t.strictSame(await ask('10.96.0.1:80', '10.1.0.1'), service, 'by address as by name');
  t.match(describe(service), /IDENTITY EXPECTED {3}spiffe:[^]*shop\/ill +10\.1\.0\.4 +it is not healthy/u);

  t.match(await ask('way:80'), {
    rule: 'waypoint of the service',
    nextHop: { address: '10.1.0.6:15008', workload: 'shop/gate' },
  });
  t.match(await ask('10.1.0.3:9000'), {
    rule: 'workload',
    policies: { allowed: false, reason: 'explicitly denied by: shop/no-9000' },
  });
  t.match(
    await ask('10.1.0.7:9000'),
    { policies: { allowed: true } },
    'the policy of port 9000 is not for a tunnel that ends at another',
  );
  t.match(await ask('10.1.0.7:80'), { policies: { allowed: true } });
  t.match(await ask('10.1.0.8:80'), { policies: { allowed: false, reason: 'explicitly denied by: shop/no-9000' } });
  t.match(await ask('10.1.0.3:15006'), { policies: { allowed: false, reason: 'attempted recursive call to ourselves' } });
  t.match(await ask('10.1.0.2:80'), { rule: 'workload', nextHop: { kind: 'same-node', address: '10.1.0.2:80', identities: [] } });
  t.match(await ask('10.1.0.5:80'), { rule: 'workload', nextHop: { kind: 'plain', address: '10.1.0.5:80', identities: [] } });
  t.match(await ask('192.0.2.1:80'), { rule: 'as it was', nextHop: { kind: 'passthrough', address: '192.0.2.1:80' } });
  const none = await ask('empty:80');
  t.match(none, { rule: 'service', error: { code: 'no_healthy_upstream', responseFlags: 'UH' } });
  t.match(describe(none), /NO WAY +no healthy upstream: 10\.96\.0\.3:80/u);

  t.match(await ask('cart:81'), { why: ['the service has no port 81, but 80'], error: { code: 'no_healthy_upstream' } });
  t.match((await ask('cart:80', 'shop/plain')).why[0], /the source is not enrolled/u);

  t.match(await get('shop/nobody', 'cart:80'), {
    status: 404,
    text: /no workload of the mesh has this address or NAMESPACE\/NAME/u,
  });
  t.match(await get('shop/web', 'elsewhere.example:80'), { status: 404, text: /knows no service of this name/u });
  t.match(await get('shop/web', 'cart'), { status: 400, text: /neither HOST:PORT/u });
  t.match(await get('', 'cart:80'), { status: 400, text: /give src=/u });
});
