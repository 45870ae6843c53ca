// Sockets that a ztunnel opens, as the kernel has them: mark, keep-alive and user timeout of the environment (facts: ztunnel 1).
import { readdirSync, readlinkSync } from 'node:fs';
import t from 'tap';
import { i32, SOL, TCP } from '#shared/os/layout.ts';
import { libc } from '#shared/os/syscalls.ts';
import { BACKENDS } from '#shared/reactor/create.ts';
import { nft } from '../../cni/rules/apply.ts';
import { ZTUNNEL_MARK } from '../../cni/rules/constants.ts';
import { DEFAULT_POD_RULES, podRules } from '../../cni/rules/pod.ts';
import { aWorkload } from '../fixtures/mesh.ts';
import { Endpoint } from '../harness/endpoint.ts';
import { eventually, MeshLab } from '../harness/mesh-lab.ts';
import type { TestPod } from '../harness/pod-net.ts';

t.setTimeout(60_000);

const web = aWorkload('web', { node: 'node-1', ips: ['10.1.0.1'] });
const cart = aWorkload('cart', { node: 'node-2', ips: ['10.1.0.3'] });
const ENV = {
  PACKET_MARK: '7',
  KEEPALIVE_TIME: '77m',
  KEEPALIVE_INTERVAL: '1m',
  KEEPALIVE_RETRIES: '2',
  USER_TIMEOUT_ENABLED: 'true',
};
const USER_TIMEOUT = 79 * 60_000;
/** Rules that let traffic with the mark of these ztunnels pass. */
const RULES = podRules({ ...DEFAULT_POD_RULES, dnsCapture: false }).replaceAll(ZTUNNEL_MARK, '0x7');

for (const backend of BACKENDS)
  t.test(backend, async (t) => {
    const lab = new MeshLab(t);
    for (const node of ['node-1', 'node-2']) await lab.node(node, { CULVERT_BACKEND: backend, ...ENV });
    await lab.apply(web, cart);
    const [client, server] = [await lab.captured(web), await lab.captured(cart)];
    for (const { netns } of [client, server]) await nft(netns.fd, RULES);
    const stranger = lab.net.pod('stranger', '10.1.0.9');
    for (const pod of [server, stranger]) await pod.serve((socket) => void socket.pipe(socket), 8080);
    for (const to of [server, stranger]) {
      const end = await Endpoint.open(client, { ip: to.ip, port: 8080 });
      end.socket.write('x');
      await end.untilBytes(1);
    }

    for (const [what, pod, to] of [
      ['a tunnel', client, '10.1.0.3:15008'],
      ['in the clear', client, '10.1.0.9:8080'],
      ['to the application', server, '10.1.0.3:8080'],
    ] as const) {
      const row = await eventually(`the socket ${what}`, () => marked(pod, to));
      t.match(row, /timer:\(keepalive,7[67]min/u, what);
      t.equal(userTimeout(row), USER_TIMEOUT, what);
    }
  });

/** What `ss` tells of the connection to `to` that has the mark; of applications' own there may be another. */
function marked({ netns }: TestPod, to: string): string | undefined {
  const rows = netns.exec('ss', '-tnoeH', 'state', 'established', 'dst', to).split('\n');
  const own = rows.find((row) => /\bfwmark:0x7\b/u.test(row));
  // Until what was sent is acknowledged, its own timer is shown.
  return own !== undefined && /timer:\(on,/u.test(own) ? undefined : own;
}

/** Of a socket of this process, where the lab's ztunnels live; ms. */
function userTimeout(row: string): number {
  const target = `socket:[${/\bino:(\d+)/u.exec(row)?.[1]}]`;
  const found = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === target;
    } catch {
      // The one that lists the folder is gone by now.
      return false;
    }
  });
  const value = Buffer.alloc(4);
  if (libc().getsockopt(Number(found), SOL.TCP, TCP.USER_TIMEOUT, value, i32(4)) !== 0) throw new Error(`no socket: ${row}`);
  return value.readInt32LE();
}
