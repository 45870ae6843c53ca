// Starts that cannot succeed: named, and exit 1.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { loadConfig } from '../../../cni/agent/config.ts';
import { parseSandbox } from '../../../cni/agent/event-server.ts';
import { makeNetns } from '../netns.ts';

const root = path.resolve(import.meta.dirname, '../../..');
const dir = mkdtempSync(path.join(tmpdir(), 'start-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const env = {
  NODE_NAME: 'node-1',
  CNI_AGENT_RUN_DIR: path.join(dir, 'run'),
  ZTUNNEL_UDS_ADDRESS: path.join(dir, 'ztunnel.sock'),
  OBJECT_DIRS: dir,
  STATUS_DIR: dir,
};

function start(netns: string, more: Record<string, string>, wrapper: string[] = []): { status: number | null; output: string } {
  const node = path.join(root, 'node_modules', '.bin', 'node');
  const command = [...wrapper, node, path.join(root, 'cni/agent/main.ts')];
  const result = spawnSync('nsenter', [`--net=${netns}`, '--', ...command], {
    env: { PATH: process.env['PATH'] ?? '', ...more },
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { status: result.status, output: result.stdout + result.stderr };
}

t.test('faults of the environment, all at once', async (t) => {
  const { path: netns } = makeNetns(t);
  const { status, output } = start(netns, { READY_PORT: 'x', HOST_PROBE_SNAT_IP: 'fd00::1' });
  t.equal(status, 1);
  for (const text of [
    'NODE_NAME is not set',
    'OBJECT_DIRS is not set',
    'READY_PORT="x"',
    'HOST_PROBE_SNAT_IP="fd00::1": not an IPv4 address',
  ])
    t.match(output, text);
});

t.test('a missing right', async (t) => {
  const { path: netns } = makeNetns(t);
  const admin = start(netns, env, ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin']);
  t.equal(admin.status, 1);
  t.match(admin.output, /CAP_NET_ADMIN/u);
  const system = start(netns, env, ['setpriv', '--bounding-set', '-sys_admin', '--inh-caps', '-sys_admin']);
  t.equal(system.status, 1);
  t.match(system.output, /CAP_SYS_ADMIN/u);
});

/** Two listeners that want one port. */
const TAKEN = { ...env, READY_PORT: '8000', MONITORING_PORT: '8000' };

t.test('a port that is taken', async (t) => {
  const { path: netns } = makeNetns(t);
  const { status, output } = start(netns, TAKEN);
  t.equal(status, 1);
  t.match(output, /cannot listen on .*8000/u);
  t.notMatch(output, /proc.sys/u);
});

t.test('settings of the kernel that cannot be written are told, and the start goes on', async (t) => {
  const { path: netns } = makeNetns(t);
  const readOnly = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
  const { output } = start(netns, TAKEN, ['unshare', '-m', 'sh', '-c', readOnly, 'sh']);
  t.match(output, /\twarn\t.*proc.sys cannot be written \(net.ipv4.tcp_fwmark_accept\)/u);
  t.match(output, /cannot listen on .*8000/u, 'as far as without');
});

t.test('configuration', async (t) => {
  const config = loadConfig(
    (name) => ({ ...env, OBJECT_DIRS: '/a:/b', EXCLUDE_NAMESPACES: 'x, y', AMBIENT_IPV6: 'false' })[name],
  );
  t.match(config, {
    objectDirs: ['/a', '/b'],
    enrolment: { excludeNamespaces: ['x', 'y'], systemNamespace: 'culvert-system' },
    podRules: { ipv6: false, dnsCapture: false, probeIp: '169.254.7.127' },
    hostRules: { ipv6: false, kubeletUid: 0 },
    readyPort: 8000,
    monitoringPort: 15_014,
  });
});

t.test('events of the plugin are checked', async (t) => {
  const event = { Netns: '/run/netns/x', PodName: 'cart', PodNamespace: 'shop', IPs: null };
  t.match(parseSandbox(event), { netns: '/run/netns/x', podName: 'cart', podNamespace: 'shop', podUid: undefined, ips: [] });
  const istio = { IPs: [{ Interface: 0, Address: { IP: '::ffff:10.0.0.5', Mask: '////AA==' }, Gateway: '10.0.0.1' }] };
  t.same(parseSandbox({ ...event, ...istio }).ips, ['10.0.0.5'], "as Istio's plugin sends it");
  const faults: Record<string, unknown>[] = [
    { Netns: 'relative' },
    { Netns: 5 },
    { PodName: '' },
    { PodName: '../etc' },
    { PodNamespace: 'a'.repeat(64) },
    { IPs: 'x' },
    { IPs: [{ Address: { IP: '10.0.0.5/24' } }] },
    { IPs: Array.from({ length: 17 }, () => ({ Address: { IP: '10.0.0.5' } })) },
    { ContainerID: 'c'.repeat(257) },
  ];
  for (const fault of faults)
    t.throws(() => parseSandbox({ ...event, ...fault }), { code: 'bad_request' }, JSON.stringify(fault));
});
