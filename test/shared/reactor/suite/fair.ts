// Connections share the thread: one that has much to read leaves it to the others after its part of a turn. Told in turns and octets, not
// in time.
import { closeSync } from 'node:fs';
import type { Test } from 'tap';
import { clientTcp, startConnect } from '#shared/os/socket-factory.ts';
import type { ByteStream, Reactor, StreamHandler } from '#shared/reactor/api.ts';
import { LOOPBACK, PAIRS, tcpPair, useReactor, type ReactorFactory } from './pairs.ts';

const BULK = 8;
/** What one connection may read in a turn, and one read more that it may begin within. */
const TURN = 256 * 1024 + 256 * 1024;

/** The most connections that a listener takes in a turn, and so many that wait. */
const ACCEPTS = 64;
const WAITING = 300;

/** `skipAccepts`: why the backend has no limit of accepts. */
export function fairSuite(t: Test, create: ReactorFactory, { skipAccepts }: { skipAccepts?: string } = {}): void {
  t.test(`of ${WAITING} connections that wait, ${ACCEPTS} are accepted in a turn`, { skip: skipAccepts ?? false }, async (t) => {
    const reactor = useReactor(t, create);
    const perTurn: number[] = [];
    let turn = -1;
    const all = Promise.withResolvers<void>();
    const listener = await reactor.listen({ address: LOOPBACK, backlog: WAITING }, () => {
      if (turn < 0) {
        turn = perTurn.push(0) - 1;
        reactor.defer(() => (turn = -1));
      }
      perTurn[turn] = (perTurn[turn] ?? 0) + 1;
      if (perTurn.reduce((sum, count) => sum + count, 0) === WAITING) all.resolve();
    });
    // Over loopback the kernel answers at once: all of them are in the queue before the loop turns again.
    const clients = Array.from({ length: WAITING }, () => {
      const fd = clientTcp({ to: listener.address });
      startConnect(fd, listener.address);
      return fd;
    });
    t.teardown(() => clients.forEach(closeSync));
    await all.promise;
    t.strictSame(
      perTurn.slice(0, -1),
      Array.from({ length: Math.floor(WAITING / ACCEPTS) }, () => ACCEPTS),
    );
    t.equal(perTurn.at(-1), WAITING % ACCEPTS);
  });

  for (const [how, space] of Object.entries({ 'large reads': undefined, 'reads of 16 KiB': new Uint8Array(16_384) }))
    t.test(`a byte that waits behind ${BULK} full connections is read in the same turn, ${how}`, async (t) => {
      const reactor = useReactor(t, create);
      const bulk = await Promise.all(Array.from({ length: BULK }, () => tcpPair(reactor)));
      const probe = await tcpPair(reactor);
      for (const { client } of bulk) while (client.write(Buffer.alloc(65_536)));
      probe.client.write(Buffer.from('!'));
      const read = bulk.map(() => 0);
      const before = new Promise<number[]>((resolve) => {
        for (const [i, { server, client }] of bulk.entries()) {
          client.start(quiet());
          server.start({
            ...quiet(),
            ...(space ? { buffer: () => space } : {}),
            onData: (chunk) => void (read[i] = (read[i] ?? 0) + chunk.length),
          });
        }
        probe.server.start({ ...quiet(), onData: () => resolve([...read]) });
      });
      const counts = await before;
      t.ok(
        counts.every((count) => count <= TURN),
        `read before it: ${counts.join(' ')}`,
      );
      for (let turns = 0; turns < 20; turns++) await turnOf(reactor);
      t.ok(
        read.every((count) => count > TURN),
        `there was more to read: ${read.join(' ')}`,
      );
    });

  for (const [form, open] of Object.entries(PAIRS))
    t.test(`${form}: an answer beside ${BULK} busy connections takes a few turns`, async (t) => {
      const reactor = useReactor(t, create);
      const bulk = await Promise.all(Array.from({ length: BULK }, () => open(reactor)));
      const probe = await open(reactor);
      let busy = true;
      const flood = (stream: ByteStream): void => {
        const chunk = Buffer.alloc(65_536);
        const go = (): void => {
          while (busy && stream.write(chunk));
        };
        stream.start({ ...quiet(), onDrain: go });
        go();
      };
      let received = 0;
      for (const { client, server } of bulk) {
        flood(client);
        server.start({ ...quiet(), onData: (chunk) => void (received += chunk.length) });
      }
      probe.server.start({ ...quiet(), onData: (chunk) => void probe.server.write(chunk) });
      let answered = Promise.withResolvers<void>();
      probe.client.start({ ...quiet(), onData: () => answered.resolve() });
      let turns = 0;
      const count = (): void => {
        turns++;
        if (busy) reactor.defer(count);
      };
      reactor.defer(count);
      for (let i = 0; i < 10; i++) await turnOf(reactor);
      const took: number[] = [];
      const moved: number[] = [];
      for (let i = 0; i < 50; i++) {
        answered = Promise.withResolvers<void>();
        const [at, bytes] = [turns, received];
        probe.client.write(Buffer.from('!'));
        await answered.promise;
        took.push(turns - at);
        moved.push(received - bytes);
      }
      busy = false;
      const longest = Math.max(...took);
      t.ok(longest <= 8, `at most ${longest} turns for an answer`);
      t.ok(Math.max(...moved) <= 8 * BULK * TURN, `at most ${Math.max(...moved)} octets of the others meanwhile`);
      t.ok(received > 1 << 20, `${received} octets of the others in all`);
    });
}

function turnOf(reactor: Reactor): Promise<void> {
  return new Promise((resolve) => reactor.defer(resolve));
}

function quiet(): StreamHandler {
  const nothing = (): void => undefined;
  return { onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing };
}
