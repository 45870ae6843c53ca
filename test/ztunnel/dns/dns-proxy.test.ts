// The DNS proxy in a pod's network namespace: questions over UDP and TCP on both loopback addresses, answered from the mesh or by the name
// servers that the pod has.
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { Packet } from 'dns-packet';
import { decode, encode } from 'dns-packet';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { closeFd } from '#shared/os/netns.ts';
import { clientTcp } from '#shared/os/socket-factory.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DnsProxy } from '../../../ztunnel/dns/dns-proxy.ts';
import { MAX_OUTSTANDING } from '../../../ztunnel/dns/forward.ts';
import { bindDns } from '../../../ztunnel/dns/server.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import type { Service, Workload } from '../../../ztunnel/state/model.ts';
import { aService, aWorkload, changeOf } from '../../fixtures/mesh.ts';
import { addresses, askTcp, askUdp, DNS_PROXY, exchangeUdp, nameServer, queryOf } from '../../harness/dns.ts';
import { createNetns } from '../../harness/netns.ts';
import { createPodNet } from '../../harness/pod-net.ts';

const web = aWorkload('web', { ips: ['10.1.0.1'] });
const V6_PROXY = { ip: '::1', port: 15053 };

function exampleAt(name: string, data: string, ttl = 60): Partial<Packet> {
  return { answers: [{ type: 'A', name, ttl, data }] };
}

interface StartOptions {
  readonly resolvConf?: string;
  readonly config?: Partial<ConstructorParameters<typeof DnsProxy>[0]['config']>;
  readonly entries?: readonly (Workload | Service)[];
}

async function start(t: Test, { resolvConf = '', config = {}, entries = [web] }: StartOptions = {}) {
  const net = createPodNet(t);
  const pod = net.pod('web', '10.1.0.1', 'fd00::1');
  const store = new MeshStore('node-1');
  store.apply(entries.map(changeOf));
  const metrics = new Metrics();
  const lines: string[] = [];
  const file = join(t.testdir(), 'resolv.conf');
  await writeFile(file, resolvConf);
  const proxy = new DnsProxy({
    config: {
      dnsProxyAddress: { ip: 'localhost', port: 15053 },
      ipv6: true,
      inpodPortReuse: true,
      packetMark: 1337,
      clusterDomain: 'cluster.local',
      preferredServiceNamespace: undefined,
      ...config,
    },
    store,
    metrics,
    logging: new Logging({ format: 'json', level: 'dns=debug', sink: { write: (line: string) => void lines.push(line) } }),
    clock: systemClock,
    resolvConf: file,
  });
  const served = proxy.start(web, pod.netns.fd);
  t.teardown(() => served.stop(0));
  return { net, pod, netns: pod.netns.fd, store, metrics, lines, served, proxy };
}

t.test('services are answered over UDP and TCP, IPv4 and IPv6', async (t) => {
  const { netns } = await start(t, { entries: [web, aService('api', { vips: ['10.96.0.5', 'fd00:96::5'] })] });
  for (const to of [DNS_PROXY, V6_PROXY]) {
    const reply = await askUdp(netns, to, { name: 'api', type: 'A' });
    t.same(addresses(reply), ['10.96.0.5']);
    t.equal(reply.flag_aa, true);
    t.equal(reply.flag_ra, true);
    t.equal(reply.answers?.[0]?.ttl, 30);
    const replies = await askTcp(netns, to, [
      { name: 'api.shop.svc.cluster.local', type: 'A' },
      { name: 'api.shop.svc.cluster.local', type: 'AAAA' },
    ]);
    t.same(replies.map(addresses), [['10.96.0.5'], ['fd00:96::5']]);
  }
});

