// The two halves of ZDS that a node runs: our agent's server and our ztunnel's client.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { ZdsServer } from '../../../cni/agent/zds-server.ts';
import type { ZdsWorkload } from '../../../cni/agent/zds-server.ts';
import { systemClock } from '../../../shared/clock.ts';
import { Readiness } from '../../../shared/lifecycle/readiness.ts';
import { netnsIdentity, openNetns } from '../../../shared/os/netns.ts';
import { Logging } from '../../../shared/telemetry/log.ts';
import { Metrics } from '../../../shared/telemetry/metrics.ts';
import { PodManager } from '../../../ztunnel/inpod/pod-manager.ts';
import { ZdsClient } from '../../../ztunnel/inpod/zds-client.ts';
import { makeNetns } from '../netns.ts';
import { eventually } from '../node.ts';

t.test('snapshot, ADD, DEL, and a session after the agent was replaced', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'zds-'));
  const socket = path.join(dir, 'ztunnel.sock');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const log = new Logging({ sink: { write: (line) => t.comment(line.trim()) } }).scope('zds');
  const started: string[] = [];
  const stopped: string[] = [];
  const pods = new PodManager({
    start: async (uid, who, netns) => {
      started.push(
        `${uid} ${who.namespace}/${who.name} ${who.serviceAccount} ${netns === undefined ? '' : netnsIdentity(netns)}`,
      );
      return { stop: async () => void stopped.push(uid) };
    },
    clock: systemClock,
    log,
    metrics: new Metrics(),
  });
  const readiness = new Readiness();
  const client = new ZdsClient({ path: socket, pods, readiness, clock: systemClock, log, metrics: new Metrics() });
  const running = client.run();
  t.teardown(async () => {
    client.close();
    await running;
  });

  const netns = makeNetns(t);
  const identity = netnsIdentity(netns.fd);
  const workload = (uid: string): ZdsWorkload => ({
    uid,
    name: `p-${uid}`,
    namespace: 'shop',
    serviceAccount: 'sa',
    openNetns: () => openNetns(netns.path),
  });
  const serve = (snapshot: readonly (ZdsWorkload | { keep: string })[]): ZdsServer => {
    const server = new ZdsServer({ snapshot: () => snapshot, onSnapshot: () => undefined, clock: systemClock, log });
    server.listen(socket);
    t.teardown(() => server.close());
    return server;
  };

  const first = serve([workload('1'), workload('2')]);
  await readiness.whenReady();
  t.same(started, [`1 shop/p-1 sa ${identity}`, `2 shop/p-2 sa ${identity}`]);
  await first.add(workload('3'));
  await first.add(workload('3'));
  t.equal(started.length, 3, 'once more is no news');
  await first.remove('1');
  t.same(stopped, ['1']);
  first.close();
  await eventually('not ready without an agent', () => !readiness.ready);
  serve([workload('2'), { keep: '3' }]);
  await eventually('ready again', () => readiness.ready, 20_000);
  t.equal(started.length, 3, 'what is served goes on being served');
  t.same(stopped, ['1']);
});
