import t from 'tap';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import { answerQuestion, dnsTable } from '../../../../cli/lab/dns/answer.ts';

const service = (name: string, spec: object): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec,
});
const pod = (name: string, ip: string, ready = true): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', labels: { app: 'web' } },
  spec: { containers: [], hostname: name, subdomain: 'direct' },
  status: { podIP: ip, conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
});

const table = dnsTable(
  [
    service('web', { clusterIP: '10.96.1.0', selector: { app: 'web' } }),
    service('direct', { clusterIP: 'None', selector: { app: 'web' } }),
    service('outside', { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' }),
    service('pending', { selector: { app: 'web' } }),
  ],
  [pod('one', '10.244.1.2'), pod('two', '10.244.2.2'), pod('sick', '10.244.2.9', false)],
);
const ask = (name: string, type = 'A') => {
  const { rcode, answers } = answerQuestion(table, { name, type });
  return [rcode, ...answers.map(({ data }) => data)];
};

t.test('every kind of name', async (t) => {
  t.same(ask('web.shop.svc.cluster.local'), ['NOERROR', '10.96.1.0']);
  t.same(ask('WEB.shop.svc.Cluster.local.'), ['NOERROR', '10.96.1.0'], 'case and the closing dot do not matter');
  t.same(ask('direct.shop.svc.cluster.local'), ['NOERROR', '10.244.1.2', '10.244.2.2'], 'ready pods only');
  t.same(ask('two.direct.shop.svc.cluster.local'), ['NOERROR', '10.244.2.2']);
  t.same(ask('10-244-2-9.shop.pod.cluster.local'), ['NOERROR', '10.244.2.9']);
  t.same(ask('outside.shop.svc.cluster.local'), ['NOERROR', 'web.shop.svc.cluster.local', '10.96.1.0']);
});

t.test('a name that exists has no address of the other family; an unknown one does not exist', async (t) => {
  t.same(ask('web.shop.svc.cluster.local', 'AAAA'), ['NOERROR']);
  for (const name of ['web.shop', 'pending.shop.svc.cluster.local', 'example.com', '']) t.same(ask(name), ['NXDOMAIN'], name);
});
