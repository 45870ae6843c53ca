// Small servers and clients inside network namespaces. A server says who it is, where the connection was meant to go and where it
// came from, once for every line it gets.
import type { Test } from 'tap';
import { formatHostPort } from '../../shared/address.ts';
import type { HostPort } from '../../shared/address.ts';
import type { ConnectOptions, Conn, ListenOptions, Reactor } from '../../shared/reactor/api.ts';
import { createReactor } from '../../shared/reactor/create.ts';

export function makeReactor(t: Test): Reactor {
  const reactor = createReactor();
  t.teardown(() => reactor.close());
  return reactor;
}

/** Answers `NAME ORIGINAL-DESTINATION from PEER-IP`. */
export async function serve(
  reactor: Reactor,
  name: string,
  netns: number,
  port: number,
  more: Partial<ListenOptions> = {},
): Promise<void> {
  await reactor.listen({ netns, address: { ip: '::', port }, ...more }, (conn: Conn) => {
    const answer = Buffer.from(`${name} ${formatHostPort(conn.originalDestination())} from ${conn.remote.ip}`);
    conn.start({
      onData: () => void conn.write(answer),
      onEnd: () => conn.end(),
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  });
}

export interface Client {
  /** Sends a line and gives the answer; rejects when the connection has ended, or after two seconds. */
  ask(): Promise<string>;
  close(): void;
}

export async function connect(
  reactor: Reactor,
  netns: number,
  to: HostPort,
  more: Partial<ConnectOptions> = {},
): Promise<Client> {
  const conn = await reactor.connect({ netns, to, timeout: 2000, ...more });
  let waiting: PromiseWithResolvers<string> | undefined;
  let ended: string | undefined;
  conn.start({
    onData: (chunk) => waiting?.resolve(Buffer.from(chunk).toString()),
    onEnd: () => conn.end(),
    onDrain: () => undefined,
    onClose: (reason) => {
      ended = reason.kind;
      waiting?.reject(new Error(`connection ${reason.kind}`));
    },
  });
  return {
    async ask() {
      if (ended !== undefined) throw new Error(`connection ${ended}`);
      waiting = Promise.withResolvers();
      const { reject } = waiting;
      const timer = setTimeout(() => reject(new Error('no answer')), 2000);
      conn.write(Buffer.from('who?\n'));
      try {
        return await waiting.promise;
      } finally {
        clearTimeout(timer);
      }
    },
    close: () => conn.reset(),
  };
}

/** One question over a connection of its own. */
export async function askOnce(
  reactor: Reactor,
  netns: number,
  to: HostPort,
  more: Partial<ConnectOptions> = {},
): Promise<string> {
  const client = await connect(reactor, netns, to, more);
  try {
    return await client.ask();
  } finally {
    client.close();
  }
}
