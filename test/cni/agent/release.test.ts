// The time of a pod that left is over, and connections still wait for an answer through its ztunnel: they must hear of their end.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Dataplane } from '../../../cni/agent/dataplane.ts';
import { PodRegistry } from '../../../cni/agent/pods.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod.ts';
import { systemClock } from '../../../shared/clock.ts';
import { netnsIdentity } from '../../../shared/os/netns.ts';
import type { CloseReason, Conn } from '../../../shared/reactor/api.ts';
import { Logging } from '../../../shared/telemetry/log.ts';
import { join, makeNetns } from '../netns.ts';
import { askOnce, makeReactor, serve } from '../talk.ts';

const MARK = 0x539;
const ADDRESSES = [
  [
    { ip: '10.99.0.1', port: 8080 },
    { ip: '10.99.0.2', port: 8080 },
  ],
  [
    { ip: 'fd99::1', port: 8080 },
    { ip: 'fd99::2', port: 8080 },
  ],
] as const;

t.test('who waits for an answer is told', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'release-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [pod, peer] = [makeNetns(t), makeNetns(t)];
  await join(pod, peer);
  const reactor = makeReactor(t);
  for (const [name, { fd }] of Object.entries({ app: pod, peer })) await serve(reactor, name, fd, 8080);
  /** Connections that the ztunnel has taken and does not answer. */
  const held: Conn[] = [];
  for (const port of [15_001, 15_006])
    await reactor.listen({ netns: pod.fd, address: { ip: '::', port }, mark: MARK }, (conn) => {
      conn.start({ onData: () => undefined, onEnd: () => conn.end(), onDrain: () => undefined, onClose: () => undefined });
      held.push(conn);
    });
  const direct: string[] = [];
  const remove = async (): Promise<void> => {
    for (const [at, other] of ADDRESSES) direct.push(await askOnce(reactor, pod.fd, other), await askOnce(reactor, peer.fd, at));
    for (const conn of held) conn.reset();
  };
  const dataplane = new Dataplane({
    registry: new PodRegistry(path.join(dir, 'pods.json')),
    zds: { requireZtunnel: () => undefined, add: async () => undefined, remove },
    probes: { set: async () => undefined, remove: async () => undefined },
    leave: { minimum: 0, timeout: 0 },
    clock: systemClock,
    log: new Logging({ sink: { write: () => undefined } }).scope('cni'),
  });
  const known = {
    uid: 'u1',
    name: 'cart',
    namespace: 'shop',
    serviceAccount: 'sa',
    netnsPath: pod.path,
    netnsId: netnsIdentity(pod.fd),
    containerId: 'c1',
    ips: ['10.99.0.1', 'fd99::1'],
    enrolled: false,
    idle: false,
  };
  await dataplane.enrol(known, DEFAULT_POD_RULES);
  const waiting = async (netns: number, to: { ip: string; port: number }): Promise<CloseReason | 'nothing'> => {
    const conn = await reactor.connect({ netns, to, timeout: 2000 });
    const end = Promise.withResolvers<CloseReason | 'nothing'>();
    conn.start({ onData: () => undefined, onEnd: () => undefined, onDrain: () => undefined, onClose: end.resolve });
    setTimeout(() => end.resolve('nothing'), 4000).unref();
    return end.promise;
  };
  const ends = ADDRESSES.flatMap(([at, other]) => [waiting(pod.fd, other), waiting(peer.fd, at)]);
  for (const end = Date.now() + 4000; held.length < ends.length && Date.now() < end;)
    await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(held.length, 4, 'out and in, IPv4 and IPv6');

  t.type(await dataplane.leave(known, DEFAULT_POD_RULES), 'number', 'what is on its way gets time to arrive');
  t.equal(await dataplane.leave(known, DEFAULT_POD_RULES), undefined);
  for (const end of await Promise.all(ends)) t.match(end, { kind: 'reset' });
  t.same(
    direct.map((answer) => answer.split(' ')[0]),
    ['peer', 'app', 'peer', 'app'],
    'before the ztunnel is told nothing new comes to it',
  );
  t.equal(await pod.run('nft', 'list', 'ruleset'), '');
});