t.test('other names go to the name servers of the pod, over the same transport', async (t) => {
  const { netns, net } = await start(t, { resolvConf: 'nameserver 10.1.0.53\n' });
  const upstream = await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', ({ name }) =>
    exampleAt(name, '192.0.2.7'),
  );
  const udp = await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' });
  t.same(addresses(udp), ['192.0.2.7']);
  t.equal(udp.id, 4711);
  t.equal(udp.flag_aa, false);
  const [tcp] = await askTcp(netns, DNS_PROXY, [{ name: 'other.example.com', type: 'A' }]);
  t.same(tcp && addresses(tcp), ['192.0.2.7']);
  // Other types are never the mesh's, nor are other classes.
  await askUdp(netns, DNS_PROXY, { name: 'web.shop', type: 'TXT' });
  await askUdp(netns, DNS_PROXY, { name: 'web.shop', type: 'A', class: 'CH' });
  t.same(upstream.asked, ['udp www.example.com A', 'tcp other.example.com A', 'udp web.shop TXT', 'udp web.shop A']);
  // What is known is not asked for again.
  const again = await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }, { id: 99 });
  t.equal(again.id, 99);
  t.same(addresses(again), ['192.0.2.7']);
  t.equal(upstream.asked.length, 4);
});

t.test('a name server of IPv6', async (t) => {
  const { netns, net } = await start(t, { resolvConf: 'nameserver fd00::53\n' });
  await nameServer(t, net.pod('dns', '10.1.0.53', 'fd00::53').netns.fd, 'fd00::53', ({ name }) => exampleAt(name, '192.0.2.7'));
  t.same(addresses(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' })), ['192.0.2.7']);
});

t.test(
  'the next name server is asked when one is silent, refuses, or is not there; the rest of their answers is kept',
  async (t) => {
    const resolvConf = 'nameserver 10.1.0.51\nnameserver 10.1.0.52\nnameserver 10.1.0.53\noptions timeout:3\n';
    const { netns, net } = await start(t, { resolvConf });
    const first = await nameServer(t, net.pod('dns1', '10.1.0.51').netns.fd, '10.1.0.51', () => undefined);
    const second = await nameServer(t, net.pod('dns2', '10.1.0.52').netns.fd, '10.1.0.52', () => ({ flags: 2 }));
    const third = net.pod('dns3', '10.1.0.53');
    const all = askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' });
    t.match(await all, { rcode: 'SERVFAIL', id: 4711 }, 'nobody listens at the third');
    await nameServer(t, third.netns.fd, '10.1.0.53', ({ name }) =>
      name === 'no.test' ? { flags: 3 } : exampleAt(name, '192.0.2.7'),
    );
    t.same(addresses(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' })), ['192.0.2.7']);
    const asked = first.asked.length + second.asked.length;
    t.match(await askUdp(netns, DNS_PROXY, { name: 'no.test', type: 'A' }), { rcode: 'NXDOMAIN', flag_aa: false });
    t.equal(first.asked.length + second.asked.length, asked, 'the one that answered is asked first');
  },
);

t.test('no answer in time is SERVFAIL, and counted', async (t) => {
  const { netns, net, metrics, lines } = await start(t, { resolvConf: 'nameserver 10.1.0.53\noptions timeout:1 attempts:2\n' });
  const upstream = await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', () => undefined);
  t.match(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }), { rcode: 'SERVFAIL' });
  t.equal(upstream.asked.length, 2);
  const { body } = await metrics.render();
  const labels = 'request_query_type="a",request_protocol="udp",source_canonical_service="web",source_canonical_revision="v1"';
  t.match(body, `istio_dns_requests_total{${labels}} 1`);
  t.match(body, `istio_dns_upstream_requests_total{${labels}} 1`);
  t.match(body, `istio_dns_upstream_failures_total{${labels}} 1`);
  t.match(body, /istio_dns_upstream_request_duration_seconds_bucket\{le="5",.*\} 1/u);
  t.match(JSON.parse(lines.at(-1) ?? ''), {
    level: 'debug',
    scope: 'dns',
    'src.workload': 'web',
    'src.namespace': 'shop',
    query: 'A',
    domain: 'www.example.com.',
    result: /^forwarding failed \(name server 10\.1\.0\.53:53: no answer within 1000 ms\)/u,
    endpoints: 0,
  });
});

t.test('without a name server', async (t) => {
  const { netns, lines } = await start(t, { resolvConf: 'nameserver 127.0.0.1\n' });
  t.match(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }), { rcode: 'SERVFAIL' });
  t.match(lines.at(-1), /no name server to ask/u);
});

