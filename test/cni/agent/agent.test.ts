// The real plugin and the real agent in a node's namespace, with a ztunnel of the test's own.
import t from 'tap';
import { FakeZtunnel } from '../fake-ztunnel.ts';
import { makeNetns } from '../netns.ts';
import type { Netns } from '../netns.ts';
import { eventually, TestNode } from '../node.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const rulesOf = (netns: Netns): Promise<string> => netns.run('nft', 'list', 'ruleset');

t.test('a pod of an enrolled namespace: ADD, CHECK, DEL', async (t) => {
  const node = new TestNode(t);
  node.namespace('shop', AMBIENT);
  node.pod('shop', 'cart');
  await node.start();
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  await ztunnel.until('snapshot');
  const pod = makeNetns(t);
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [],
    ips: [{ address: '10.99.0.5/24', gateway: '10.99.0.1' }],
    dns: { x: [1] },
  };
  const add = await node.plugin('ADD', { pod: 'cart', netns: pod.path, conf: { prevResult } });
  t.match(add, { code: 0, stderr: '' });
  t.same(JSON.parse(add.stdout), prevResult, 'the result of the plugins before it, unchanged');
  t.match(ztunnel.heard, ['snapshot', 'add uid-cart shop/cart sa']);
  t.match(await rulesOf(pod), /redirect to :15001/u);
  t.equal(node.redirection('shop', 'cart'), 'enabled');
  t.match(await node.netns.run('nft', 'list', 'set', 'inet', 'culvert_probes', 'pods4'), /10\.99\.0\.5/u);

  t.match(await node.plugin('CHECK', { pod: 'cart', netns: pod.path }), { code: 0, stdout: '' });
  await pod.run('nft', 'flush', 'chain', 'inet', 'culvert', 'capture_in');
  const check = await node.plugin('CHECK', { pod: 'cart', netns: pod.path });
  t.equal(check.code, 1);
  t.match(JSON.parse(check.stdout), { cniVersion: '1.0.0', code: 100, msg: /capture_in: 0 rules/u });

  t.match(await node.plugin('DEL', { pod: 'cart', container: 'c-old', netns: '/gone' }), { code: 0 });
  t.ok(ztunnel.serving.has('uid-cart'), 'a late DEL of an older sandbox changes nothing');
  t.match(await node.plugin('DEL', { pod: 'cart', netns: pod.path }), { code: 0, stdout: '' });
  t.notOk(ztunnel.serving.has('uid-cart'));
  t.equal(node.redirection('shop', 'cart'), undefined);
  t.notMatch(await node.netns.run('nft', 'list', 'set', 'inet', 'culvert_probes', 'pods4'), /10\.99\.0\.5/u);
  t.match(await node.plugin('DEL', { pod: 'cart', netns: '' }), { code: 0 }, 'DEL may come twice');
  t.equal(await node.stop(), 0);
});

t.test('labels: enrolment of a running pod and its end, on namespace and pod', async (t) => {
  const node = new TestNode(t);
  node.namespace('shop');
  node.pod('shop', 'cart');
  await node.start();
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  const pod = makeNetns(t);
  t.match(await node.plugin('ADD', { pod: 'cart', netns: pod.path }), { code: 0 });
  t.equal(await rulesOf(pod), '', 'no label, no rules');

  node.namespace('shop', AMBIENT);
  await eventually('enrolled', () => node.redirection('shop', 'cart') === 'enabled');
  t.match(await rulesOf(pod), /redirect to :15006/u);
  t.equal(ztunnel.heard.at(-1), 'add uid-cart shop/cart sa');

  node.pod('shop', 'cart', { labels: { 'istio.io/dataplane-mode': 'none' } });
  await eventually('left', () => node.redirection('shop', 'cart') === undefined);
  await eventually('nothing is left', async () => (await rulesOf(pod)) === '');
  t.equal(ztunnel.heard.at(-1), 'del uid-cart');

  node.namespace('shop');
  node.pod('shop', 'cart', { labels: AMBIENT, annotations: { 'ambient.istio.io/bypass-inbound-capture': 'true' } });
  await eventually('enrolled by its own label', () => node.redirection('shop', 'cart') === 'enabled');
  t.notMatch(await rulesOf(pod), /15006/u, 'as a gateway');
  node.pod('shop', 'cart', { labels: AMBIENT });
  await eventually('annotation taken back', async () => /15006/u.test(await rulesOf(pod)));
  node.write('Namespace', '', 'shop', undefined);
  node.pod('shop', 'cart');
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.match(await rulesOf(pod), /15006/u, 'a namespace that is not in the list takes nothing away');
  node.namespace('shop');
  await eventually('left', () => node.redirection('shop', 'cart') === undefined);
  await eventually('nothing is left', async () => (await rulesOf(pod)) === '');
});

t.test('without a ztunnel: a new pod is refused, a running one is pending until it comes', async (t) => {
  const node = new TestNode(t);
  node.namespace('shop');
  node.pod('shop', 'cart');
  node.pod('shop', 'late', { labels: AMBIENT });
  await node.start();
  const [pod, late] = [makeNetns(t), makeNetns(t)];
  t.match(await node.plugin('ADD', { pod: 'cart', netns: pod.path }), { code: 0 });
  const refused = await node.plugin('ADD', { pod: 'late', netns: late.path });
  t.equal(refused.code, 1);
  t.match(JSON.parse(refused.stdout), { code: 100, msg: /no ztunnel is connected/u });

  node.namespace('shop', AMBIENT);
  await eventually('pending', () => node.redirection('shop', 'cart') === 'pending');
  t.equal(await rulesOf(pod), '', 'what it does goes on, until a ztunnel serves it');
  t.notMatch(await pod.run('ip', 'rule'), /0x111/u);
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  await eventually('enabled', () => node.redirection('shop', 'cart') === 'enabled');
  t.same(ztunnel.heard.slice(0, 2), ['snapshot', 'add uid-cart shop/cart sa']);
  t.match(await node.plugin('ADD', { pod: 'late', netns: late.path }), { code: 0 }, 'the runtime tries again');

  ztunnel.refuse.set('uid-late', 'failure to start proxy : port taken');
  await node.plugin('DEL', { pod: 'late', netns: late.path });
  const again = await node.plugin('ADD', { pod: 'late', netns: late.path });
  t.match(JSON.parse(again.stdout), { code: 100, msg: /failure to start proxy : port taken/u });
});

