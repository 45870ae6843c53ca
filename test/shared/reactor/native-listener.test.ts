// A listener whose accept(2) fails: it waits and tries again, and neither spins nor gives up.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { MeshError } from '#shared/errors.ts';
import { ERRNO, RLIMIT, RLIMIT_NOFILE } from '#shared/os/layout.ts';
import { errno, libc } from '#shared/os/syscalls.ts';
import type { Conn } from '#shared/reactor/api.ts';
import { createReactor } from '#shared/reactor/create.ts';
import { threadLoop } from '#shared/reactor/native/loop.ts';
import { LOOPBACK } from './suite/pairs.ts';

const ENOTSOCK = 88;
const PAUSE = 100;
const WATCHED = 5 * PAUSE;

type Accept = ReturnType<typeof libc>['accept4'];

/** Makes accept4(2) something else until heal(). */
function breakAccept(t: Test, fail: (accept: Accept) => Accept): { calls: number; code: number; heal(): void } {
  const calls = libc();
  const real = { ...calls };
  const broken = { calls: 0, code: 0, heal: () => void Object.assign(calls, real) };
  const failing = fail((...values) => real.accept4(...values));
  calls.accept4 = (...values) => {
    broken.calls += 1;
    const result = failing(...values);
    broken.code = errno();
    return result;
  };
  t.teardown(broken.heal);
  return broken;
}

const nothing = openSync('/dev/null', 'r');
t.teardown(() => closeSync(nothing));

const noSocket =
  (accept: Accept): Accept =>
  (_fd, ...rest) =>
    accept(nothing, ...rest);

/** The kernel refuses it as it does when all descriptors are taken, be it that one is given back for it. */
const noDescriptor =
  (accept: Accept): Accept =>
  (...values) => {
    const limit = Buffer.alloc(RLIMIT.size);
    libc().getrlimit(RLIMIT_NOFILE, limit);
    const none = Buffer.from(limit);
    none.writeBigUInt64LE(0n, RLIMIT.soft);
    libc().setrlimit(RLIMIT_NOFILE, none);
    try {
      return accept(...values);
    } finally {
      libc().setrlimit(RLIMIT_NOFILE, limit);
    }
  };

const WAYS: Record<string, { fail: (accept: Accept) => Accept; code?: number; faults?: RegExp }> = {
  'the kernel takes it for a fault': { fail: noSocket, code: ENOTSOCK },
  'no descriptor is left, not even the spare one': { fail: noDescriptor, code: ERRNO.EMFILE },
  'code of ours throws': {
    fail: () => () => {
      throw new Error('the test broke it');
    },
    faults: /^listen on 127\.0\.0\.1:\d+: the test broke it$/u,
  },
};

for (const [what, { fail, code, faults }] of Object.entries(WAYS))
  t.test(`accept(2) fails, ${what}: connections wait, and are taken when it is over`, async (t) => {
    const [told, shed]: [MeshError[], unknown[]] = [[], []];
    const reactor = createReactor({
      backend: 'native',
      onFault: (error) => void told.push(error),
      onShed: (address) => void shed.push(address),
    });
    t.teardown(() => reactor.close());
    const accepted = Promise.withResolvers<Conn>();
    const listener = await reactor.listen({ address: LOOPBACK }, accepted.resolve);
    const broken = breakAccept(t, fail);
    const client = await reactor.connect({ to: listener.address });
    const before = threadLoop().turns;
    await sleep(WATCHED);
    const tries = broken.calls;
    // At the limit of descriptors it tries with the spare one too.
    t.ok(tries >= 2 && tries <= 2 * (WATCHED / PAUSE + 1), `${tries} tries in ${WATCHED} ms`);
    t.ok(threadLoop().turns - before < 200, 'the thread sleeps between them');
    broken.heal();
    const server = await accepted.promise;
    t.strictSame(server.remote, client.local, 'the one that waited');
    t.strictSame(shed, [], 'none was refused');
    if (code !== undefined) t.equal(broken.code, code);
    t.equal(told.length > 0, faults !== undefined);
    if (faults) for (const { message } of told) t.match(message, faults);
  });

t.test('a listener that is closed while it waits stays closed', async (t) => {
  const reactor = createReactor({ backend: 'native' });
  t.teardown(() => reactor.close());
  const listener = await reactor.listen({ address: LOOPBACK }, () => t.fail('accepted'));
  const broken = breakAccept(t, noSocket);
  const client = await reactor.connect({ to: listener.address });
  while (broken.calls === 0) await sleep(1);
  listener.close();
  const tries = broken.calls;
  await sleep(2 * PAUSE);
  t.equal(broken.calls, tries);
  client.reset();
});
