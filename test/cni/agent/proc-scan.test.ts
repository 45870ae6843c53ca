// Finding the namespace of a pod that runs already: over a /proc of the test's own whose processes are in real namespaces.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { podUidOfCgroup, ProcScanner, startTimeOfStat } from '../../../cni/agent/proc-scan.ts';
import { join, makeNetns } from '../netns.ts';
import { FakeZtunnel } from '../fake-ztunnel.ts';
import { eventually, TestNode } from '../node.ts';

const UID = '2c48913c-b29f-11e7-9350-020968147796';
const PLAIN = UID.replaceAll('-', '');

t.test('pod UIDs in cgroup files', async (t) => {
  const table: [text: string, uid: string | undefined][] = [
    [`0::/kubepods/burstable/pod${UID}/5f1b\n`, PLAIN],
    [
      `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice/cri-containerd-5f1b.scope\n`,
      PLAIN,
    ],
    [`12:pids:/kubepods/pod${PLAIN}/5f1b\n11:cpu:/kubepods/pod${UID}/5f1b\n`, PLAIN],
    [`0::/../../pod${UID}/5f1b`, PLAIN],
    ['0::/system.slice/ssh.service\n', undefined],
    [`0::/kubepods/pod${UID}/x\n1:cpu:/kubepods/pod00000000-b29f-11e7-9350-020968147796/x\n`, undefined],
    ['', undefined],
  ];
  for (const [text, uid] of table) t.equal(podUidOfCgroup(text), uid, text.trim());
});

t.test('start time, whatever the command is called', async (t) => {
  const tail = `S ${Array.from({ length: 18 }, (_, index) => index).join(' ')} 4711 0 0`;
  t.equal(startTimeOfStat(`5 (node) ${tail}`), 4711);
  t.equal(startTimeOfStat(`5 (a) b (c)) ${tail}`), 4711);
});

interface FakeProc {
  root: string;
  process: (pid: number, netns: string, start: number, uid?: string) => void;
}

function fakeProc(t: Test): FakeProc {
  const root = mkdtempSync(path.join(tmpdir(), 'proc-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const process = (pid: number, netns: string, start: number, uid = UID): void => {
    const dir = path.join(root, 'proc', String(pid));
    mkdirSync(path.join(dir, 'ns'), { recursive: true });
    symlinkSync(netns, path.join(dir, 'ns', 'net'));
    writeFileSync(path.join(dir, 'cgroup'), `0::/kubepods/pod${uid}/c${pid}\n`);
    writeFileSync(path.join(dir, 'stat'), `${pid} (app) S ${'0 '.repeat(18)}${start} 0\n`);
  };
  process(1, '/proc/self/ns/net', 0, '');
  mkdirSync(path.join(root, 'proc', 'sys'));
  return { root, process };
}

t.test('the oldest process whose namespace has the address of the pod', async (t) => {
  const { root, process } = fakeProc(t);
  const [pod, other] = [makeNetns(t), makeNetns(t)];
  await join(pod, other);
  process(30, pod.path, 300);
  process(20, pod.path, 200);
  process(10, other.path, 100);
  process(5, '/proc/self/ns/net', 50);
  process(40, other.path, 10, '00000000-b29f-11e7-9350-020968147796');
  const scanner = new ProcScanner(root);
  t.match(await scanner.find(UID, ['10.99.0.1']), { netnsPath: '/proc/20/ns/net', startTime: 200 });
  // A veth counts as running a moment after its other end came up.
  await eventually('link is up', async () => (await scanner.find(UID, ['fd99::2'])) !== undefined);
  t.match(await scanner.find(UID, ['fd99::2']), { netnsPath: '/proc/10/ns/net' }, 'the address decides');
  t.equal(await scanner.find(UID, ['10.99.0.9']), undefined);
  t.equal(await scanner.find('11111111-b29f-11e7-9350-020968147796', ['10.99.0.1']), undefined);
});

t.test('the agent enrols a pod that no plugin told it of, and takes it out again', async (t) => {
  const { root, process } = fakeProc(t);
  const node = new TestNode(t);
  const [pod, peer] = [makeNetns(t), makeNetns(t)];
  await join(pod, peer);
  process(77, pod.path, 1);
  node.namespace('shop');
  node.pod('shop', 'cart', { uid: UID });
  node.write(
    'Pod',
    'shop',
    'cart',
    { status: { phase: 'Running', podIP: '10.99.0.1', podIPs: [{ ip: '10.99.0.1' }] } },
    'status',
  );
  await node.start({ HOST_ROOT: root });
  const ztunnel = await FakeZtunnel.connect(t, node.zdsPath);
  node.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  await ztunnel.until(`add ${UID} shop/cart sa`);
  await eventually('enabled', () => node.redirection('shop', 'cart') === 'enabled');
  t.match(await pod.run('nft', 'list', 'ruleset'), /15001/u);
  node.namespace('shop');
  await eventually('left', () => node.redirection('shop', 'cart') === undefined);
  await eventually('nothing is left', async () => (await pod.run('nft', 'list', 'ruleset')) === '');
});
