// ZDS over a real seqpacket socket, both sides in this process.
import { closeSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { ACK_TIMEOUT } from '../../../cni/agent/zds-session.ts';
import { ZdsServer } from '../../../cni/agent/zds-server.ts';
import type { KeptWorkload, ZdsWorkload } from '../../../cni/agent/zds-server.ts';
import { FakeClock, systemClock } from '../../../shared/clock.ts';
import type { Clock } from '../../../shared/clock.ts';
import type { Version } from '../../../shared/gen/istio/zds/zds_pb.ts';
import { currentNetns, netnsIdentity } from '../../../shared/os/netns.ts';
import { Logging } from '../../../shared/telemetry/log.ts';
import { ack, FakeZtunnel } from '../fake-ztunnel.ts';
import { eventually } from '../node.ts';

interface Served {
  server: ZdsServer;
  path: string;
  snapshot: (ZdsWorkload | KeptWorkload)[];
  refused: Map<string, Error>[];
}

function serve(t: Test, clock: Clock = systemClock): Served {
  const dir = mkdtempSync(path.join(tmpdir(), 'zds-'));
  const snapshot: Served['snapshot'] = [];
  const refused: Served['refused'] = [];
  const log = new Logging({ sink: { write: (line) => t.comment(line.trim()) } }).scope('zds');
  const server = new ZdsServer({
    snapshot: () => [...snapshot],
    onSnapshot: (map) => refused.push(new Map(map)),
    clock,
    log,
  });
  const file = path.join(dir, 'ztunnel.sock');
  server.listen(file);
  t.teardown(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { server, path: file, snapshot, refused };
}

const workload = (uid: string, openNetns = currentNetns): ZdsWorkload => ({
  uid,
  name: `pod-${uid}`,
  namespace: 'shop',
  serviceAccount: 'sa',
  openNetns,
});

t.test('hello, snapshot with and without descriptors, then changes', async (t) => {
  const { server, path, snapshot, refused } = serve(t);
  snapshot.push(
    workload('1'),
    { keep: '2' },
    workload('3', () => openSync('/nowhere', 'r')),
  );
  t.equal(statSync(path).mode & 0o777, 0o600);
  const ztunnel = await FakeZtunnel.connect(t, path);
  await ztunnel.until('snapshot');
  await eventually('snapshot acknowledged', () => refused.length === 1);
  t.same(ztunnel.heard, ['add 1 shop/pod-1 sa', 'keep 2', 'snapshot']);
  t.match(refused[0]?.get('3')?.message, /ENOENT/u, 'a namespace that is gone stops nothing');
  t.equal(server.connected, 1);
  const own = currentNetns();
  t.equal(ztunnel.serving.get('1'), netnsIdentity(own), 'the descriptor arrived');
  closeSync(own);
  await Promise.all([server.add(workload('4')), server.add(workload('5')), server.remove('1')]);
  t.same(ztunnel.heard.slice(3), ['add 4 shop/pod-4 sa', 'add 5 shop/pod-5 sa', 'del 1']);
});

t.test('two ztunnels: ADD to the newest, DEL to both', async (t) => {
  const { server, path } = serve(t);
  await t.rejects(server.add(workload('1')), { message: 'no ztunnel is connected to the CNI agent of this node' });
  await t.resolves(server.remove('1'), 'nobody serves it');
  const old = await FakeZtunnel.connect(t, path);
  await old.until('snapshot');
  const young = await FakeZtunnel.connect(t, path);
  await young.until('snapshot');
  await server.add(workload('1'));
  await server.remove('1');
  t.same(old.heard, ['snapshot', 'del 1']);
  t.same(young.heard, ['snapshot', 'add 1 shop/pod-1 sa', 'del 1']);
  young.conn.close();
  await eventually('one left', () => server.connected === 1);
  await server.add(workload('2'));
  t.equal(old.heard.at(-1), 'add 2 shop/pod-2 sa');
});

t.test('a refusal is told in its own words and the connection lives on', async (t) => {
  const { server, path, snapshot, refused } = serve(t);
  snapshot.push(workload('1'));
  const connecting = FakeZtunnel.connect(t, path);
  const ztunnel = await connecting;
  ztunnel.refuse.set('1', 'failure to start proxy : no');
  ztunnel.refuse.set('2', 'failure to start proxy : taken');
  await ztunnel.until('snapshot');
  await eventually('snapshot acknowledged', () => refused.length === 1);
  t.match(refused[0]?.get('1')?.message, 'ztunnel refused add: failure to start proxy : no');
  await t.rejects(server.add(workload('2')), { message: 'ztunnel refused add: failure to start proxy : taken' });
  await t.resolves(server.add(workload('3')));
});

t.test('a ztunnel that does not answer in time is left', async (t) => {
  const clock = new FakeClock();
  const { server, path } = serve(t, clock);
  const ztunnel = await FakeZtunnel.connect(t, path);
  await ztunnel.until('snapshot');
  ztunnel.refuse.set('1', 'silent');
  const added = t.rejects(server.add(workload('1')), { message: /did not answer add within/u });
  const waiting = t.rejects(server.add(workload('2')), { message: /did not answer add within/u }, 'those behind it fail with it');
  await ztunnel.until('add 1 shop/pod-1 sa');
  clock.advance(ACK_TIMEOUT);
  await added;
  await waiting;
  await ztunnel.until(() => ztunnel.ended);
  t.equal(server.connected, 0);
});

t.test('protocol faults end the connection', async (t) => {
  const { server, path } = serve(t);
  const wrong = await FakeZtunnel.connect(t, path, 7 as Version);
  await wrong.until(() => wrong.ended);
  const eager = await FakeZtunnel.connect(t, path);
  await eager.until('snapshot');
  await eventually('connected', () => server.connected === 1);
  await eager.conn.send(ack(''));
  await eager.until(() => eager.ended);
  await eventually('gone', () => server.connected === 0);
});

t.test('a ztunnel that goes away is noticed', async (t) => {
  const { server, path } = serve(t);
  const ztunnel = await FakeZtunnel.connect(t, path);
  await ztunnel.until('snapshot');
  ztunnel.refuse.set('1', 'silent');
  const added = t.rejects(server.add(workload('1')), { message: /closed its connection before it answered add/u });
  await ztunnel.until('add 1 shop/pod-1 sa');
  ztunnel.conn.close();
  await added;
  await eventually('gone', () => server.connected === 0);
});
