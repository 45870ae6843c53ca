// The DNS proxy in a pod's network namespace: questions over UDP and TCP on both loopback addresses, answered from the mesh or by the name
// servers that the pod has.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { systemClock } from '#shared/clock.ts';
import { Logging } from '#shared/telemetry/log.ts';
import { Metrics } from '#shared/telemetry/metrics.ts';
import { DnsProxy } from '../../../ztunnel/dns/dns-proxy.ts';
import { MeshStore } from '../../../ztunnel/state/store.ts';
import type { Service, Workload } from '../../../ztunnel/state/model.ts';
import { aService, aWorkload, changeOf } from '../../fixtures/mesh.ts';
import { addresses, askTcp, askUdp, DNS_PROXY, nameServer } from '../../harness/dns.ts';
import { createPodNet } from '../../harness/pod-net.ts';

const web = aWorkload('web', { ips: ['10.1.0.1'] });
const V6_PROXY = { ip: '::1', port: 15053 };
const TO_EXAMPLE = { answers: [{ type: 'A' as const, name: 'www.example.com', ttl: 60, data: '192.0.2.7' }] };

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
  return { net, pod, netns: pod.netns.fd, store, metrics, lines, served };
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
  const upstream = await nameServer(t, net.pod('dns', '10.1.0.53').netns.fd, '10.1.0.53', () => TO_EXAMPLE);
  const udp = await askUdp(netns, DNS_PROXY, { name: 'www.example.com', type: 'A' });
  t.same(addresses(udp), ['192.0.2.7']);
  t.equal(udp.id, 4711);
  t.equal(udp.flag_aa, false);
  const [tcp] = await askTcp(netns, DNS_PROXY, [{ name: 'www.example.com', type: 'A' }]);
  t.same(tcp && addresses(tcp), ['192.0.2.7']);
  t.same(upstream.asked, ['udp www.example.com A', 'tcp www.example.com A']);
});
