// The session with the CNI agent over a real socket; the pods' proxies are stand-ins that tell what was asked of them.
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { tmpdir } from 'node:os';
import t from 'tap';
import type { Test } from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import type { Clock } from '#shared/clock.ts';
import { Readiness } from '#shared/lifecycle/readiness.ts';
import { closeFd } from '#shared/os/netns.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { PodManager } from '../../../ztunnel/inpod/pod-manager.ts';
import { ZdsClient } from '../../../ztunnel/inpod/zds-client.ts';
import { eventually } from '../../harness/mesh-lab.ts';
import type { AgentPod } from '../../harness/zds-agent.ts';
import { ZdsAgent } from '../../harness/zds-agent.ts';

const UTS = '/proc/self/ns/uts';
const NET = '/proc/self/ns/net';

function setUp(t: Test, clock: Clock = systemClock) {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-zds-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'zds.sock');
  const lines: string[] = [];
  const log = new Logging({ sink: { write: (line) => void lines.push(line) } }).scope('inpod');
  const events: string[] = [];
  const broken = new Set<string>();
  const metrics = new Metrics();
  const pods = new PodManager({
    clock,
    log,
    metrics,
    start: async (uid) => {
      if (broken.has(uid)) throw new Error('port taken');
      events.push(`start ${uid}`);
      return { stop: async (deadline) => void events.push(`stop ${uid} ${deadline}`) };
    },
  });
  const readiness = new Readiness();
  const agent = new ZdsAgent(t, path);
  const client = new ZdsClient({ path, pods, readiness, clock, log, metrics });
  void client.run();
  t.teardown(() => client.close());
  const pod = (uid: string, namespace = NET): AgentPod => {
    const netns = openSync(namespace, 'r');
    t.teardown(() => closeFd(netns));
    return { uid, name: uid, namespace: 'shop', serviceAccount: 'default', netns };
  };
  return { pods, readiness, agent, client, events, broken, metrics, pod, lines };
}

t.test('add, the same again, in a new namespace, and del', async (t) => {
  const { agent, events, readiness, pods, pod } = setUp(t);
  t.strictSame(readiness.pending, ['workload proxy manager']);
  await agent.connected();
  t.ok(readiness.ready, 'an empty snapshot is a complete one');
  t.equal(await agent.add(pod('a')), '');
  t.equal(await agent.add(pod('a')), '', 'the same pod again is nothing new');
  t.strictSame(events, ['start a']);
  t.equal(await agent.add(pod('a', UTS)), '');
  t.strictSame(events.splice(0), ['start a', 'stop a 0', 'start a']);
  t.equal(await agent.remove('a'), '');
  t.equal(await agent.remove('a'), '', 'idempotent');
  t.strictSame(events, ['stop a 0']);
  t.strictSame(pods.list(), []);
});

t.test(
  'a session that only says which pods to keep: those stay, others go, and a del before the snapshot counts with it',
  async (t) => {
    const { agent, client, events, pods, pod } = setUp(t);
    await agent.connected();
    for (const uid of ['kept', 'gone', 'deleted']) await agent.add(pod(uid));
    client.close();
    events.length = 0;
    pods.beginSession();
    for (const uid of ['kept', 'deleted', 'never seen']) await pods.handle({ kind: 'keep', uid });
    await pods.handle({ kind: 'del', uid: 'deleted' });
    t.strictSame(events, [], 'nothing ends before the snapshot');
    await pods.handle({ kind: 'snapshot-sent' });
    t.strictSame(events.sort(), ['stop deleted 0', 'stop gone 0']);
    t.strictSame(
      pods.list().map(({ uid }) => uid),
      ['kept'],
      'and keep starts nothing',
    );
  },
);

t.test('a message that is larger than Istio’s ztunnel would read', async (t) => {
  const { agent, pods, pod } = setUp(t);
  await agent.connected();
  const namespace = 'n'.repeat(50_000);
  t.equal(await agent.add({ ...pod('a'), namespace }), '');
  t.equal(pods.list()[0]?.who.namespace, namespace);
  t.equal(await agent.remove('a'), '');
});

t.test('a new session: pods stay up until its snapshot, then those not named go', async (t) => {
  const { agent, events, readiness, pod } = setUp(t);
  await agent.connected();
  await agent.add(pod('stays'));
  await agent.add(pod('goes'));
  events.length = 0;
  agent.pods.delete('goes');
  agent.hangUp();
  await agent.connected();
  await readiness.whenReady();
  t.strictSame(events, ['stop goes 0']);
});

