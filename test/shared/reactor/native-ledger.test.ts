// What a worker that was ended leaves behind: nobody but the main thread can close it, by the table that both have.
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { closeNoted } from '#shared/os/socket-factory.ts';
import { createReactor } from '#shared/reactor/create.ts';
import type { Conn, Detachable } from '#shared/reactor/api.ts';
import { threadLoop } from '#shared/reactor/native/loop.ts';
import { tcpPair, useReactor } from './suite/pairs.ts';

function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return [];
    }
  });
}

/** Ends a worker that has a connection; what it left of its own is returned. */
async function endWorker(t: Test, starts: boolean): Promise<string[]> {
  const ledger = new Uint8Array(new SharedArrayBuffer(4096));
  const before = new Set(descriptors());
  const worker = new Worker(new URL('../../fixtures/deaf-worker.ts', import.meta.url), { workerData: { ledger, starts } });
  const [port] = (await once(worker, 'message')) as [number];
  const peer = connect(port, '127.0.0.1');
  const told = new Promise<string>((resolve) => {
    peer.on('error', ({ message }) => resolve(message));
    peer.on('close', () => resolve('close'));
  });
  await once(worker, 'message');
  // An open connection that was not started is not watched any more when something has come.
  peer.write('hello?');
  await sleep(50);
  await worker.terminate();
  closeNoted(ledger);
  t.match(await Promise.race([told, sleep(1000, 'nothing')]), /ECONNRESET/u);
  await sleep(20);
  return descriptors().filter((descriptor) => !before.has(descriptor));
}

// Only what was watched was noted: the peer of a connection that nobody had started waited for ever.
for (const starts of [true, false])
  t.test(`a connection that was ${starts ? '' : 'not '}started is reset, and nothing stays`, async (t) => {
    t.strictSame(await endWorker(t, starts), []);
  });

t.test('what is closed or given away is nobody’s to close', async (t) => {
  const ledger = new Uint8Array(4096);
  const reactor = useReactor(t, () => createReactor({ backend: 'native', ledger }));
  t.teardown(() => threadLoop().noteIn(new Uint8Array(0)));
  const noted = (): number => ledger.reduce((sum, one) => sum + one, 0);
  const before = noted();
  const { client, server } = await tcpPair(reactor);
  t.equal(noted(), before + 2);
  const given = (client as Conn & Detachable).detach();
  t.equal(ledger[given.fd], 0);
  const again = reactor.adopt?.(given);
  t.equal(ledger[given.fd], 1);
  again?.reset();
  server.reset();
  await t.rejects(reactor.connect({ to: { ip: '127.0.0.1', port: 1 } }), { code: 'connect_failed' });
  t.equal(noted(), before);
});
