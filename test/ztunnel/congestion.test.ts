// TUNNEL_CONGESTION_CONTROL: by which rule the sockets of tunnels send, as the kernel has them (decision 0025).
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkCongestion } from '#shared/congestion.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { loadConfig } from '../../ztunnel/config.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(60_000);

const available = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8').trim().split(' ');
const skip = ['bbr', 'cubic', 'reno'].every((name) => available.includes(name))
  ? false
  : `the kernel has only ${available.join(', ')}`;
const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });

const ROWS = [
  { setting: undefined, pods: 'bbr', tunnel: 'cubic', why: 'BBR paces by timers' },
  { setting: undefined, pods: 'reno', tunnel: 'reno', why: 'whatever else the operator chose stays' },
  { setting: 'system', pods: 'bbr', tunnel: 'bbr', why: 'left alone' },
  { setting: 'reno', pods: 'bbr', tunnel: 'reno', why: 'asked for' },
] as const;

for (const backend of BACKENDS)
  for (const { setting, pods, tunnel, why } of ROWS)
    t.test(`${backend}: ${setting ?? 'default'} where pods have ${pods}: ${tunnel}, ${why}`, { skip }, async (t) => {
      const lab = new MeshLab(t);
      const env = { CULVERT_BACKEND: backend, ...(setting === undefined ? {} : { TUNNEL_CONGESTION_CONTROL: setting }) };
      for (const node of ['node-1', 'node-2']) await lab.node(node, env);
      await lab.apply(web, cart);
      const [client, server] = [lab.pod(web), lab.pod(cart)];
      const stranger = lab.net.pod('stranger', '10.1.0.9');
      for (const { netns } of [client, server, stranger]) netns.exec('sysctl', '-qw', `net.ipv4.tcp_congestion_control=${pods}`);
      await lab.enrol(web, client);
      await lab.enrol(cart, server);
      for (const pod of [server, stranger]) await pod.serve((socket) => void socket.pipe(socket), 8080);
      for (const to of [server, stranger]) {
        const end = await Endpoint.open(client, { ip: to.ip, port: 8080 });
        end.socket.write('x');
        await end.untilBytes(1);
      }
      t.equal(await congestion(client, ['dst', '10.1.0.3:15008']), tunnel, 'the end that opened the tunnel');
      t.equal(await congestion(server, ['src', '10.1.0.3:15008']), tunnel, 'the end that accepted it');
      t.equal(
        await congestion(client, ['src', '10.1.0.1', 'dst', '10.1.0.9:8080']),
        pods,
        'in the clear to somebody outside of the mesh',
      );
    });

t.test('a name that the kernel does not have', async (t) => {
  const read = (value: string): string => loadConfig((name) => ({ TUNNEL_CONGESTION_CONTROL: value })[name]).congestion;
  t.equal(read(''), 'auto');
  t.equal(read('system'), 'system');
  t.throws(() => read('Not a name'), {
    code: 'invalid_config',
    message: /TUNNEL_CONGESTION_CONTROL="Not a name": not auto, system, or one of/u,
  });
  checkCongestion('auto');
  checkCongestion('system');
  t.throws(() => checkCongestion('vegas2'), {
    code: 'invalid_config',
    message: /^TUNNEL_CONGESTION_CONTROL=vegas2: .*the kernel has: .*reno/u,
  });
});

/** What `ss` says of the one connection that matches. */
async function congestion({ netns }: TestPod, filter: readonly string[]): Promise<string | undefined> {
  const text = await eventually(
    `a connection ${filter.join(' ')}`,
    () => netns.exec('ss', '-tinOH', 'state', 'established', ...filter) || undefined,
  );
  return available.find((name) => text.includes(` ${name} `));
}
