// Pods on one wire: network namespaces joined by a bridge in a namespace of its own, with the programs of a pod run in process on
// sockets that live in it.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import type { Test } from 'tap';
import type { HostPort } from '#shared/address.ts';
import { clientTcp, listenTcp } from '#shared/os/socket-factory.ts';
import type { TestNetns } from './netns.ts';
import { createNetns } from './netns.ts';

export interface PodNet {
  /** Where the wire is: a bridge `br0`, and what else a test puts there. */
  readonly fabric: TestNetns;
  /** A pod with the addresses (one IPv4, perhaps one IPv6), /16 and /64, reachable from all others. */
  pod(name: string, ...ips: string[]): TestPod;
}

export interface TestPod {
  readonly name: string;
  readonly ip: string;
  readonly netns: TestNetns;
  /** A server of the pod; `onSocket` gets half-open sockets. Resolves with its port. */
  serve(onSocket: (socket: Socket) => void, port?: number): Promise<number>;
  /** A connection of the pod's application, on its way; half-open allowed. */
  dial(to: HostPort): Socket;
  /** The same once it is open. */
  connect(to: HostPort): Promise<Socket>;
}

export function createPodNet(t: Pick<Test, 'teardown'>): PodNet {
  const fabric = createNetns(t, 'fabric');
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  ip('-n', fabric.name, 'link', 'add', 'br0', 'type', 'bridge');
  ip('-n', fabric.name, 'link', 'set', 'br0', 'up');
  return {
    fabric,
    pod(name, ...ips) {
      const netns = createNetns(t, name);
      const end = `v-${name}`.slice(0, 15);
      ip('-n', netns.name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', end, 'netns', fabric.name);
      ip('-n', fabric.name, 'link', 'set', end, 'master', 'br0', 'up');
      for (const address of ips) {
        const v6 = address.includes(':');
        ip('-n', netns.name, 'addr', 'add', `${address}/${v6 ? 64 : 16}`, 'dev', 'eth0', ...(v6 ? ['nodad'] : []));
      }
      ip('-n', netns.name, 'link', 'set', 'eth0', 'up');
      // Services have addresses outside of the pods' network: they need a way out of the pod.
      ip('-n', netns.name, 'route', 'add', 'default', 'dev', 'eth0');
      if (ips.some((address) => address.includes(':'))) ip('-n', netns.name, '-6', 'route', 'add', 'default', 'dev', 'eth0');
      return testPod(t, name, ips[0] ?? '', netns);
    },
  };
}

function testPod(t: Pick<Test, 'teardown'>, name: string, ip: string, netns: TestNetns): TestPod {
  const sockets = new Set<Socket>();
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
    return socket;
  };
  const dial = (to: HostPort): Socket =>
    keep(new Socket({ fd: clientTcp({ netns: netns.fd, to }), allowHalfOpen: true })).connect({ host: to.ip, port: to.port });
  return {
    name,
    ip,
    netns,
    dial,
    async serve(onSocket, port = 0) {
      const { fd, address } = listenTcp({ netns: netns.fd, address: { ip: '::', port } });
      const server = createServer({ allowHalfOpen: true }, (socket) => onSocket(keep(socket)));
      t.teardown(() => server.close());
      server.listen({ fd });
      await once(server, 'listening');
      return address.port;
    },
    async connect(to) {
      const socket = dial(to);
      await once(socket, 'connect');
      return socket;
    },
  };
}
