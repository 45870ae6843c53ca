// A running pod joins the mesh and leaves it: nothing is captured that nobody serves, and nothing ends that is open.
import t from 'tap';
import type { Test } from 'tap';
import { FakeZtunnel } from '../fake-ztunnel.ts';
import { makeNetns } from '../netns.ts';
import type { Netns } from '../netns.ts';
import { eventually, TestNode } from '../node.ts';
import { connect, makeReactor, serve } from '../talk.ts';
import type { Client } from '../talk.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const ADD = 'add uid-cart shop/cart sa';
const ADDRESS = '10.99.0.5';
const probed = async (node: TestNode): Promise<boolean> =>
  (await node.netns.run('nft', 'list', 'set', 'inet', 'culvert_probes', 'pods4')).includes(ADDRESS);
const rulesOf = (netns: Netns): Promise<string> => netns.run('nft', 'list', 'ruleset');

async function runningPod(t: Test, env: Record<string, string> = {}): Promise<{ node: TestNode; pod: Netns }> {
  const node = new TestNode(t);
  node.namespace('shop');
  node.pod('shop', 'cart');
  await node.start(env);
  const pod = makeNetns(t);
  const prevResult = { cniVersion: '1.0.0', interfaces: [], ips: [{ address: `${ADDRESS}/24` }] };
  t.match(await node.plugin('ADD', { pod: 'cart', netns: pod.path, conf: { prevResult } }), { code: 0 });
  return { node, pod };
}

/** Like one of the ztunnel's in the pod. */
async function openConnection(t: Test, pod: Netns): Promise<Client> {
  const reactor = makeReactor(t);
  await serve(reactor, 'app', pod.fd, 8080);
  const client = await connect(reactor, pod.fd, { ip: '127.0.0.1', port: 8080 }, { mark: 0x539 });
  t.match(await client.ask(), /^app/u);
  return client;
}

async function enrolled(node: TestNode): Promise<void> {
  node.namespace('shop', AMBIENT);
  await eventually('enrolled', () => node.redirection('shop', 'cart') === 'enabled');
}

async function left(node: TestNode): Promise<void> {
  node.namespace('shop');
  await eventually('left', () => node.redirection('shop', 'cart') === undefined);
}

t.test('it is captured when a ztunnel serves it, and not before', async (t) => {
  const { node, pod } = await runningPod(t);
  const slow = await FakeZtunnel.connect(t, node.zdsPath);
  await slow.until('snapshot');
  slow.refuse.set('uid-cart', 'silent');
  node.namespace('shop', AMBIENT);
  await slow.until(ADD);
  t.notMatch(await rulesOf(pod), /redirect/u, 'asked, and not answered yet');
  const next = await FakeZtunnel.connect(t, node.zdsPath);
  await next.until('snapshot');
  t.same(next.heard.slice(0, 2), [ADD, 'snapshot'], 'a ztunnel that comes meanwhile hears of it');
  await eventually('enrolled', () => node.redirection('shop', 'cart') === 'enabled');
  t.match(await rulesOf(pod), /15001/u);
});

t.test('when it leaves, what is open goes on to its end', async (t) => {
  const { node, pod } = await runningPod(t);
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  await enrolled(node);
  const client = await openConnection(t, pod);
  await left(node);
  const leaving = async (): Promise<string | undefined> =>
    /^culvert_leaving_pods (\d+)$/mu.exec(await node.page(15_014, '/metrics'))?.[1];
  t.equal(await leaving(), '1');
  const rules = await rulesOf(pod);
  t.notMatch(rules, /redirect/u, 'nothing new is captured');
  t.match(rules, /type nat hook output[^}]*\}/u, 'what was is still translated');
  t.match(rules, /ct mark/u, 'and answered');
  t.notOk(await probed(node), 'kubelet probes come as they came before');
  t.ok(ztunnel.serving.has('uid-cart'));
  const next = await FakeZtunnel.connect(t, node.zdsPath);
  await next.until('snapshot');
  t.same(next.heard, [ADD, 'snapshot'], 'a ztunnel that comes then serves it too');

  await enrolled(node);
  t.match(await rulesOf(pod), /redirect/u, 'it may come back');
  t.ok(await probed(node), 'and its probes pass the ztunnel by again');
  await left(node);
  t.match(await client.ask(), /^app/u);
  client.close();
  await eventually('nothing is left', async () => (await rulesOf(pod)) === '', 15_000);
  await ztunnel.until('del uid-cart');
  t.equal(ztunnel.heard.filter((line) => line.startsWith('del')).length, 1);
  await eventually('none leaves any more', async () => (await leaving()) === '0');
});

t.test('an agent that comes meanwhile goes on with it; a connection has its time', async (t) => {
  const { node, pod } = await runningPod(t);
  await FakeZtunnel.connect(t, node.zdsPath);
  await enrolled(node);
  await openConnection(t, pod);
  await left(node);
  await node.stop('SIGKILL');
  await node.start({ LEAVE_TIMEOUT: '1s' });
  t.match(await rulesOf(pod), /ct mark/u);
  await eventually('nothing is left', async () => (await rulesOf(pod)) === '', 15_000);
  t.equal(node.redirection('shop', 'cart'), undefined);
});

t.test('a pod that goes while it leaves is forgotten at once', async (t) => {
  const { node, pod } = await runningPod(t);
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  await enrolled(node);
  await openConnection(t, pod);
  await left(node);
  t.match(await node.plugin('DEL', { pod: 'cart', netns: pod.path }), { code: 0, stdout: '' });
  t.notOk(ztunnel.serving.has('uid-cart'));
});
