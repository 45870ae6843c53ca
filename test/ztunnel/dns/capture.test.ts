// From an application's resolver library to the answer: a pod with the rules of the CNI agent, a ztunnel with data workers, UDP and TCP.
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { applyPodRules } from '../../../cni/rules/apply.ts';
import { DEFAULT_POD_RULES } from '../../../cni/rules/pod.ts';
import { aService, aWorkload } from '../../fixtures/mesh.ts';
import { addresses, askTcp, askUdp, nameServer } from '../../harness/dns.ts';
import { MeshLab } from '../../harness/mesh-lab.ts';

const run = promisify(execFile);
const NAME_SERVER = '10.1.0.53';
const web = aWorkload('web', { ips: ['10.1.0.1', 'fd00::1'] });

for (const threads of ['1', 'main'])
  t.test(`a captured pod asks by name (${threads})`, async (t) => {
    const lab = new MeshLab(t);
    const node = await lab.node('node-1', { ZTUNNEL_WORKER_THREADS: threads });
    const services = { db: { 5432: 5432 } };
    await lab.apply(
      web,
      aService('api', { vips: ['10.96.0.5', 'fd00:96::5'] }),
      aService('ext', { hostname: 'www.example.com', vips: ['240.240.0.1'] }),
      aService('db', { vips: [] }),
      aWorkload('db-0', { ips: ['10.1.0.7'], services }),
    );
    const pod = await lab.captured(web);
    await applyPodRules(pod.netns.fd, { ...DEFAULT_POD_RULES, dnsCapture: true });
    const dns = lab.net.pod('dns', NAME_SERVER);
    const upstream = await nameServer(t, dns.netns.fd, NAME_SERVER, ({ name, type }) =>
      type === 'A' && name === 'out.test' ? { answers: [{ type: 'A', name, ttl: 5, data: '192.0.2.7' }] } : { flags: 3 },
    );
    const etc = join('/etc/netns', pod.netns.name);
    await mkdir(etc, { recursive: true });
    t.teardown(() => rm(etc, { recursive: true }));
    const search = 'shop.svc.cluster.local svc.cluster.local cluster.local';
    await writeFile(join(etc, 'resolv.conf'), `search ${search}\nnameserver ${NAME_SERVER}\noptions ndots:5\n`);
    const lookUp = async (name: string, database = 'ahosts'): Promise<string[]> => {
      const { stdout } = await run('ip', ['netns', 'exec', pod.netns.name, 'getent', database, name], { timeout: 60_000 });
      return [
        ...new Set(
          stdout
            .trim()
            .split('\n')
            .map((line) => line.split(/\s+/u)[0] ?? ''),
        ),
      ].toSorted();
    };

    t.same(await lookUp('api'), ['10.96.0.5', 'fd00:96::5']);
    t.same(await lookUp('api.shop', 'ahostsv4'), ['10.96.0.5']);
    t.same(await lookUp('www.example.com', 'ahostsv4'), ['240.240.0.1']);
    t.same(await lookUp('db', 'ahostsv4'), ['10.1.0.7']);
    t.same(await lookUp('db-0.db', 'ahostsv4'), ['10.1.0.7']);
    t.same(upstream.asked, [], 'the name server was not needed');
    t.same(await lookUp('out.test', 'ahostsv4'), ['192.0.2.7'], 'asked by the name server that the pod itself has');
    t.ok(upstream.asked.includes('udp out.test A'));
    await t.rejects(lookUp('nobody.test'));

    const to = { ip: NAME_SERVER, port: 53 };
    t.same(addresses(await askUdp(pod.netns.fd, to, { name: 'api', type: 'A' })), ['10.96.0.5']);
    t.same((await askTcp(pod.netns.fd, to, [{ name: 'api', type: 'AAAA' }])).map(addresses), [['fd00:96::5']]);
    const to6 = { ip: 'fd00::53', port: 53 };
    t.same(addresses(await askUdp(pod.netns.fd, to6, { name: 'api', type: 'A' })), ['10.96.0.5']);
    t.same((await askTcp(pod.netns.fd, to6, [{ name: 'api', type: 'A' }])).map(addresses), [['10.96.0.5']]);
    t.ok((await node.metric('istio_dns_requests_total', 'request_protocol="tcp"')) >= 2);
    t.ok((await node.metric('istio_dns_upstream_requests_total')) >= 1);
    t.equal(await node.metric('istio_dns_upstream_failures_total'), 0);
  });

t.test('DNS_CAPTURE=false leaves the port to others', async (t) => {
  const lab = new MeshLab(t);
  await lab.node('node-1', { ISTIO_META_DNS_CAPTURE: 'False' });
  await lab.apply(web);
  const pod = await lab.captured(web);
  await t.rejects(askTcp(pod.netns.fd, { ip: '127.0.0.1', port: 15_053 }, [{ name: 'web', type: 'A' }]), {
    code: 'ECONNREFUSED',
  });
});

t.test('a port of its own', async (t) => {
  const lab = new MeshLab(t);
  const env = { ISTIO_META_DNS_PROXY_ADDR: '127.0.0.1:15353', PREFERED_SERVICE_NAMESPACE: 'b' };
  const node = await lab.node('node-1', env);
  const host = { hostname: 'www.example.com' };
  await lab.apply(
    web,
    aService('x', { ...host, namespace: 'a' }),
    aService('x', { ...host, namespace: 'b', vips: ['10.96.0.2'] }),
  );
  const pod = await lab.captured(web);
  const to = { ip: '127.0.0.1', port: 15_353 };
  t.same(addresses(await askUdp(pod.netns.fd, to, { name: 'www.example.com', type: 'A' })), ['10.96.0.2']);
  t.notOk(node.app.readiness.pending.includes('dns proxy'));
});