t.test('answers are counted and logged', async (t) => {
  const { netns, metrics, lines } = await start(t, { entries: [web, aService('api', { vips: ['10.96.0.5', '10.96.0.6'] })] });
  await askTcp(netns, DNS_PROXY, [{ name: 'api', type: 'A' }]);
  t.match(JSON.parse(lines.at(-1) ?? ''), { domain: 'api.', query: 'A', result: 'success', endpoints: 2 });
  await askUdp(netns, DNS_PROXY, { name: 'api', type: 'AAAA' });
  t.match(JSON.parse(lines.at(-1) ?? ''), { query: 'AAAA', result: 'no records', endpoints: 0 });
  const { body } = await metrics.render();
  t.match(body, /istio_dns_requests_total\{request_query_type="a",request_protocol="tcp",.*\} 1/u);
  t.match(body, /istio_dns_requests_total\{request_query_type="aaaa",request_protocol="udp",.*\} 1/u);
  t.notMatch(body, 'istio_dns_upstream_requests_total{');
});

t.test('a known name with no address of the family is NOERROR and empty, also without IPv6', async (t) => {
  const entries = [web, aService('api', { vips: ['10.96.0.5', 'fd00:96::5'] })];
  const { netns } = await start(t, { entries, config: { ipv6: false } });
  const reply = await askUdp(netns, DNS_PROXY, { name: 'api', type: 'AAAA' });
  t.match(reply, { rcode: 'NOERROR', flag_aa: true, answers: [] });
  await t.rejects(askTcp(netns, V6_PROXY, [{ name: 'api', type: 'A' }]), 'nobody listens on IPv6');
});

t.test('a namespace without IPv6 is served on IPv4', async (t) => {
  const netns = createNetns(t, 'no-v6');
  netns.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
  const sockets = bindDns({
    netns: netns.fd,
    addresses: [
      { ip: '127.0.0.1', port: 0 },
      { ip: '::1', port: 0 },
    ],
    reusePort: true,
  });
  for (const { fd } of sockets) closeFd(fd);
  t.same(
    sockets.map(({ transport, address }) => `${transport} ${address.ip}`),
    ['udp 127.0.0.1', 'tcp 127.0.0.1'],
  );
});

t.test('a taken port is told', async (t) => {
  const netns = createNetns(t, 'taken');
  const addresses = [{ ip: '127.0.0.1', port: 15_053 }];
  const sockets = bindDns({ netns: netns.fd, addresses, reusePort: false });
  t.teardown(() => sockets.forEach(({ fd }) => closeFd(fd)));
  t.throws(() => bindDns({ netns: netns.fd, addresses, reusePort: false }), {
    message: /bind UDP 127\.0\.0\.1:15053.*EADDRINUSE/u,
  });
});

t.test('a large answer is cut for UDP, whole for TCP', async (t) => {
  const services = { db: { 5432: 5432 } };
  const pods = Array.from({ length: 200 }, (_, i) => aWorkload(`db-${i}`, { ips: [`10.2.0.${i}`], services }));
  const { netns } = await start(t, { entries: [web, aService('db', { vips: [] }), ...pods] });
  const small = await askUdp(netns, DNS_PROXY, { name: 'db', type: 'A' });
  t.equal(small.flag_tc, true);
  const middle = await askUdp(netns, DNS_PROXY, { name: 'db', type: 'A' }, { payload: 1232 });
  t.equal(middle.flag_tc, true);
  t.ok(addresses(middle).length > addresses(small).length);
  const large = await askUdp(netns, DNS_PROXY, { name: 'db', type: 'A' }, { payload: 4096 });
  t.equal(large.flag_tc, false);
  t.equal(addresses(large).length, 200);
  const [tcp] = await askTcp(netns, DNS_PROXY, [{ name: 'db', type: 'A' }]);
  t.equal(tcp && addresses(tcp).length, 200);
});