t.test('a new agent knows the pods of the old one', async (t) => {
  const node = new TestNode(t);
  node.namespace('shop', AMBIENT);
  node.namespace('plain');
  for (const name of ['cart', 'gone']) node.pod('shop', name);
  node.pod('plain', 'web');
  await node.start();
  const first = await FakeZtunnel.connect(t, node.zdsPath);
  const [cart, gone, web] = [makeNetns(t), makeNetns(t), makeNetns(t)];
  t.match(await node.plugin('ADD', { pod: 'cart', netns: cart.path }), { code: 0 });
  t.match(await node.plugin('ADD', { pod: 'gone', netns: gone.path }), { code: 0 });
  t.match(await node.plugin('ADD', { pod: 'web', namespace: 'plain', netns: web.path }), { code: 0 });
  await node.stop('SIGKILL');
  await first.until(() => first.ended);
  await cart.run('nft', 'flush', 'ruleset');
  // While no agent looks: a pod leaves the list although its sandbox lives, a namespace is labelled.
  node.write('Pod', 'shop', 'gone', undefined);
  node.namespace('plain', AMBIENT);

  await node.start();
  t.match(await rulesOf(cart), /15001/u, 'rules are there before any ztunnel is answered');
  const second = await FakeZtunnel.connect(t, node.zdsPath);
  await second.until('snapshot');
  const snapshot = second.heard.slice(0, second.heard.indexOf('snapshot'));
  for (const name of ['cart', 'gone']) t.ok(snapshot.includes(`add uid-${name} shop/${name} sa`), name);
  await eventually('web is enrolled', () => node.redirection('plain', 'web') === 'enabled');
  t.match(await rulesOf(web), /15001/u);
});

t.test('a second sandbox of a pod whose first one never got its DEL', async (t) => {
  const node = new TestNode(t);
  node.namespace('shop', AMBIENT);
  node.pod('shop', 'cart');
  await node.start();
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  const [first, second] = [makeNetns(t), makeNetns(t)];
  t.match(await node.plugin('ADD', { pod: 'cart', container: 'c1', netns: first.path }), { code: 0 });
  t.match(await node.plugin('ADD', { pod: 'cart', container: 'c2', netns: second.path }), { code: 0 });
  t.match(await rulesOf(second), /15001/u);
  // The same namespace again, emptied: as when the kernel gives a dead namespace's number to a new one.
  await second.run('nft', 'flush', 'ruleset');
  t.match(await node.plugin('ADD', { pod: 'cart', container: 'c3', netns: second.path }), { code: 0 });
  t.match(await rulesOf(second), /15001/u);
  const add = 'add uid-cart shop/cart sa';
  t.same(ztunnel.heard, ['snapshot', add, 'del uid-cart', add, 'del uid-cart', add]);
  t.match(await node.plugin('GC', { conf: { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] } }), { code: 0 });
  t.equal(ztunnel.heard.at(-1), 'del uid-cart');
  t.equal(node.redirection('shop', 'cart'), undefined);
});

t.test('who may pass and who may not', async (t) => {
  const node = new TestNode(t);
  const pod = makeNetns(t);
  node.pod('shop', 'host', { labels: AMBIENT }, { hostNetwork: true });
  const away = await node.plugin('ADD', { pod: 'cart', netns: pod.path });
  t.equal(away.code, 1, 'no agent, no pod');
  t.match(JSON.parse(away.stdout), { code: 11, msg: /CNI agent of this node did not answer/u });
  t.match(await node.plugin('DEL', { pod: 'cart', netns: pod.path }), { code: 0, stderr: /did not answer/u });
  t.match(await node.plugin('STATUS', { conf: { cniVersion: '1.1.0' } }), { code: 1, stdout: /"code":50/u });
  const excluded = { exclude_namespaces: ['kube-system'] };
  t.match(await node.plugin('ADD', { pod: 'dns', namespace: 'kube-system', netns: pod.path, conf: excluded }), { code: 0 });
  t.match(await node.plugin('ADD', { netns: pod.path }), { code: 0 }, 'a container that is no pod');

  await node.start();
  t.match(await node.plugin('STATUS', { conf: { cniVersion: '1.1.0' } }), { code: 0 });
  t.match(await node.plugin('ADD', { pod: 'host', netns: pod.path }), { code: 0 });
  const unknown = await node.plugin('ADD', { pod: 'nobody', netns: pod.path });
  t.match(JSON.parse(unknown.stdout), { code: 100, msg: /shop\/nobody with UID uid-nobody is not among the objects/u });
  t.equal(await node.page(8000, '/readyz'), 'ready\n');
  const metrics = await node.page(15_014, '/metrics');
  t.match(metrics, /istio_cni_plugin_requests_total\{response_code="500"\} 1/u);
  t.match(metrics, /^ztunnel_connected 0$/mu);
  const gc = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [{ containerID: 'other', ifname: 'eth0' }] };
  t.match(await node.plugin('GC', { conf: gc }), { code: 0 });
  t.match(await node.plugin('CHECK', { pod: 'host', netns: pod.path }), { code: 1, stdout: /does not know this sandbox/u });
});
