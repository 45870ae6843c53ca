// Joining and leaving that is cut short: by a label that is taken back, an agent that dies, a ztunnel that is not there or refuses.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { FakeZtunnel } from '../fake-ztunnel.ts';
import { makeNetns } from '../netns.ts';
import type { Netns } from '../netns.ts';
import { eventually, TestNode } from '../node.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const ADD = 'add uid-cart shop/cart sa';
/** Longer than what an agent writes takes to come back to it. */
const SLOW = { LEAVE_MINIMUM: '3s' };

class RunningPod {
  readonly node: TestNode;
  readonly netns: Netns;

  constructor(t: Test) {
    this.node = new TestNode(t);
    this.netns = makeNetns(t);
  }

  async start(env: Record<string, string> = SLOW): Promise<this> {
    this.label(false);
    this.node.pod('shop', 'cart');
    await this.node.start(env);
    const prevResult = { cniVersion: '1.0.0', interfaces: [], ips: [{ address: '10.99.0.5/24' }] };
    await this.node.plugin('ADD', { pod: 'cart', netns: this.netns.path, conf: { prevResult } });
    return this;
  }

  label(on: boolean): void {
    this.node.namespace('shop', on ? AMBIENT : {});
  }

  annotated(value: string | undefined): Promise<void> {
    return eventually(`${value}`, () => this.node.redirection('shop', 'cart') === value);
  }

  rules(): Promise<string> {
    return this.netns.run('nft', 'list', 'ruleset');
  }

  nothingLeft(): Promise<void> {
    return eventually('nothing of the mesh in the pod', async () => (await this.rules()) === '');
  }
}

t.test('a pod that waited for a ztunnel in vain has nothing of the mesh when the label goes', async (t) => {
  const pod = await new RunningPod(t).start();
  pod.label(true);
  await pod.annotated('pending');
  pod.label(false);
  await pod.annotated(undefined);
  await sleep(300);
  t.equal(await pod.rules(), '');
  t.match(await pod.node.page(15_014, '/metrics'), /^culvert_leaving_pods 0$/mu);
});

t.test(
  'a captured pod stays so under a new agent, whatever its ztunnel says, and what is asked of its rules is done',
  async (t) => {
    const pod = await new RunningPod(t).start();
    const first = await FakeZtunnel.connect(t, pod.node.zdsPath);
    pod.label(true);
    await pod.annotated('enabled');
    await pod.node.stop('SIGKILL');
    await first.until(() => first.ended);
    pod.node.write('Namespace', '', 'shop', undefined);
    await pod.node.start(SLOW);
    const second = await FakeZtunnel.connect(t, pod.node.zdsPath);
    await second.until('snapshot');
    second.refuse.set('uid-cart', 'no room');
    pod.node.pod('shop', 'cart', { annotations: { 'ambient.istio.io/bypass-inbound-capture': 'true' } });
    pod.label(true);
    await eventually('the annotation is followed', async () => !(await pod.rules()).includes('15006'));
    for (let look = 0; look < 20; look++) t.match(await pod.rules(), /15001/u);
    t.equal(pod.node.redirection('shop', 'cart'), 'enabled');
  },
);

t.test('a pod that left, and came back without a ztunnel, is not captured by a new agent', async (t) => {
  const pod = await new RunningPod(t).start({ LEAVE_MINIMUM: '60s' });
  const ztunnel = await FakeZtunnel.connect(t, pod.node.zdsPath);
  pod.label(true);
  await pod.annotated('enabled');
  pod.label(false);
  await pod.annotated(undefined);
  ztunnel.conn.close();
  await ztunnel.until(() => ztunnel.ended);
  pod.label(true);
  await pod.annotated('pending');
  t.notMatch(await pod.rules(), /redirect/u);
  await pod.node.stop('SIGKILL');
  await pod.node.start({ LEAVE_MINIMUM: '60s' });
  t.notMatch(await pod.rules(), /redirect/u);
  await FakeZtunnel.connect(t, pod.node.zdsPath);
  await pod.annotated('enabled');
  t.match(await pod.rules(), /redirect/u);
});

t.test('an agent that dies while a pod joins leaves to the next one what it has to clean up', async (t) => {
  const pod = await new RunningPod(t).start();
  const ztunnel = await FakeZtunnel.connect(t, pod.node.zdsPath);
  await ztunnel.until('snapshot');
  ztunnel.refuse.set('uid-cart', 'silent');
  pod.label(true);
  await ztunnel.until(ADD);
  await pod.node.stop('SIGKILL');
  t.match(await pod.rules(), /inet culvert/u);
  pod.label(false);
  await pod.node.start(SLOW);
  await pod.nothingLeft();
  await eventually('no route either', async () => !(await pod.netns.run('ip', 'rule')).includes('0x111'));
});

t.test('a list of pods as agents before this one wrote it is read', async (t) => {
  const pod = await new RunningPod(t).start();
  const ztunnel = await FakeZtunnel.connect(t, pod.node.zdsPath);
  pod.label(true);
  await pod.annotated('enabled');
  await pod.node.stop('SIGKILL');
  await ztunnel.until(() => ztunnel.ended);
  const file = path.join(pod.node.runDir, 'pods.json');
  const before = JSON.parse(readFileSync(file, 'utf8')) as { pods: { idle?: boolean }[] };
  for (const known of before.pods) delete known.idle;
  writeFileSync(file, JSON.stringify(before));
  pod.label(false);
  await pod.node.start(SLOW);
  await pod.annotated(undefined);
  const next = await FakeZtunnel.connect(t, pod.node.zdsPath);
  await next.until('snapshot');
  t.same(next.heard, [ADD, 'snapshot'], 'it is served until what is open has ended');
  await pod.nothingLeft();
});