t.test('a truncated reply of a name server makes the client come by TCP', async (t) => {
  const { netns, net } = await start(t, { resolvConf: 'nameserver 10.1.0.53\n' });
  await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', ({ name }, transport) =>
    transport === 'udp' ? { flags: 1 << 9 } : exampleAt(name, '192.0.2.7'),
  );
  t.match(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }), { flag_tc: true, answers: [] });
  const [tcp] = await askTcp(netns, DNS_PROXY, [{ name: 'www.example.com', type: 'A' }]);
  t.same(tcp && addresses(tcp), ['192.0.2.7']);
});

t.test('many questions over one TCP connection, answered as they come', async (t) => {
  const { netns, net } = await start(t, {
    entries: [web, aService('api')],
    resolvConf: 'nameserver 10.1.0.53\noptions timeout:1 attempts:1\n',
  });
  await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', () => undefined);
  const slow = { name: 'slow.test', type: 'A' };
  const replies = await askTcp(netns, DNS_PROXY, [slow, ...Array.from({ length: 150 }, () => ({ name: 'api', type: 'A' }))]);
  t.equal(replies.filter(({ rcode }) => rcode === 'NOERROR').length, 150);
  t.not(replies[0]?.id, 0, 'the slow one holds nobody up');
});

t.test('a question that comes back is asked once', async (t) => {
  const { netns, net } = await start(t, { resolvConf: 'nameserver 10.1.0.53\noptions timeout:2 attempts:1\n' });
  const server = net.pod('dns', '10.1.0.53').netns.fd;
  // A name server whose own questions are captured: it asks the proxy that asked it.
  const returned: Promise<Packet>[] = [];
  const upstream = await nameServer(t, server, '10.1.0.53', (question) => {
    returned.push(askUdp(netns, DNS_PROXY, question, { id: 1 }));
    return undefined;
  });
  t.match(await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }), { rcode: 'SERVFAIL' });
  t.match(await Promise.all(returned), [{ rcode: 'SERVFAIL' }]);
  t.equal(upstream.asked.length, 1);
});

t.test('equal questions at one time are one', async (t) => {
  const { netns, net } = await start(t, { resolvConf: 'nameserver 10.1.0.53\n' });
  const upstream = await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', ({ name }) =>
    exampleAt(name, '192.0.2.7', 0),
  );
  const ids = [1, 2, 3, 4, 5];
  const replies = await Promise.all(ids.map((id) => askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }, { id })));
  t.same(
    replies.map(({ id }) => id),
    ids,
  );
  t.ok(upstream.asked.length < 5);
});

t.test('a pod that answers in the place of its name server fools nobody but itself', async (t) => {
  const evil = aWorkload('evil', { ips: ['10.1.0.66'] });
  const { netns, net, proxy } = await start(t, { resolvConf: 'nameserver 10.1.0.53\n', entries: [web, evil] });
  await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', ({ name }) => exampleAt(name, '192.0.2.7'));
  const other = net.pod('evil', '10.1.0.66').netns;
  // Not told to the others on the wire.
  other.exec('sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=1');
  other.exec('ip', 'addr', 'add', '10.1.0.53/32', 'dev', 'lo');
  await nameServer(t, other.fd, '10.1.0.53', ({ name }) => exampleAt(name, '192.0.2.66'));
  const served = proxy.start(evil, other.fd);
  t.teardown(() => served.stop(0));
  const question = { name: 'www.example.com', type: 'A' } as const;
  t.same(addresses(await askUdp(other.fd, DNS_PROXY, question)), ['192.0.2.66']);
  t.same(addresses(await askUdp(netns, DNS_PROXY, question)), ['192.0.2.7']);
});

