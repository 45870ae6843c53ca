// Client sockets of Node that live in another network namespace.
import { Socket } from 'node:net';
import type { HostPort } from '#shared/address.ts';
import { closeFd, openNetns } from '#shared/os/netns.ts';
import { clientTcp } from '#shared/os/socket-factory.ts';
import { netnsPath } from '../run.ts';

export interface DialOptions {
  netns: string;
  to: HostPort;
  /** Source address, which must not be one of the namespace's own. */
  from?: string | undefined;
}

/** A socket that is connecting: wait for its `connect` or `error`. */
export function dialIn({ netns, to, from }: DialOptions): Socket {
  const ns = openNetns(netnsPath(netns));
  try {
    const fd = clientTcp({ to, netns: ns, ...(from !== undefined && { from: { ip: from, port: 0 } }) });
    return new Socket({ fd, readable: true, writable: true }).connect({ host: to.ip, port: to.port });
  } finally {
    closeFd(ns);
  }
}
