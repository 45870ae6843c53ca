// Code of ours that throws in a callback: its connection ends with an error that says so, the peer sees a reset, and everything else goes on.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { MeshError } from '#shared/errors.ts';
import type { ByteStream, CloseReason, Reactor, StreamHandler } from '#shared/reactor/api.ts';
import { LOOPBACK, PAIRS, tcpPair } from './pairs.ts';
import { createGuard, Recorder } from './recorder.ts';

type Callback = 'onData' | 'onEnd' | 'onDrain' | 'onClose';
const FAULT = 'the test broke it';

export type FaultyFactory = (onFault: (error: MeshError) => void) => Reactor;

export function faultSuite(t: Test, create: FaultyFactory): void {
  const start = (t: Test): { reactor: Reactor; faults: MeshError[] } => {
    const faults: MeshError[] = [];
    const reactor = create((error) => faults.push(error));
    t.teardown(() => reactor.close());
    return { reactor, faults };
  };

  for (const [form, open] of Object.entries(PAIRS))
    for (const callback of ['onData', 'onEnd', 'onDrain', 'onClose'] as const)
      t.test(`${form}: a fault in ${callback} ends that connection only`, async (t) => {
        const { reactor, faults } = start(t);
        const [broken, sound] = [await open(reactor), await open(reactor)];
        const bystander = echoed(sound);
        const peer = new Recorder(broken.client, createGuard()).start();
        const faulty = new Faulty(callback);
        broken.server.start(faulty);
        await provoke(callback, peer, broken.server);
        await until(() => faults.length > 0);
        t.match(faults[0], { code: 'internal', message: new RegExp(`127\\.0\\.0\\.1:\\d+: .*${FAULT}`, 'u') });
        if (callback === 'onClose') await peer.closed;
        else {
          t.match(await faulty.closed.promise, { kind: 'error', error: { code: 'internal', message: new RegExp(FAULT, 'u') } });
          // In node:tls a reset that crosses the own end on its way is an end.
          t.match(await peer.closed, callback === 'onEnd' ? { kind: /reset|ended/u } : { kind: 'reset', remote: true });
        }
        await sleep(10);
        t.equal(faults.length, 1, 'told once');
        t.equal(faulty.after, 0, 'nothing is called after onClose');
        t.ok(await bystander(), 'the other connection is served');
      });

  t.test('a fault of the function that takes a connection ends that one, and the next is taken', async (t) => {
    const { reactor, faults } = start(t);
    const taken = Promise.withResolvers<ByteStream>();
    let calls = 0;
    const listener = await reactor.listen({ address: LOOPBACK }, (conn) => {
      if (++calls === 1) throw new Error(FAULT);
      taken.resolve(conn);
    });
    // The reset may come before the loop has seen that it is connected.
    const [refused] = await Promise.allSettled([reactor.connect({ to: listener.address })]);
    if (refused.status === 'rejected') t.match(refused.reason, { code: 'connect_failed', message: /ECONNRESET/u });
    else t.match(await new Recorder(refused.value, createGuard()).start().closed, { kind: 'reset', remote: true });
    const client = await reactor.connect({ to: listener.address });
    t.ok(await echoed({ client, server: await taken.promise })());
    t.match(faults, [{ code: 'internal', message: new RegExp(FAULT, 'u') }]);
  });

  t.test('a fault of a deferred task is told, and the tasks behind it run', async (t) => {
    const { reactor, faults } = start(t);
    const { client, server } = await tcpPair(reactor);
    const done = Promise.withResolvers<void>();
    reactor.defer(() => {
      throw new Error(FAULT);
    });
    reactor.defer(done.resolve);
    await done.promise;
    t.match(faults, [{ message: new RegExp(FAULT, 'u') }]);
    t.ok(await echoed({ client, server })());
  });
}

/** Makes the callback of the server's handler run. */
async function provoke(callback: Callback, peer: Recorder, server: ByteStream): Promise<void> {
  if (callback === 'onData') peer.call((stream) => stream.write(Buffer.from('x')));
  else if (callback === 'onEnd') peer.call((stream) => stream.end());
  else if (callback === 'onClose') peer.call((stream) => stream.reset());
  else {
    peer.call((stream) => stream.pause());
    while (server.write(Buffer.alloc(1 << 18)));
    await sleep(20);
    peer.call((stream) => stream.resume());
  }
}

/** Throws in one callback. */
class Faulty implements StreamHandler {
  readonly closed = Promise.withResolvers<CloseReason>();
  /** Calls behind onClose. */
  after = 0;
  readonly #callback: Callback;
  #over = false;

  constructor(callback: Callback) {
    this.#callback = callback;
  }

  onData(): void {
    this.#called('onData');
  }

  onEnd(): void {
    this.#called('onEnd');
  }

  onDrain(): void {
    this.#called('onDrain');
  }

  onClose(reason: CloseReason): void {
    this.closed.resolve(reason);
    this.#called('onClose');
    this.#over = true;
  }

  #called(callback: Callback): void {
    if (this.#over) this.after++;
    if (callback === this.#callback) throw new Error(FAULT);
  }
}

/** Starts both ends; the result tells whether a byte goes there and back. */
function echoed({ client, server }: { client: ByteStream; server: ByteStream }): () => Promise<boolean> {
  const guard = createGuard();
  const near = new Recorder(client, guard).start();
  const far = new Recorder(server, guard);
  far.onChunk = (chunk) => void far.stream.write(chunk);
  far.start();
  return async () => {
    near.call((stream) => stream.write(Buffer.from('!')));
    await until(() => near.bytes === 1);
    return guard.faults.length === 0;
  };
}

async function until(ready: () => boolean): Promise<void> {
  for (const end = performance.now() + 2000; !ready();) {
    if (performance.now() > end) throw new Error(`never: ${String(ready)}`);
    await sleep(2);
  }
}
