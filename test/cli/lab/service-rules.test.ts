import { spawnSync } from 'node:child_process';
import t from 'tap';
import type { Pod, Service } from '#shared/kube/kinds.ts';
import { serviceRules } from '../../../cli/lab/service-rules.ts';

const service = (name: string, spec: object): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec,
});
const pod = (name: string, ip: string | undefined, ready: boolean, namespace = 'shop'): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, labels: { app: 'web' } },
  spec: { containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8080 }] }] },
  status: { ...(ip !== undefined && { podIP: ip }), conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
});

const web = service('web', { clusterIP: '10.96.1.0', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] });

t.test('a service with one ready pod goes there', async (t) => {
  t.match(serviceRules([web], [pod('a', '10.244.1.2', true)]), 'ip daddr 10.96.1.0 tcp dport 80 dnat to 10.244.1.2:8080\n');
});

t.test('several pods are chosen at random; unready, addressless and foreign ones never', async (t) => {
  const pods = [
    pod('a', '10.244.1.2', true),
    pod('b', '10.244.2.2', true),
    pod('c', '10.244.2.3', false),
    pod('d', undefined, true),
    pod('e', '10.244.2.5', true, 'other'),
  ];
  const rules = serviceRules([web], pods);
  t.match(rules, 'dnat to numgen random mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.2.2 . 8080 }');
  t.notMatch(rules, /10\.244\.2\.3|10\.244\.2\.5/u);
  t.match(rules, 'ip saddr . ip daddr { 10.244.1.2 . 10.244.1.2, 10.244.2.2 . 10.244.2.2');
});

t.test('headless services, services without an address and other protocols have no rule', async (t) => {
  const none = [
    service('headless', { clusterIP: 'None', selector: { app: 'web' }, ports: [{ port: 80 }] }),
    service('new', { selector: { app: 'web' }, ports: [{ port: 80 }] }),
    service('sctp', { clusterIP: '10.96.1.1', selector: { app: 'web' }, ports: [{ port: 80, protocol: 'SCTP' }] }),
  ];
  t.equal(serviceRules(none, [pod('a', '10.244.1.2', true)]), serviceRules([], []));
});

t.test('nft takes the text, also in place of an older one', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const text = serviceRules([web], [pod('a', '10.244.1.2', true), pod('b', '10.244.2.2', true)]);
  for (const rules of [text, `${text}${serviceRules([], [])}${text}`]) {
    const loaded = spawnSync('unshare', ['--net', 'nft', '-f', '-'], { input: rules, encoding: 'utf8' });
    t.equal(loaded.status, 0, loaded.stderr);
  }
});
