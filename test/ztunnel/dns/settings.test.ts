// resolv.conf: what is read of it, whose is read, and how long replies are kept.
import { spawn } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { encode } from 'dns-packet';
import t from 'tap';
import { FakeClock, systemClock } from '#shared/clock.ts';
import { netnsIdentity } from '#shared/os/netns.ts';
import { PodProcesses } from '../../../ztunnel/dns/pod-processes.ts';
import { PodSettings } from '../../../ztunnel/dns/pod-settings.ts';
import { ReplyCache } from '../../../ztunnel/dns/reply-cache.ts';
import { lifetimeOf } from '../../../ztunnel/dns/records.ts';
import { parseResolvConf } from '../../../ztunnel/dns/resolv-conf.ts';
import { createNetns } from '../../harness/netns.ts';
import { eventually } from '../../harness/mesh-lab.ts';

t.test('resolv.conf', async (t) => {
  const text = `# made by somebody
nameserver 10.96.0.10 ; the cluster's
nameserver fd00:0::a
nameserver nonsense
nameserver 10.96.0.10
search shop.svc.cluster.local SVC.cluster.local. cluster.local
options ndots:5 timeout:2 attempts:3 edns0
`;
  t.same(parseResolvConf(text), {
    nameservers: ['10.96.0.10', 'fd00::a'],
    search: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
    timeout: 2000,
    attempts: 3,
  });
  t.same(parseResolvConf('domain corp.test\n'), { nameservers: [], search: ['corp.test'], timeout: 5000, attempts: 2 });
  t.match(parseResolvConf('options timeout:0 attempts:99\n'), { timeout: 1000, attempts: 5 });
  t.equal(parseResolvConf([1, 2, 3, 4].map((n) => `nameserver 10.0.0.${n}\n`).join('')).nameservers.length, 3);
});

t.test("a pod's own resolv.conf is found by its processes", async (t) => {
  const netns = createNetns(t, 'own-conf');
  // What `ip netns exec` puts in the place of /etc/resolv.conf, in a mount namespace of its own.
  const etc = join('/etc/netns', netns.name);
  await mkdir(etc, { recursive: true });
  t.teardown(() => rm(etc, { recursive: true }));
  await writeFile(join(etc, 'resolv.conf'), 'nameserver 127.0.0.1\nnameserver 10.1.0.53\nsearch corp.test\n');
  const app = spawn('ip', ['netns', 'exec', netns.name, 'sleep', '60'], { stdio: 'ignore' });
  t.teardown(() => app.kill());
  await once(app, 'spawn');
  const fallback = join(t.testdir(), 'resolv.conf');
  await writeFile(fallback, 'nameserver 10.9.9.9\n');
  const netnsId = netnsIdentity(netns.fd);
  await eventually('the pod to have its process', async () => {
    const clock = new FakeClock();
    const settings = new PodSettings({ netnsId, processes: new PodProcesses(clock), fallback, clock });
    const { nameservers, search } = await settings.current();
    return nameservers.join() === '10.1.0.53' && search.join() === 'corp.test' ? true : undefined;
  });
  await writeFile(join(etc, 'resolv.conf'), 'nameserver 127.0.0.1\nsearch corp.test\n');
  const of = (id: string | undefined): Promise<object> =>
    new PodSettings({ netnsId: id, processes: new PodProcesses(systemClock), fallback, clock: systemClock }).current();
  t.match(await of(netnsId), { nameservers: ['10.9.9.9'], search: ['corp.test'] }, 'never a loopback address of the pod');
  const early = new PodSettings({
    netnsId,
    processes: new PodProcesses(systemClock),
    fallback: join(etc, 'resolv.conf'),
    clock: systemClock,
  });
  t.match(await early.current(), { nameservers: [], search: [] }, "the file that we have ourselves is nobody else's");
  t.match(await of('0:0'), { nameservers: ['10.9.9.9'], search: [] }, 'no process is seen');
});

t.test('settings are read again, and waited for once', async (t) => {
  const clock = new FakeClock();
  const fallback = join(t.testdir(), 'resolv.conf');
  const settings = new PodSettings({ netnsId: undefined, processes: new PodProcesses(clock), fallback, clock });
  t.same((await settings.current()).nameservers, [], 'no file');
  await writeFile(fallback, 'nameserver 127.0.0.53\n');
  t.same((await settings.current()).nameservers, []);
  clock.advance(10_001);
  await eventually('the new file', async () => ((await settings.current()).nameservers[0] === '127.0.0.53' ? true : undefined));
});

t.test('how long a reply holds', async (t) => {
  const reply = (ttl: number, flags = 0): Buffer =>
    encode({
      type: 'response',
      flags,
      questions: [{ name: 'a.test', type: 'A' }],
      answers: [{ name: 'a.test', type: 'A', ttl, data: '1.2.3.4' }],
    });
  t.equal(lifetimeOf(reply(20)), 20);
  t.equal(lifetimeOf(reply(86_400)), 300);
  t.equal(lifetimeOf(reply(20, 2)), 0, 'SERVFAIL');
  t.equal(lifetimeOf(reply(20, 1 << 9)), 0, 'truncated');
  const none = { type: 'response' as const, questions: [{ name: 'a.test', type: 'A' }] };
  t.equal(lifetimeOf(encode(none)), 0, 'nothing says for how long there is nothing');
  const soa = { type: 'SOA' as const, name: 'test', ttl: 60, data: { mname: 'a.test', rname: 'b.test', serial: 1, minimum: 7 } };
  t.equal(lifetimeOf(encode({ ...none, flags: 3, authorities: [soa] })), 7);
});

t.test('kept replies grow older, and give way', async (t) => {
  const cache = new ReplyCache();
  const reply = encode({
    type: 'response',
    questions: [{ name: 'a', type: 'A' }],
    answers: [{ name: 'a', type: 'A', ttl: 20, data: '1.2.3.4' }],
  });
  const ttl = (message: Buffer | undefined): number | undefined => message?.readUInt32BE(message.length - 10);
  cache.put('a', reply, 1000);
  t.equal(ttl(cache.get('a', 1000)), 20);
  t.equal(ttl(cache.get('a', 6500)), 15);
  t.equal(cache.get('a', 21_000), undefined);
  t.equal(cache.get('a', 1000), undefined, 'and is gone');
  for (let i = 0; i < 8200; i++) cache.put(`k${i}`, reply, 0);
  t.equal(cache.get('k0', 0), undefined);
  t.ok(cache.get('k8199', 0));
  const big = encode({
    type: 'response',
    questions: [{ name: 'a', type: 'A' }],
    answers: Array.from({ length: 3000 }, () => ({ name: 'a', type: 'A' as const, ttl: 20, data: '1.2.3.4' })),
  });
  for (let i = 0; i < 200; i++) cache.put(`big${i}`, big, 0);
  t.equal(cache.get('big0', 0), undefined, 'bytes are bounded too');
});
