// Random transfers over a connection: sizes, chunks, pauses and the order of the two ends all come from a seed, so that a failure can be
// repeated. Every byte counts, and so does how each direction ends.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

type Below = (limit: number) => number;

/** Every payload is a part of this. */
const POOL = randomBytes(8 << 20);
const DEADLINE = 20_000;

/** A way from a client to a server, used by one connection at a time, so that what is accepted is known. */
export interface Lane {
  connect(): Promise<Socket>;
  /** The next connection that the server gets. */
  accepted(): Promise<Socket>;
}

/**
 * Who ends first: the other one holds its own end back until it has seen that. `either`: each ends behind its own bytes, whatever the other
 * does. `together`: each ends once all of the other's bytes have come, so that the two ends cross and nothing is behind either. `answered`:
 * the client ends once all of the answer has come, the server behind that end.
 */
type First = 'client' | 'server' | 'either' | 'together' | 'answered';

export interface TransferOptions {
  /** Which orders may be chosen. */
  readonly orders?: readonly First[];
}

export const ORDERS: readonly First[] = ['client', 'server', 'either', 'together', 'answered'];

/** One connection both ways. Throws what is wrong with it; resolves when both ends have closed in order. */
export async function transfer(lane: Lane, below: Below, { orders = ORDERS }: TransferOptions = {}): Promise<void> {
  const first = orders[below(orders.length)] ?? 'either';
  const [up, down] = [payload(below), payload(below)];
  try {
    const accepting = lane.accepted();
    const client = await within(lane.connect(), 'connect');
    const server = await within(accepting, 'accept');
    const closes = [client, server].map((socket) => once(socket, 'close'));
    await within(
      Promise.all([
        exchange(client, { name: 'client', out: up, expected: down, waits: WAITS[first].client }, below),
        exchange(server, { name: 'server', out: down, expected: up, waits: WAITS[first].server }, below),
      ]),
      'transfer',
    );
    for (const [failed] of await within(Promise.all(closes), 'close')) if (failed) throw new Error('reset');
  } catch (thrown) {
    throw new Error(`${up.length} bytes up, ${down.length} down, ${first} ends first: ${String(thrown)}`, { cause: thrown });
  }
}

/** Runs `count` transfers over the lanes at once, seeds from `seed` on. */
export async function transfers(
  lanes: readonly Lane[],
  count: number,
  seed: number,
  options: TransferOptions & { random: (seed: number) => Below },
) {
  let next = 0;
  const run = async (lane: Lane): Promise<void> => {
    while (next < count) {
      const own = seed + next++;
      await transfer(lane, options.random(own), options).catch((thrown: unknown) => {
        throw new Error(`seed ${own}: ${String(thrown)}`, { cause: thrown });
      });
    }
  };
  await Promise.all(lanes.map(run));
}

/** Half of them small, the rest up to 2 MB. */
function payload(below: Below): Buffer {
  const most = [0, 1, 100, 20_000, 70_000, 300_000, 2_000_000][below(7)] ?? 0;
  const size = below(most + 1);
  return POOL.subarray(below(POOL.length - size), POOL.length).subarray(0, size);
}

interface Part {
  readonly name: string;
  readonly out: Buffer;
  readonly expected: Buffer;
  /** What of the other's its own end comes behind. */
  readonly waits: 'end' | 'bytes' | 'nothing';
}

const WAITS: Record<First, Record<'client' | 'server', Part['waits']>> = {
  client: { client: 'nothing', server: 'end' },
  server: { client: 'end', server: 'nothing' },
  either: { client: 'nothing', server: 'nothing' },
  together: { client: 'bytes', server: 'bytes' },
  answered: { client: 'bytes', server: 'end' },
};

async function exchange(socket: Socket, { name, out, expected, waits }: Part, below: Below): Promise<void> {
  const complete = Promise.withResolvers<void>();
  let seen = 0;
  const received = receive(socket, below, (length) => {
    seen = length;
    if (length >= expected.length) complete.resolve();
  });
  const mayEnd = { end: received, bytes: Promise.race([received, complete.promise]), nothing: Promise.resolve() }[waits];
  // Told by who awaits it; a sender that fails before does not.
  mayEnd.catch(() => undefined);
  await Promise.all([received, send(socket, out, below, mayEnd)]).catch((thrown: unknown) => {
    throw new Error(`the ${name}, ${seen} of ${expected.length} bytes received: ${String(thrown)}`, { cause: thrown });
  });
  const { length, digest } = await received;
  if (length !== expected.length) throw new Error(`${length} of ${expected.length} bytes arrived at the ${name}`);
  if (digest !== createHash('sha256').update(expected).digest('hex')) throw new Error(`other bytes arrived at the ${name}`);
}

async function send(socket: Socket, bytes: Buffer, below: Below, mayEnd: Promise<unknown>): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const chunk = bytes.subarray(at, at + 1 + below([20, 5000, 20_000, 300_000][below(4)] ?? 1));
    at += chunk.length;
    if (!socket.write(chunk)) await once(socket, 'drain');
    if (below(20) === 0) await sleep(below(4));
  }
  await mayEnd;
  socket.end();
}

async function receive(
  socket: Socket,
  below: Below,
  onBytes: (length: number) => void,
): Promise<{ length: number; digest: string }> {
  const hash = createHash('sha256');
  let length = 0;
  onBytes(length);
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    length += chunk.length;
    onBytes(length);
    if (below(30) === 0) await sleep(below(5));
  }
  return { length, digest: hash.digest('hex') };
}

async function within<T>(work: Promise<T>, what: string): Promise<T> {
  const late = new AbortController();
  const deadline = sleep(DEADLINE, undefined, { signal: late.signal }).then(() => {
    throw new Error(`${what}: not within ${DEADLINE} ms`);
  });
  deadline.catch(() => undefined);
  try {
    return await Promise.race([work, deadline]);
  } finally {
    late.abort();
  }
}