t.test('a pod that cannot be served is refused, kept, tried again, and makes the node unready', async (t) => {
  const clock = new FakeClock();
  const { agent, events, broken, readiness, pods, metrics, pod } = setUp(t, clock);
  await agent.connected();
  broken.add('a');
  t.equal(await agent.add(pod('a')), 'failure to start proxy : port taken');
  t.notOk(readiness.ready);
  t.match(pods.list(), [{ uid: 'a', state: 'Pending' }]);
  t.match((await metrics.render()).body, /workload_manager_pending_proxy_count 1/u);
  clock.advance(5000);
  await new Promise(setImmediate);
  broken.delete('a');
  clock.advance(5000);
  await readiness.whenReady();
  t.strictSame(events, ['start a']);
  t.match((await metrics.render()).body, /culvert_pod_start_retries_total 2/u);
});

t.test('who ended the session: the agent is not blamed for our own end', async (t) => {
  const { agent, client, lines, metrics } = setUp(t);
  const blamed = (): number => lines.filter((line) => line.includes('the CNI agent closed the session')).length;
  await agent.connected();
  agent.hangUp();
  await agent.connected();
  t.equal(blamed(), 1);
  client.close();
  await eventually('the end', async () => (await sessions(metrics)) === 2 || undefined);
  t.equal(blamed(), 1);
});

t.test('an agent that comes and goes is dialled at once, one that always hangs up is waited for', async (t) => {
  const clock = new FakeClock();
  const { agent, metrics } = setUp(t, clock);
  await agent.connected();
  clock.advance(1000);
  agent.hangUp();
  await agent.connected();
  agent.hangUp();
  await eventually('the end of the session', async () => ((await sessions(metrics)) === 2 ? true : undefined));
  const begun = agent.connected().then(() => 'begun');
  t.equal(await Promise.race([begun, setTimeout(50, 'waits')]), 'waits');
  clock.advance(25);
  t.equal(await begun, 'begun');
});

type Act = (agent: ZdsAgent, pod: (uid: string) => AgentPod) => Promise<string>;

const violations: [name: string, act: Act, answer: RegExp][] = [
  [
    'bytes that are no message',
    (agent) => agent.sendRaw(Uint8Array.from([0xff, 0xff, 0xff])),
    /^failure to read message : not a WorkloadRequest/u,
  ],
  [
    'an add without a descriptor',
    (agent) => agent.send({ case: 'add', value: { uid: 'x', workloadInfo: { name: 'x', namespace: 'x', serviceAccount: 'x' } } }),
    /^failure to read message : add x: no network namespace descriptor came with it$/u,
  ],
  [
    'a del with one',
    (agent, pod) => agent.send({ case: 'del', value: { uid: 'x' } }, pod('x').netns),
    /^failure to read message : del message with a descriptor$/u,
  ],
  [
    'a second snapshot',
    (agent) => agent.send({ case: 'snapshotSent', value: {} }),
    /^failure to process message : a second snapshot in one session$/u,
  ],
  [
    'keep after the snapshot',
    (agent) => agent.send({ case: 'keep', value: { uid: 'x' } }),
    /^failure to process message : keep x after the snapshot$/u,
  ],
  [
    'zeros that fill the buffer',
    (agent) => agent.sendRaw(new Uint8Array(65_536)),
    /^failure to read message : not a WorkloadRequest/u,
  ],
];

for (const [name, act, answer] of violations) {
  t.test(`${name}: refused, counted, and the session begins anew`, async (t) => {
    const { agent, events, metrics, readiness, pod } = setUp(t);
    await agent.connected();
    await agent.add(pod('a'));
    const before = await sessions(metrics);
    t.match(await act(agent, pod), answer);
    await eventually('the next session', async () => ((await sessions(metrics)) > before ? true : undefined));
    await readiness.whenReady();
    t.strictSame(events, ['start a'], 'the pod was served all the while');
    t.match((await metrics.render()).body, /culvert_zds_sessions_total\{result="protocol_error"\} 1/u);
  });
}

async function sessions(metrics: Metrics): Promise<number> {
  const { body } = await metrics.render();
  return [...body.matchAll(/^culvert_zds_sessions_total\{.*\} (\d+)/gmu)].reduce((sum, [, value]) => sum + Number(value), 0);
}
