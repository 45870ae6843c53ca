import t from 'tap';
import type { Pod } from '#shared/kube/kinds.ts';
import type { Service } from '#shared/kube/kinds.ts';
import { labId, planLab, podNetns } from '../../../cli/lab/plan.ts';
import { schedule } from '../../../cli/lab/scheduler.ts';
import { ServiceAddresses } from '../../../cli/lab/service-addresses.ts';

t.test('names and addresses follow from the run directory', async (t) => {
  const plan = planLab('/run/culvert', ['node-1', 'blue']);
  t.match(plan, {
    id: /^[0-9a-f]{4}$/u,
    nodes: [
      { name: 'node-1', address: '172.30.0.11', podCidr: '10.244.1.0/24', gateway: '10.244.1.1' },
      {
        name: 'blue',
        netns: `culvert-${plan.id}-blue`,
        address: '172.30.0.12',
        podCidr: '10.244.2.0/24',
        dir: '/run/culvert/nodes/blue',
      },
    ],
  });
  t.not(labId('/run/other'), plan.id);
  t.not(podNetns(plan.id), podNetns(plan.id), 'a sandbox never has the name of one before it');
  t.throws(() => planLab('/r', []), /from 1 to/u);
});

t.test('scheduling: by name, by selector, else the emptiest node', async (t) => {
  const pod = (spec: object): Pod => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'n' },
    spec: { containers: [], ...spec },
  });
  const node = (name: string, pods: number, unschedulable = false) => ({ name, pods, unschedulable, labels: { zone: name } });
  const nodes = [node('a', 2), node('b', 1), node('c', 0, true)];
  t.equal(schedule(pod({}), nodes), 'b');
  t.equal(schedule(pod({ nodeName: 'c' }), nodes), 'c');
  t.equal(schedule(pod({ nodeSelector: { zone: 'a' } }), nodes), 'a');
  t.throws(() => schedule(pod({ nodeName: 'd' }), nodes), /no node d; nodes are a, b, c/u);
  t.throws(() => schedule(pod({ nodeSelector: { zone: 'c' } }), nodes), /no node has the labels/u);
});

t.test('service addresses: kept while the service lives, never given twice', async (t) => {
  const service = (name: string, spec: object): Service => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'n' },
    spec,
  });
  const addresses = new ServiceAddresses();
  const fixed = service('fixed', { clusterIP: '10.96.1.0' });
  const first = addresses.update([
    fixed,
    service('a', {}),
    service('none', { clusterIP: 'None' }),
    service('ext', { type: 'ExternalName' }),
  ]);
  t.same(first, [['Service/n/a', '10.96.1.1']]);
  t.same(addresses.update([fixed, service('a', { clusterIP: '10.96.1.1' })]), [], 'its own overlay is no news');
  t.same(addresses.update([fixed, service('b', {})]), [
    ['Service/n/a', undefined],
    ['Service/n/b', '10.96.1.2'],
  ]);
});
