// The registry of known pods: its file, its namespaces, which sandbox a DEL means.
import { closeSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { PodRegistry } from '../../../cni/agent/pods.ts';
import type { KnownPod } from '../../../cni/agent/pods.ts';
import { makeNetns } from '../netns.ts';

const dir = mkdtempSync(path.join(tmpdir(), 'pods-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const aPod = (more: Partial<KnownPod> = {}): KnownPod => ({
  uid: 'u1',
  name: 'cart',
  namespace: 'shop',
  serviceAccount: 'sa',
  netnsPath: '/run/netns/x',
  netnsId: '4:1',
  containerId: 'c1',
  ips: ['10.0.0.1'],
  enrolled: false,
  idle: false,
  ...more,
});

t.test('what one agent writes the next one reads', async (t) => {
  const file = path.join(dir, 'a.json');
  const registry = new PodRegistry(file);
  t.same(registry.list(), []);
  registry.put(aPod());
  registry.put(aPod({ uid: 'u2', name: 'web' }));
  registry.put(aPod({ enrolled: true }));
  registry.forget('u2');
  t.same(new PodRegistry(file).list(), [aPod({ enrolled: true })]);
  t.equal(statSync(file).mode & 0o777, 0o600);
});

t.test('a file that is not ours stops the start and is left as it is', async (t) => {
  const file = path.join(dir, 'b.json');
  for (const text of ['{', '[]', '{"pods":[{"uid":1}]}']) {
    writeFileSync(file, text);
    t.throws(() => new PodRegistry(file), { code: 'invalid_config', message: /b\.json: .*move it away/u }, text);
    t.equal(readFileSync(file, 'utf8'), text);
  }
});

t.test('a namespace is known by device and inode, not by its path', async (t) => {
  const registry = new PodRegistry(path.join(dir, 'c.json'));
  const netns = makeNetns(t);
  const pod = aPod({ netnsPath: netns.path, netnsId: registry.identify(netns.path) });
  closeSync(registry.open(pod));
  t.ok(registry.isAlive(pod));
  t.throws(() => registry.open({ ...pod, netnsId: '4:1' }), {
    code: 'not_found',
    message: /no longer the network namespace of pod shop/u,
  });
  t.notOk(registry.isAlive({ ...pod, netnsPath: '/run/netns/nowhere' }));
  t.throws(() => registry.identify('/run/netns/nowhere'), { code: 'not_found' });
});

t.test('which sandbox is meant', async (t) => {
  const registry = new PodRegistry(path.join(dir, 'd.json'));
  registry.put(aPod());
  const ref = { podName: 'cart', podNamespace: 'shop' };
  const finds = (more: object): boolean => registry.find({ ...ref, ...more }) !== undefined;
  t.ok(finds({}));
  t.ok(finds({ podUid: 'u1', containerId: 'c1', netns: '' }), 'a late DEL has no namespace');
  t.notOk(finds({ podUid: 'u0' }), 'a pod of the same name before this one');
  t.notOk(finds({ containerId: 'c0', netns: '/run/netns/x' }), 'an older sandbox of the pod');
  t.notOk(finds({ netns: '/run/netns/y' }));
  t.notOk(finds({ podNamespace: 'other' }));
});