t.test('more questions than may wait are refused at once', async (t) => {
  const { netns, net, lines } = await start(t, { resolvConf: 'nameserver 10.1.0.53\noptions timeout:4 attempts:1\n' });
  await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', () => undefined);
  const asked: Promise<Packet>[] = [];
  while (asked.length < MAX_OUTSTANDING.pod + 10) {
    asked.push(askUdp(netns, DNS_PROXY, { name: `n${asked.length}.test`, type: 'A' }));
    // More at once than fit into the queue of a socket would be lost.
    if (asked.length % 50 === 0) await setTimeout(20);
  }
  t.match(await asked.at(-1), { rcode: 'SERVFAIL' });
  t.match(lines.at(-1), /wait for name servers already/u);
  await Promise.all(asked);
});

t.test('a pod that the control plane does not know gets SERVFAIL, one that arrives in time an answer', async (t) => {
  const { netns, store } = await start(t, { entries: [aService('api', { vips: ['10.96.0.5'] })] });
  t.match(await askUdp(netns, DNS_PROXY, { name: 'api', type: 'A' }), { rcode: 'SERVFAIL' });
  const asked = askUdp(netns, DNS_PROXY, { name: 'api', type: 'A' });
  store.apply([changeOf(web)]);
  t.same(addresses(await asked), ['10.96.0.5']);
});

t.test('hostile bytes cost nobody else an answer', async (t) => {
  const { netns } = await start(t, { entries: [web, aService('api', { vips: ['10.96.0.5'] })] });
  const good = encode(queryOf({ name: 'api', type: 'A' }));
  t.match(decode(await exchangeUdp(netns, DNS_PROXY, opcode(good, 5))), { rcode: 'NOTIMP' });
  t.match(decode(await exchangeUdp(netns, DNS_PROXY, good.subarray(0, 15))), { rcode: 'FORMERR' });
  for (const silent of [Buffer.alloc(0), Buffer.alloc(5), Buffer.alloc(600, 0xff), answerBit(good)])
    await t.rejects(exchangeUdp(netns, DNS_PROXY, silent, 200), { name: 'AbortError' });
  const stream = new Socket({ fd: clientTcp({ netns, to: DNS_PROXY }) });
  t.teardown(() => stream.destroy());
  stream.on('error', () => undefined);
  stream.connect({ host: DNS_PROXY.ip, port: DNS_PROXY.port }, () => stream.write(Buffer.alloc(200_000, 0xff)));
  t.same(addresses(await askUdp(netns, DNS_PROXY, { name: 'api', type: 'A' })), ['10.96.0.5']);
  t.match(await askUdp(netns, DNS_PROXY, { name: 'api', type: 'AXFR' }), { rcode: 'REFUSED' });
});

t.test('a silent TCP client is cut', async (t) => {
  const { netns } = await start(t);
  const client = new Socket({ fd: clientTcp({ netns, to: DNS_PROXY }) });
  client.connect({ host: DNS_PROXY.ip, port: DNS_PROXY.port }).resume();
  await once(client, 'close', { signal: AbortSignal.timeout(20_000) });
});

t.test('stop waits for what is under way, and gives it up at the deadline', async (t) => {
  const { netns, net, served } = await start(t, { resolvConf: 'nameserver 10.1.0.53\noptions timeout:20\n' });
  const { promise, resolve } = Promise.withResolvers<void>();
  await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', () => {
    resolve();
    return undefined;
  });
  const asked = askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' }, {}, 1500).catch(() => 'nothing');
  await promise;
  const began = performance.now();
  await served.stop(300);
  t.ok(performance.now() - began < 10_000);
  t.equal(await asked, 'nothing');
  await t.rejects(askTcp(netns, DNS_PROXY, [{ name: 'web', type: 'A' }]));
});

function opcode(message: Buffer, value: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt8(value << 3, 2);
  return copy;
}

function answerBit(message: Buffer): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt8(0x80, 2);
  return copy;
}
