// A connection on which nothing can happen costs nothing: whatever state it is in, the loop sleeps.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { ByteStream, StreamHandler } from '#shared/reactor/api.ts';
import { isAsleep } from '../../../harness/cpu.ts';
import { PAIRS, useReactor, type ReactorFactory } from './pairs.ts';

type Ends = { client: ByteStream; server: ByteStream };

/** Both ends are started, the server reads. */
const STATES: Record<string, (ends: Ends) => Promise<void>> = {
  silent: async () => undefined,
  async 'a reader that paused'({ client, server }) {
    server.pause();
    client.write(Buffer.alloc(1000));
  },
  async 'a writer that was stopped'({ client, server }) {
    server.pause();
    while (client.write(Buffer.alloc(65_536)));
  },
  async 'both stopped'({ client, server }) {
    for (const end of [client, server]) end.pause();
    for (const end of [client, server]) while (end.write(Buffer.alloc(65_536)));
  },
  async 'the peer has ended'({ client }) {
    client.end();
  },
  async 'the peer has ended, behind bytes that a paused reader has not taken'({ client, server }) {
    server.pause();
    client.write(Buffer.alloc(300_000));
    client.end();
  },
  async 'both have ended, one has not read it'({ client, server }) {
    server.pause();
    client.write(Buffer.alloc(300_000));
    client.end();
    server.end();
  },
  async 'reset while a reader is paused behind bytes'({ client, server }) {
    server.pause();
    client.write(Buffer.alloc(300_000));
    await sleep(20);
    client.reset();
  },
  async 'reset behind an end'({ client }) {
    client.end();
    await sleep(20);
    client.reset();
  },
  async 'reset behind the end of a paused reader'({ client, server }) {
    server.pause();
    server.end();
    client.write(Buffer.alloc(300_000));
    await sleep(20);
    client.reset();
  },
  async 'reset under a stopped writer'({ client, server }) {
    client.pause();
    while (server.write(Buffer.alloc(65_536)));
    server.pause();
    await sleep(20);
    client.reset();
  },
};

export function idleSuite(t: Test, create: ReactorFactory): void {
  for (const [form, open] of Object.entries(PAIRS))
    for (const [state, reach] of Object.entries(STATES))
      t.test(`${form}, ${state}`, async (t) => {
        const ends = await open(useReactor(t, create));
        for (const end of [ends.client, ends.server]) end.start(quiet());
        await reach(ends);
        await sleep(60);
        await isAsleep(t);
      });
}

function quiet(): StreamHandler {
  const nothing = (): void => undefined;
  return { onData: nothing, onEnd: nothing, onDrain: nothing, onClose: nothing };
}
